//! One boot of a guest, from its start to its end.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::disk::{Bus, Disk};

/// What the guest's first process writes at its end, before the exit code of what it ran.
pub(super) const EXIT: &str = "GUEST-EXIT ";

/// Processors of a guest that needs no other number.
pub(super) const PROCESSORS: u32 = 2;

/// How often a guest is booted whose kernel dies before any program of the guest's runs. On a busy machine emulated timers and
/// processors let kernels die in ways that no test is about.
const BOOTS: u32 = 3;

/// How often a running guest is looked at.
const PAUSE: Duration = Duration::from_millis(50);

/// How much of the console an error shows, in bytes from the end.
const SHOWN_CONSOLE: usize = 6000;

/// A guest that is about to be booted.
#[derive(Clone, Debug)]
pub struct Boot<'a> {
    /// The root directory of the system that has QEMU: `/` on the machine, [`crate::stage::Place::machine`] in the
    /// test host. All paths are the same in it.
    pub root: &'a Path,
    /// The kernel.
    pub kernel: &'a Path,
    /// The archive with the first process.
    pub initramfs: &'a Path,
    /// What the kernel is told besides.
    pub parameters: &'a str,
    /// Its disks. There is no other device but two serial lines.
    pub disks: &'a [Disk],
    /// Memory in MiB.
    pub memory: u32,
    /// How many processors are emulated; the machine may have fewer.
    pub processors: u32,
    /// Where the kernel's messages go.
    pub console: PathBuf,
    /// How long it may take, in all.
    pub deadline: Duration,
}

/// What becomes of a guest after a line that it printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It goes on.
    GoOn,
    /// It is killed, with everything that it has not given to a disk.
    CutPower,
}

/// How a guest ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By itself, with the exit code that it told.
    Off(Option<u8>),
    /// Its power was cut.
    PowerCut,
}

impl Boot<'_> {
    /// Boots the guest, gives each line that it prints to `relay`, and returns its exit code when it has powered
    /// itself off.
    ///
    /// # Errors
    /// As [`Boot::run_to_end`], and if the guest ends without an exit code. The error has the end of the console.
    pub fn run(&self, relay: impl Fn(&str) + Send) -> Result<u8> {
        let code = self.run_to_end(relay)?;
        code.with_context(|| format!("the guest ended without a result\nconsole:\n{}", self.end_of_console()))
    }

    /// The same for a guest that may power itself off without an exit code.
    ///
    /// # Errors
    /// QEMU cannot be started, or fails; the guest does not end before the deadline.
    pub fn run_to_end(&self, relay: impl Fn(&str) + Send) -> Result<Option<u8>> {
        let watch = move |line: &str| {
            relay(line);
            Next::GoOn
        };
        match self.run_watched(&[], watch)? {
            End::Off(code) => Ok(code),
            End::PowerCut => Ok(None),
        }
    }

    /// Boots the guest with disks behind vhost-user sockets besides, to which QEMU connects again whenever their
    /// exporter went away. `watch` is asked after each line that the guest prints.
    ///
    /// # Errors
    /// As [`Boot::run_to_end`].
    pub fn run_watched(&self, exports: &[PathBuf], watch: impl Fn(&str) -> Next + Send) -> Result<End> {
        let has_spoken = AtomicBool::new(false);
        let speaks = &has_spoken;
        let mut watch = move |line: &str| {
            speaks.store(true, Ordering::Release);
            watch(line)
        };
        let mut booted = 1;
        loop {
            let end = self.run_once(exports, &mut watch)?;
            let was_silent = end == End::Off(None) && !has_spoken.load(Ordering::Acquire);
            if booted == BOOTS || !was_silent || !died_before_programs(&self.end_of_console()) {
                return Ok(end);
            }
            booted += 1;
            eprintln!("the guest's kernel died before any program ran, and is booted again");
        }
    }

    fn run_once(&self, exports: &[PathBuf], watch: &mut (impl FnMut(&str) -> Next + Send)) -> Result<End> {
        let mut guest = Running(self.command(exports)?.spawn().context("start qemu-system-x86_64")?);
        let output = guest.0.stdout.take().context("QEMU has no output")?;
        let mut errors = guest.0.stderr.take().context("QEMU has no standard error")?;
        let cut = AtomicBool::new(false);
        let cutting = &cut;
        let relay = move |line: &str| {
            if watch(line) == Next::CutPower {
                cutting.store(true, Ordering::Release);
            }
        };
        let (in_time, code) = thread::scope(|scope| {
            let code = scope.spawn(|| read(output, relay));
            let in_time = guest.wait(self.deadline, &cut)?;
            anyhow::Ok((in_time, code.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?))
        })?;
        let mut said = String::new();
        errors.read_to_string(&mut said).context("read QEMU's standard error")?;
        let console = || self.end_of_console();
        ensure!(in_time, "the guest did not end in time\nQEMU: {}\nconsole:\n{}", said.trim(), console());
        if cut.into_inner() {
            return Ok(End::PowerCut);
        }
        ensure!(code.is_some() || said.trim().is_empty(), "QEMU: {}\nconsole:\n{}", said.trim(), console());
        Ok(End::Off(code))
    }

    fn command(&self, exports: &[PathBuf]) -> Result<Command> {
        // It ends with this program, also if that is killed.
        let mut qemu = Command::new("setpriv");
        qemu.args(["--pdeathsig", "KILL", "--", "chroot"]).arg(self.root).arg("qemu-system-x86_64");
        // Emulation, always: where there is a /dev/kvm, it may not run a whole kernel.
        qemu.args(["-accel", "tcg,thread=multi", "-machine", "q35", "-cpu", "max"]);
        qemu.args(["-smp", &self.processors.to_string()]);
        qemu.args(["-m", &self.memory.to_string()]);
        qemu.args(["-nodefaults", "-display", "none", "-no-reboot"]);
        qemu.arg("-kernel").arg(self.kernel).arg("-initrd").arg(self.initramfs);
        // On a busy machine an emulated timer may tick too late for the kernel's check of it.
        let parameters =
            format!("console=ttyS0 quiet loglevel=6 panic=-1 no_timer_check {}", self.parameters);
        qemu.args(["-append", parameters.trim_end()]);
        // The first serial line is the kernel's console, the second carries what the program prints.
        let console = self.console.to_str().context("the console's path is not UTF-8")?;
        qemu.args(["-serial", &format!("file:{console}"), "-serial", "stdio"]);
        if self.disks.iter().any(|disk| disk.bus == Bus::Scsi) {
            qemu.args(["-device", "virtio-scsi-pci"]);
        }
        for (number, disk) in self.disks.iter().enumerate() {
            qemu.args(disk.arguments(number)?);
        }
        if !exports.is_empty() {
            // An exporter reads and writes the guest's memory.
            let memory = format!("memory-backend-memfd,id=memory,size={}M,share=on", self.memory);
            qemu.args(["-object", &memory, "-machine", "memory-backend=memory"]);
        }
        for (number, socket) in exports.iter().enumerate() {
            let socket = socket.to_str().context("a socket's path is not UTF-8")?.replace(',', ",,");
            qemu.args(["-chardev", &format!("socket,id=export{number},path={socket},reconnect=1")]);
            qemu.args(["-device", &format!("vhost-user-blk-pci,chardev=export{number}")]);
        }
        qemu.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(qemu)
    }

    fn end_of_console(&self) -> String {
        let console = fs::read(&self.console).unwrap_or_default();
        let start = console.len().saturating_sub(SHOWN_CONSOLE);
        String::from_utf8_lossy(console.get(start..).unwrap_or_default()).into_owned()
    }
}

/// Whether a kernel says that it died, and not because its first program ended.
fn died_before_programs(console: &str) -> bool {
    console.contains("Kernel panic") && !console.contains("Attempted to kill init")
}

/// A running QEMU, ended when this is dropped.
struct Running(Child);

impl Running {
    /// Whether it ended before the deadline, by itself or because its power was cut. Afterwards it does not run any
    /// more.
    fn wait(&mut self, deadline: Duration, cut: &AtomicBool) -> Result<bool> {
        let ended = self.ends_before(deadline, cut);
        if !matches!(ended, Ok(true)) {
            self.0.kill().and_then(|()| self.0.wait()).context("end QEMU")?;
        }
        ended
    }

    fn ends_before(&mut self, deadline: Duration, cut: &AtomicBool) -> Result<bool> {
        let begun = Instant::now();
        while begun.elapsed() < deadline {
            if cut.load(Ordering::Acquire) {
                self.0.kill().context("cut the guest's power")?;
            }
            if self.0.try_wait().context("wait for QEMU")?.is_some() {
                return Ok(true);
            }
            thread::sleep(PAUSE);
        }
        Ok(false)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It is over already, unless an error left this early.
        let _ = self.0.kill().and_then(|()| self.0.wait());
    }
}

/// Relays the guest's lines up to the one with the exit code, which is returned.
fn read(output: impl Read, mut relay: impl FnMut(&str)) -> Result<Option<u8>> {
    let mut code = None;
    for line in BufReader::new(output).split(b'\n') {
        let line = line.context("read what the guest prints")?;
        // A terminal's line ends with a carriage return too.
        let line = String::from_utf8_lossy(&line);
        let line = line.trim_end_matches('\r');
        match line.strip_prefix(EXIT) {
            Some(said) => code = said.trim().parse().ok(),
            None => relay(line),
        }
    }
    Ok(code)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn only_a_kernel_that_ran_no_program_is_booted_again() {
        assert!(died_before_programs("Oops: int3\nKernel panic - not syncing: Fatal exception in interrupt"));
        assert!(!died_before_programs(
            "Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000300"
        ));
        assert!(!died_before_programs("reboot: Power down"));
    }

    #[test]
    fn lines_are_relayed_and_the_exit_code_is_taken_out() {
        let lines = RefCell::new(Vec::new());
        let output = b"test a ... ok\r\n\r\nGUEST-EXIT 101\r\n".as_slice();
        let code = read(output, |line| lines.borrow_mut().push(line.to_owned())).unwrap();
        assert_eq!((code, lines.into_inner()), (Some(101), vec!["test a ... ok".to_owned(), String::new()]));
        assert_eq!(read(b"test a ... ok".as_slice(), |_| {}).unwrap(), None);
    }
}
