//! `cargo xtask bench vhost`: disks behind vhost-user sockets, ours and qemu-storage-daemon's.
//!
//! * `image`: the bytes that all of them export.
//! * `contender`: who exports them, and how.
//! * `workload`: what is read, and how.
//! * `guest`: the same from inside a guest, beside QEMU's own disk.
//! * `report`: the section of docs/benchmarks.md.

mod contender;
mod guest;
mod image;
mod report;
mod workload;

use std::process::ExitCode;

use anyhow::Result;
use nexuserofs_integration::bed::{self, Profile};
use nexuserofs_integration::guest::init;
use nexuserofs_integration::guest::scenario::Machine;
use nexuserofs_integration::progress::Steps;
use nexuserofs_integration::vhost::storage_daemon::StorageDaemon;

use self::contender::Contender;
use self::image::Image;
use self::report::Report;
use self::workload::WORKLOADS;
use super::machine::Setting;
use super::{VhostArguments, page};
use crate::bars::{self, Bars};

pub(super) fn run(arguments: &VhostArguments) -> Result<ExitCode> {
    if init::is_inside() {
        return guest::inside(arguments.rounds);
    }
    let bars = Bars::new(10);
    let steps = Steps::new(&bars);
    let machine = Machine::prepare(Profile::Release, &steps)?;
    let daemon = steps.run("qemu-storage-daemon of Debian sid", || StorageDaemon::make(&machine.cache))?;
    bars::summary(&steps);
    drop(steps);
    drop(bars);
    let section = measure(&machine, &daemon, arguments.rounds)?.to_string();
    println!("{section}");
    if !arguments.print_only {
        page::put(bed::project(), &section)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn measure(machine: &Machine, daemon: &StorageDaemon, rounds: u32) -> Result<Report> {
    let directory = machine.directory("bench")?;
    let image = Image::make(&machine.programs, &directory)?;
    let mut contenders = contender::all(&machine.programs, daemon, &image, &directory)?;
    for _ in 0..rounds {
        for (number, workload) in WORKLOADS.iter().enumerate() {
            contenders.iter_mut().try_for_each(|contender| contender.measure(number, workload))?;
        }
        contenders.reverse();
    }
    if rounds % 2 == 1 {
        contenders.reverse();
    }
    contenders.iter_mut().try_for_each(Contender::weigh)?;
    let ours = contenders.iter().find(|contender| contender.is(contender::Role::OurLayers));
    let guest = ours.map(|ours| guest::measure(machine, &image, ours.socket(), rounds)).transpose()?;
    let versions = daemon.version()? + "\n" + &guest::qemu_version()?;
    Ok(Report {
        setting: Setting::on_machine(&directory, versions)?,
        rounds,
        image,
        contenders,
        guest: guest.unwrap_or_default(),
    })
}
