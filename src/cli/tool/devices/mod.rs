//! `nexuserofs devices` and `nexuserofs run-vm`: a snapshot as the disks of a virtual machine.
//!
//! * `snapshot`: what there is of a snapshot, as disks. `disk`: those, and the ways in which they reach a guest.
//! * `monitor`: what each monitor can open, and what it is told. `run`: QEMU, for a first look.

pub(super) mod arguments;
mod disk;
mod monitor;
mod run;
mod snapshot;

use serde::Serialize;

pub(super) use run::run_vm;

use self::arguments::{Devices, Monitor, Transport};
use self::disk::{Backing, Disk, Offer, State};
use self::snapshot::Snapshot;
use super::device::{self, Asked};
use super::error::Error;
use super::report::{self, Console, Line, Report};
use crate::cli::exit::Exit;

/// A way to give the snapshot to a guest, and who can use it.
#[derive(Debug, Serialize)]
struct Told {
    #[serde(flatten)]
    offer: Offer,
    monitors: Vec<Taker>,
}

/// A monitor, and why it cannot take these disks.
#[derive(Debug, Serialize)]
struct Taker {
    monitor: Monitor,
    usable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

/// Tells of the snapshot's disks.
pub(super) fn run(asked: &Devices, console: Console) -> Result<Exit, Error> {
    let snapshot = Snapshot::find(&asked.which)?;
    if let (Some(transport), Some(output)) = (asked.transport, &asked.output) {
        make(&snapshot, transport, output, console)?;
    }
    let made = asked.output.as_ref().map(|path| super::device::resolved(path)).transpose()?;
    let offers: Vec<Offer> = match asked.transport {
        Some(transport) => vec![snapshot.offer(transport, made.as_deref())],
        None => snapshot.offers(made.as_deref()),
    };
    match asked.format {
        Some(monitor) => report::print(&monitor::text(monitor, usable(monitor, &offers)?, asked.memory))?,
        None => {
            let mut report = Report::default();
            offers.into_iter().for_each(|offer| report.add(Told::of(offer)));
            report.print(console)?;
        }
    }
    Ok(Exit::Success)
}

/// The disks of the first of these ways that are there and that the monitor can take.
fn usable(monitor: Monitor, offers: &[Offer]) -> Result<&[Disk], Error> {
    let disks = |offer: &'_ Offer| monitor::obstacle(monitor, offer.transport).is_none();
    let found = offers.iter().filter(|offer| disks(offer)).find_map(Offer::disks);
    found.ok_or_else(|| {
        let obstacle = |offer: &Offer| format!("{}: {}", offer.transport.name(), obstacle(monitor, offer));
        let reasons = offers.iter().map(obstacle).collect::<Vec<_>>().join("; ");
        Error::NoDisks { monitor: monitor.name(), reasons }
    })
}

fn obstacle(monitor: Monitor, offer: &Offer) -> String {
    match (monitor::obstacle(monitor, offer.transport), &offer.state) {
        (Some(obstacle), _) => obstacle.to_owned(),
        (None, State::Missing { remedy }) => remedy.clone(),
        (None, State::Impossible { reason }) => reason.clone(),
        (None, State::Ready { .. }) => "it is there".to_owned(),
    }
}

/// Makes the disk of the layers together, if it is nowhere yet and this way has one.
fn make(
    snapshot: &Snapshot,
    transport: Transport,
    output: &std::path::Path,
    console: Console,
) -> Result<(), Error> {
    let Some(form) = snapshot::form(transport) else { return Ok(()) };
    if !matches!(snapshot.offer(transport, None).state, State::Missing { .. }) {
        return Ok(());
    }
    device::make(&Asked { form, output, layers: snapshot.layers() }, console).map(drop)
}

impl Told {
    fn of(offer: Offer) -> Self {
        let taker = |monitor| {
            let reason = monitor::obstacle(monitor, offer.transport);
            Taker { monitor, usable: reason.is_none(), reason }
        };
        Self { monitors: Monitor::ALL.map(taker).into(), offer }
    }
}

impl Line for Told {
    fn text(&self) -> String {
        let mut lines = vec![match &self.offer.state {
            State::Ready { .. } => format!("{}: ready", self.offer.transport.name()),
            State::Missing { remedy } => format!("{}: not there; {remedy}", self.offer.transport.name()),
            State::Impossible { reason } => format!("{}: impossible; {reason}", self.offer.transport.name()),
        }];
        if let Some(disks) = self.offer.disks() {
            lines.extend(disks.iter().map(disk_line));
            lines.push(format!("  in the guest: {}", self.offer.guest));
            lines.extend(self.monitors.iter().map(Taker::text));
        }
        lines.join("\n")
    }
}

impl Taker {
    fn text(&self) -> String {
        match self.reason {
            None => format!("  {}: yes", self.monitor.name()),
            Some(reason) => format!("  {}: no; {reason}", self.monitor.name()),
        }
    }
}

fn disk_line(disk: &Disk) -> String {
    let access = if disk.read_only { "ro" } else { "rw" };
    let (kind, path) = match &disk.backing {
        Backing::Raw(path) => ("raw", path),
        Backing::Vmdk(path) => ("vmdk", path),
        Backing::Socket(path) => ("socket", path),
    };
    format!("  {:<10} {access} {kind:<6} {}", disk.serial, path.display())
}
