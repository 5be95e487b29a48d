//! The first process of a guest: from an initramfs with nothing but itself into the test host.

use std::env;
use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use rustix::mount::{MountFlags, mount, mount_move};
use rustix::process::{chroot, getpid};
use rustix::system::{RebootCommand, finit_module, reboot};
use rustix::termios::tcdrain;

use super::qemu::EXIT;
use crate::command::Run;
use crate::stage::{self, Place};

/// What a test carried into the guest, read-only.
pub const PAYLOAD: &str = "/testbed/payload";

/// Set by the kernel, from its command line.
const VARIABLE: &str = "NEXUSEROFS_GUEST";
/// What sets it.
pub(super) const PARAMETERS: &str = "NEXUSEROFS_GUEST=1";
/// The variable's value in the program that runs tests.
const INSIDE: &str = "inside";

/// Serial numbers of the system's disks.
pub(super) const ROOT: &str = "root";
pub(super) const TOOLS: &str = "tools";
pub(super) const CARRIED: &str = "payload";
pub(super) const SCRATCH: &str = "scratch";

/// The directory of the modules in the initramfs.
pub(super) const MODULES: &str = "modules";
/// The program of the tests and its arguments, in the payload.
pub(super) const PROGRAM: &str = "program";
pub(super) const ARGUMENTS: &str = "arguments.json";

/// The second serial line.
const OUTPUT: &str = "/dev/ttyS1";

/// Told for a program that a signal ended.
const SIGNALLED: i32 = 255;

/// `MODULE_INIT_COMPRESSED_FILE` of `linux/module.h`.
const COMPRESSED: i32 = 4;

/// Where in a guest this process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Not in a guest.
    Machine,
    /// The first process.
    First,
    /// The program that runs tests.
    Inside,
}

pub(super) fn stage() -> Stage {
    match env::var(VARIABLE) {
        Err(_) => Stage::Machine,
        Ok(value) if value == INSIDE => Stage::Inside,
        Ok(_) if getpid().is_init() => Stage::First,
        Ok(_) => Stage::Machine,
    }
}

/// Becomes the guest's first process where that is what this program runs as, and never returns then. A program that is
/// carried into guests calls it before anything else.
pub fn become_first_process() {
    if stage() == Stage::First {
        first_process();
    }
}

/// Whether this is the program that runs in a guest, started by its first process.
#[must_use]
pub fn is_inside() -> bool {
    stage() == Stage::Inside
}

/// Where things lie inside.
pub(super) fn place() -> Place {
    Place::in_guest(Path::new("/testbed/tools"), Path::new(PAYLOAD), Path::new("/testbed/scratch"))
}

/// The block device with this serial number.
///
/// # Errors
/// There is none.
pub fn device(serial: &str) -> Result<PathBuf> {
    for entry in fs::read_dir("/sys/block").context("read /sys/block")? {
        let entry = entry?;
        let found = fs::read_to_string(entry.path().join("serial")).unwrap_or_default();
        if found.trim() == serial {
            return Ok(Path::new("/dev").join(entry.file_name()));
        }
    }
    anyhow::bail!("the guest has no disk with the serial number {serial}")
}

/// The kernel's messages.
///
/// # Errors
/// dmesg fails.
pub fn kernel_log() -> Result<String> {
    Run::new("dmesg").output()
}

/// Runs the tests' program inside, tells its exit code, and powers the guest off. Never returns.
pub(super) fn first_process() -> ! {
    let told = match run() {
        Ok(code) => code,
        Err(error) => {
            say(&format!("guest: {error:#}\n"));
            1
        }
    };
    say(&format!("{EXIT}{told}\n"));
    loop {
        // Only a lack of rights could make it return, and the first process has them all.
        let _ = reboot(RebootCommand::PowerOff);
    }
}

/// Writes to the line that the machine reads, and waits until it is there.
fn say(text: &str) {
    if let Ok(mut line) = OpenOptions::new().write(true).open(OUTPUT) {
        let _ = line.write_all(text.as_bytes());
        let _ = tcdrain(line.as_fd());
    }
}

fn run() -> Result<i32> {
    fs::create_dir_all("/proc").and_then(|()| fs::create_dir_all("/sys"))?;
    attach("devtmpfs", Path::new("/dev"), "devtmpfs", "")?;
    attach("sysfs", Path::new("/sys"), "sysfs", "")?;
    load_modules()?;
    let root = root()?;
    system_directories(&root)?;
    env::set_current_dir(&root)?;
    mount_move(".", "/").context("move the root into its place")?;
    chroot(".").context("change the root")?;
    env::set_current_dir("/")?;
    stage::network_files(Path::new("/"))?;
    run_tests()
}

fn load_modules() -> Result<()> {
    let mut modules: Vec<PathBuf> =
        fs::read_dir(Path::new("/").join(MODULES))?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    // Their names are their order.
    modules.sort();
    for module in modules {
        let file = File::open(&module)?;
        let is_plain = module.extension().is_some_and(|extension| extension == "ko");
        finit_module(file, c"", if is_plain { 0 } else { COMPRESSED })
            .with_context(|| format!("load the module {}", module.display()))?;
    }
    Ok(())
}

/// An overlay on the test host's disk, with the other disks in it.
fn root() -> Result<PathBuf> {
    let (lower, layer, root) = (Path::new("/lower"), Path::new("/layer"), PathBuf::from("/root"));
    attach_disk(ROOT, lower, MountFlags::RDONLY, "")?;
    attach("tmpfs", layer, "tmpfs", "")?;
    fs::create_dir_all("/layer/upper").and_then(|()| fs::create_dir_all("/layer/work"))?;
    attach("overlay", &root, "overlay", "lowerdir=/lower,upperdir=/layer/upper,workdir=/layer/work")?;
    attach_disk(TOOLS, &root.join("testbed/tools"), MountFlags::RDONLY, "")?;
    attach_disk(CARRIED, &root.join("testbed/payload"), MountFlags::RDONLY, "")?;
    attach_disk(SCRATCH, &root.join("testbed/scratch"), MountFlags::empty(), "prjquota")?;
    Ok(root)
}

fn system_directories(root: &Path) -> Result<()> {
    attach("proc", &root.join("proc"), "proc", "")?;
    attach("sysfs", &root.join("sys"), "sysfs", "")?;
    attach("cgroup2", &root.join("sys/fs/cgroup"), "cgroup2", "")?;
    attach("devtmpfs", &root.join("dev"), "devtmpfs", "")?;
    attach("devpts", &root.join("dev/pts"), "devpts", "")?;
    for dir in ["dev/shm", "run", "tmp"] {
        attach("tmpfs", &root.join(dir), "tmpfs", "")?;
    }
    Ok(())
}

fn attach_disk(serial: &str, target: &Path, flags: MountFlags, options: &str) -> Result<()> {
    mount_on(&device(serial)?, target, "ext4", flags, options)
}

fn attach(source: &str, target: &Path, fstype: &str, options: &str) -> Result<()> {
    mount_on(Path::new(source), target, fstype, MountFlags::empty(), options)
}

fn mount_on(source: &Path, target: &Path, fstype: &str, flags: MountFlags, options: &str) -> Result<()> {
    fs::create_dir_all(target).with_context(|| format!("make {}", target.display()))?;
    mount(source, target, fstype, flags, CString::new(options)?.as_c_str())
        .with_context(|| format!("mount {} on {}", source.display(), target.display()))
}

fn run_tests() -> Result<i32> {
    let payload = Path::new(PAYLOAD);
    let arguments: Vec<String> = serde_json::from_slice(&fs::read(payload.join(ARGUMENTS))?)?;
    let line = OpenOptions::new().write(true).open(OUTPUT)?;
    let run = |program: &str| Run::new(program).env("PATH", stage::PATH);
    run("ip").args(["link", "set", "lo", "up"]).run()?;
    // containerd waits for the names in /dev/mapper, which are udev's.
    run("/usr/lib/systemd/systemd-udevd").arg("--daemon").run()?;
    let child = Command::new(payload.join(PROGRAM))
        .args(arguments)
        .env_clear()
        .env(VARIABLE, INSIDE)
        .env("PATH", stage::PATH)
        .env("HOME", "/root")
        .env("TMPDIR", "/tmp")
        .env("RUST_BACKTRACE", "1")
        .stdin(Stdio::null())
        .stdout(line.try_clone()?)
        .stderr(line)
        .spawn()
        .context("run the tests' program")?;
    Ok(stage::collect_until(child.id())?.unwrap_or(SIGNALLED))
}
