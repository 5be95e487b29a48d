//! As the first process of a guest whose root file system is the image's.

use std::ffi::CStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_move, unmount};
use rustix::process::{chdir, chroot};
use rustix::system::{RebootCommand, reboot};

use crate::arguments::Arguments;
use crate::failure::Failure;
use crate::inputs::Inputs;
use crate::modules;
use crate::run;

/// Where the kernel's modules are in the initramfs.
const MODULES: &str = "/modules";
/// Where the root file system is made.
const ROOT: &str = "/sysroot";
/// What runs in it if the kernel's command line does not say.
const PROGRAM: &str = "/sbin/init";

/// File systems of the kernel that every program expects: where, what, and with which flags and options.
const MOUNTS: [(&str, &str, MountFlags, &CStr); 4] = [
    ("/proc", "proc", MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC), c""),
    ("/sys", "sysfs", MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC), c""),
    ("/dev", "devtmpfs", MountFlags::NOSUID, c"mode=0755"),
    ("/run", "tmpfs", MountFlags::NOSUID.union(MountFlags::NODEV), c"mode=0755"),
];

/// Makes the root file system and goes on as a program in it. As the first process it never returns: what
/// fails is told on the console, and the guest is switched off.
pub(crate) fn init(arguments: &Arguments) -> Result<(), Failure> {
    let failure = match start(arguments) {
        Err(failure) => failure,
        Ok(never) => match never {},
    };
    if std::process::id() != 1 {
        return Err(failure);
    }
    failure.tell();
    rustix::fs::sync();
    reboot(RebootCommand::PowerOff).map_err(|error| failed("switch the guest off")(error.into()))
}

/// What has no value: after success another program runs.
enum Never {}

fn start(arguments: &Arguments) -> Result<Never, Failure> {
    for (path, kind, flags, options) in MOUNTS {
        file_system(path, kind, flags, options)?;
    }
    console()?;
    modules::load(Path::new(MODULES))?;
    let inputs = Inputs::read(arguments)?;
    fs::create_dir_all(ROOT).map_err(Failure::file("make", ROOT))?;
    run::mount(&inputs, arguments, Path::new(ROOT))?;
    let (program, words) = match inputs.command_line().command() {
        [program, words @ ..] => (program.as_str(), words),
        [] => (PROGRAM, &[][..]),
    };
    switch_root()?;
    let error = Command::new(program).args(words).exec();
    Err(failed(format!("run {program} in the new root"))(error))
}

/// Mounts one of the kernel's file systems, unless it is there.
fn file_system(path: &str, kind: &str, flags: MountFlags, options: &CStr) -> Result<(), Failure> {
    fs::create_dir_all(path).map_err(Failure::file("make", path))?;
    match mount(kind, path, kind, flags, options) {
        Ok(()) | Err(Errno::BUSY) => Ok(()),
        Err(error) => Err(failed(format!("mount {kind} on {path}"))(error.into())),
    }
}

/// Talks on the console from here on. Without one there is nobody to talk to.
fn console() -> Result<(), Failure> {
    let console = match OpenOptions::new().read(true).write(true).open("/dev/console") {
        Ok(console) => console,
        Err(_) => return Ok(()),
    };
    let all = |console: &File| -> io::Result<()> {
        rustix::stdio::dup2_stdin(console)?;
        rustix::stdio::dup2_stdout(console)?;
        Ok(rustix::stdio::dup2_stderr(console)?)
    };
    all(&console).map_err(failed("open the console"))
}

/// Moves the kernel's file systems into the new root, and goes there. What an image has no directory for is
/// taken away with the old root.
fn switch_root() -> Result<(), Failure> {
    for (path, ..) in MOUNTS {
        let inside = format!("{ROOT}{path}");
        let is_directory = fs::symlink_metadata(&inside).is_ok_and(|found| found.is_dir());
        let moved = match is_directory {
            true => mount_move(path, &inside),
            false => unmount(path, UnmountFlags::DETACH),
        };
        moved.map_err(|error| failed(format!("move {path} into the new root"))(error.into()))?;
    }
    chdir(ROOT)
        .and_then(|()| mount_move(".", "/"))
        .and_then(|()| chroot("."))
        .and_then(|()| chdir("/"))
        .map_err(|error| failed("switch to the new root")(error.into()))
}

fn failed(operation: impl Into<String>) -> impl FnOnce(io::Error) -> Failure {
    let operation = operation.into();
    move |source| Failure::Init { operation, source }
}
