//! From what a process is told to served disks.

use std::fs::File;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use rustix::fs::{FlockOperation, fcntl_lock};
use rustix::io::Errno;

use super::confinement::confine;
use super::specification::{self, Apart, Contents, Disk, Files, Specification, invalid};
use super::tally::Writer;
use super::{Error, hand_over};
use crate::expose::vhost_user::{self, Export, Part, Serial, Stop, Tree, TreePlace};
use crate::image::extent::ExtentMap;
use crate::telemetry;

/// How often the numbers are written, at most.
const INTERVAL: Duration = Duration::from_secs(1);

/// The end of one disk's export, which no one asked for.
type Ended = (String, Result<(), vhost_user::Error>);

/// Everything that serving needs. Nothing is opened any more.
#[derive(Debug)]
struct Ready {
    /// Locked. Closing it would give the lock up.
    lock: File,
    tally: Writer,
    disks: Vec<(String, Export, UnixListener)>,
}

/// Serves what the process at the other end of `parent` tells, until that process or another ends this one.
///
/// # Errors
/// If it cannot be served, or not any longer. The parent hears of the former.
pub fn serve_told(parent: UnixStream) -> Result<(), Error> {
    let (specification, files) = hand_over::receive(&parent)?;
    // Whoever started this process may have a log of its own.
    let _ = telemetry::start(specification.log);
    telemetry::log_panics();
    let ready = prepare(specification, files);
    let outcome = ready.as_ref().map(|_| ()).map_err(ToString::to_string);
    hand_over::answer(&parent, &outcome)?;
    drop(parent);
    serve(ready?)
}

/// Serves this until somebody ends the process.
///
/// # Errors
/// As [`serve_told`].
pub fn serve_here(specification: Specification, files: Files) -> Result<(), Error> {
    // Nobody else in this process has started one.
    let _ = telemetry::start(specification.log);
    telemetry::log_panics();
    serve(prepare(specification, files)?)
}

/// Makes the disks, and gives up everything else.
fn prepare(specification: Specification, mut files: Files) -> Result<Ready, Error> {
    let lock = File::from(files.take(specification.lock)?);
    take(&lock)?;
    let tally = File::from(files.take(specification.tally)?);
    let mut disks = Vec::new();
    for disk in &specification.disks {
        let listener = UnixListener::from(files.take(disk.listener)?);
        disks.push((disk.serial.clone(), export(disk, &mut files)?, listener));
    }
    drop(files);
    let counters = disks.iter().map(|(serial, export, _)| (serial.clone(), export.counters())).collect();
    confine(specification.identity)?;
    Ok(Ready { lock, tally: Writer::new(tally, counters), disks })
}

/// Locks the place. The kernel tells who has this lock, and takes it away when that process ends.
fn take(lock: &File) -> Result<(), Error> {
    match fcntl_lock(lock, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::AGAIN | Errno::ACCESS) => {
            Err(Error::Refused { reason: "another process serves the same disks".to_owned() })
        }
        locked => locked.map_err(|error| Error::HandOver(error.into())),
    }
}

fn export(disk: &Disk, files: &mut Files) -> Result<Export, Error> {
    let serial: Serial = disk.serial.parse().map_err(|error| invalid(&error))?;
    let contents = match &disk.contents {
        Contents::Block(file) => {
            vhost_user::Disk::block(File::from(files.take(file.slot)?), file.path.clone())?
        }
        Contents::Image { extents, files: named } => {
            let map: ExtentMap = specification::map(extents)?;
            let parts = named.iter().map(|file| part(file, files)).collect::<Result<Vec<_>, _>>()?;
            vhost_user::Disk::image(map, parts, vhost_user::log_damage)?
        }
    };
    let connected = File::from(files.take(disk.connected)?);
    Ok(Export::new(contents, serial, disk.queues)?.with_presence(connected))
}

fn part(file: &specification::File, files: &mut Files) -> Result<Part, Error> {
    let tree = file.tree.as_ref().map(|told| tree(told, files)).transpose()?;
    Ok(Part { file: File::from(files.take(file.slot)?), path: file.path.clone(), tree })
}

fn tree(told: &specification::Tree, files: &mut Files) -> Result<Tree, Error> {
    let parameters = told.verity.parameters().map_err(|error| invalid(&error))?;
    let place = match &told.apart {
        None => TreePlace::Behind,
        Some(Apart { slot, path }) => {
            TreePlace::Apart { file: File::from(files.take(*slot)?), path: path.clone() }
        }
    };
    Ok(Tree { parameters, place })
}

/// A thread for each disk, and this one for the numbers.
fn serve(ready: Ready) -> Result<(), Error> {
    let Ready { lock, mut tally, disks } = ready;
    let (ended, ends) = mpsc::channel();
    for (serial, export, listener) in disks {
        spawn(serial, export, listener, ended.clone())?;
    }
    let outcome = loop {
        if let Err(error) = tally.write() {
            tracing::warn!(%error, "the numbers of an export cannot be written");
        }
        match ends.recv_timeout(INTERVAL) {
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break Ok(()),
            Ok((serial, outcome)) => {
                let reason = outcome.err().map_or_else(|| "it stopped".to_owned(), |error| error.to_string());
                break Err(Error::Thread { serial, reason });
            }
        }
    };
    drop(lock);
    outcome
}

fn spawn(serial: String, export: Export, listener: UnixListener, ended: Sender<Ended>) -> Result<(), Error> {
    let stop = Stop::new()?;
    let name = serial.clone();
    let work = move || {
        let outcome = export.serve(listener, &stop);
        // Nobody listens only if the process is ending anyhow.
        let _ = ended.send((serial, outcome));
    };
    let spawned = thread::Builder::new().name(format!("export-{name}")).spawn(work);
    spawned.map(drop).map_err(|error| Error::Thread { serial: name, reason: error.to_string() })
}
