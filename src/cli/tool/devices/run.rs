//! `nexuserofs run-vm`: QEMU on a snapshot, for a first look.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::arguments::{Monitor, RunVm, Transport};
use super::disk::{Disk, State};
use super::snapshot::Snapshot;
use super::{make, monitor, usable};
use crate::cli::exit::Exit;
use crate::cli::tool::error::Error;
use crate::cli::tool::report::Console;
use crate::store::{self, unique::Unique};

/// QEMU for guests like this machine.
pub(super) const QEMU: &str =
    if cfg!(target_arch = "aarch64") { "qemu-system-aarch64" } else { "qemu-system-x86_64" };

/// The console that `-nographic` shows.
const CONSOLE: &str = if cfg!(target_arch = "aarch64") { "console=ttyAMA0" } else { "console=ttyS0" };

/// The kernel's root, where nobody says otherwise: the first disk has the image.
const ROOT: &str = "root=/dev/vda rootfstype=erofs ro";

/// Boots, and waits for the guest's end.
pub(in crate::cli::tool) fn run_vm(asked: &RunVm, console: Console) -> Result<Exit, Error> {
    for file in [Some(&asked.kernel), asked.initrd.as_ref()].into_iter().flatten() {
        fs::File::open(file).map_err(|source| Error::Read { path: file.clone(), source })?;
    }
    let snapshot = Snapshot::find(&asked.which)?;
    let transport = asked.transport.unwrap_or_else(|| preferred(&snapshot));
    let place = Place::new()?;
    make(&snapshot, transport, place.path(), console)?;
    let offers = [snapshot.offer(transport, Some(place.path()))];
    let disks = usable(Monitor::Qemu, &offers)?;
    let status = match command(asked, disks).status() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Error::NoQemu { program: asked.qemu.clone() });
        }
        status => status.map_err(|source| Error::Read { path: asked.qemu.clone(), source })?,
    };
    Ok(if status.success() { Exit::Success } else { Exit::Fault })
}

/// What needs nothing to be made, and else what the kernel can mount by itself.
fn preferred(snapshot: &Snapshot) -> Transport {
    match snapshot.offer(Transport::VhostUser, None).state {
        State::Ready { .. } => Transport::VhostUser,
        State::Missing { .. } | State::Impossible { .. } => Transport::Merged,
    }
}

fn command(asked: &RunVm, disks: &[Disk]) -> Command {
    let mut command = Command::new(&asked.qemu);
    // The first accelerator that works.
    command.args(["-accel", "kvm", "-accel", "tcg", "-nodefaults", "-nographic", "-serial", "mon:stdio"]);
    if cfg!(target_arch = "aarch64") {
        command.args(["-machine", "virt"]);
    }
    // Whoever looks at one guest starts it again; QEMU has had two names for the option.
    let told = monitor::qemu::arguments(disks, asked.memory);
    command.args(told.iter().map(|argument| argument.replace("reconnect-ms=1000,", "")));
    command.arg("-no-reboot").arg("-kernel").arg(&asked.kernel);
    if let Some(initrd) = &asked.initrd {
        command.arg("-initrd").arg(initrd);
    }
    command.arg("-append").arg(command_line(asked)).args(&asked.rest);
    command
}

fn command_line(asked: &RunVm) -> String {
    let words = match (&asked.append, &asked.initrd) {
        (Some(words), _) => words.as_str(),
        (None, Some(_)) => "",
        (None, None) => ROOT,
    };
    format!("{CONSOLE} panic=-1 {words}").trim_end().to_owned()
}

/// A directory for what is made for one guest. It goes with it.
#[derive(Debug)]
struct Place(PathBuf);

impl Place {
    fn new() -> Result<Self, Error> {
        let parent = std::env::temp_dir();
        let unique = Unique::new().map_err(store::Error::io("name a directory in", &parent))?;
        let path = parent.join(format!("nexuserofs-vm-{unique}"));
        fs::create_dir(&path).map_err(store::Error::io("create", &path))?;
        Ok(Self(path))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // It lies where such things are cleared away anyhow.
        let _ = fs::remove_dir_all(&self.0);
    }
}
