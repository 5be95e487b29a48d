//! Tests with one part on the machine and one in a guest, which has a boot of its own: for what the machine does
//! while the guest runs, and what it finds afterwards.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use libtest_mimic::{Arguments, Failed, Trial};

use super::disk::Disk;
use super::init;
use super::qemu::{Boot, End, Next, PROCESSORS};
use super::system::System;
use crate::bed::{Profile, Scratch};
use crate::cache::Cache;
use crate::cargo;
use crate::host::TestHost;
use crate::progress::{Lines, Steps};
use crate::stage::Place;

/// A test.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// The part on the machine, which boots the guest.
    pub on_machine: fn(&Machine) -> Result<()>,
    /// The part in the guest.
    pub inside: fn(&Place) -> Result<()>,
}

/// What is the same for all scenarios of a program.
#[derive(Debug)]
pub struct Machine {
    system: System,
    host: TestHost,
    scratch: Scratch,
    /// The cache folder.
    pub cache: Cache,
    /// Where cargo put the project's programs.
    pub programs: PathBuf,
}

/// One guest of a scenario.
#[derive(Clone, Copy, Debug)]
pub struct Guest<'a> {
    /// An empty directory for its own files, removed when it has ended.
    pub directory: &'a Path,
    /// What this program is told inside.
    pub arguments: &'a [&'a str],
    /// Its disks besides the system's.
    pub disks: &'a [Disk],
    /// Sockets of exporters, whose disks it has too.
    pub exports: &'a [PathBuf],
    /// Memory in MiB.
    pub memory: u32,
    /// How long it may take.
    pub deadline: Duration,
}

/// The main function of a test program that is made of scenarios. Understands the arguments of cargo's test programs.
///
/// # Errors
/// A part of the guest cannot be made.
pub fn main(profile: Profile, scenarios: &'static [Scenario]) -> Result<ExitCode> {
    init::become_first_process();
    if init::is_inside() {
        return inside(scenarios);
    }
    let arguments = Arguments::from_args();
    let machine =
        if arguments.list { None } else { Some(Arc::new(Machine::prepare(profile, &Steps::new(&Lines))?)) };
    let trial = |scenario: &'static Scenario| {
        let machine = machine.clone();
        Trial::test(scenario.name, move || match machine {
            Some(machine) => {
                (scenario.on_machine)(&machine).map_err(|error| Failed::from(format!("{error:#}")))
            }
            None => Ok(()),
        })
    };
    Ok(libtest_mimic::run(&arguments, scenarios.iter().map(trial).collect()).exit_code())
}

fn inside(scenarios: &[Scenario]) -> Result<ExitCode> {
    let name = std::env::args().nth(1).context("the guest was not told its part")?;
    let scenario = scenarios.iter().find(|scenario| scenario.name == name);
    (scenario.with_context(|| format!("there is no {name}"))?.inside)(&init::place())?;
    Ok(ExitCode::SUCCESS)
}

impl Machine {
    /// Makes what the cache has not, and builds our programs.
    ///
    /// # Errors
    /// A part cannot be made.
    pub fn prepare(profile: Profile, steps: &Steps<'_>) -> Result<Self> {
        let cache = Cache::open()?;
        let host = TestHost::prepare(&cache, steps)?;
        let system = System::make(&cache, &host, steps)?;
        let programs = steps.run("our programs", || cargo::build(profile))?;
        Ok(Self { system, host, scratch: Scratch::create(&cache)?, cache, programs })
    }

    /// A directory of this name, removed at the end.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn directory(&self, name: &str) -> Result<PathBuf> {
        let directory = self.scratch.path().join(name);
        fs::create_dir_all(&directory).with_context(|| format!("make {}", directory.display()))?;
        Ok(directory)
    }

    /// Boots a guest with this program in it. `watch` is asked after each line that it prints.
    ///
    /// # Errors
    /// The program fails there, or the guest does not end before its deadline. The error has what it printed.
    pub fn boot(&self, guest: Guest<'_>, watch: impl Fn(&str) -> Next + Send) -> Result<End> {
        let directory = guest.directory.join("guest");
        let payload = directory.join("payload");
        fs::create_dir_all(&payload).with_context(|| format!("make {}", payload.display()))?;
        carry(&payload, guest.arguments)?;
        let mut disks = self.system.disks(&directory, &payload)?;
        disks.extend_from_slice(guest.disks);
        let boot = Boot {
            root: Path::new("/"),
            kernel: &self.system.kernel.image,
            initramfs: &self.system.initramfs(&self.host, &directory)?,
            parameters: init::PARAMETERS,
            disks: &disks,
            memory: guest.memory,
            processors: PROCESSORS,
            console: directory.join("console"),
            deadline: guest.deadline,
        };
        let printed = Mutex::new(String::new());
        let kept = &printed;
        let keep = move |line: &str| {
            let mut printed = kept.lock().unwrap_or_else(PoisonError::into_inner);
            printed.push_str(line);
            printed.push('\n');
            watch(line)
        };
        let end = boot.run_watched(guest.exports, keep)?;
        let printed = printed.into_inner().unwrap_or_else(PoisonError::into_inner);
        ensure!(matches!(end, End::PowerCut | End::Off(Some(0))), "in the guest: {}", printed.trim());
        fs::remove_dir_all(&directory)?;
        Ok(end)
    }
}

/// This program, and its arguments.
fn carry(payload: &Path, arguments: &[&str]) -> Result<()> {
    let program = std::env::current_exe().context("find this program's own file")?;
    fs::copy(&program, payload.join(init::PROGRAM)).with_context(|| format!("copy {}", program.display()))?;
    Ok(fs::write(payload.join(init::ARGUMENTS), serde_json::to_vec(arguments)?)?)
}
