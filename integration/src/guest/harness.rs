//! The main function of test programs that run in a guest.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use libtest_mimic::{Arguments, ColorSetting, Failed, Trial};

use super::disk::Disk;
use super::init::{self, Stage};
use super::qemu::{Boot, PROCESSORS};
use super::system::System;
use crate::bed::{Profile, Scratch};
use crate::cache::Cache;
use crate::cargo;
use crate::command::Run;
use crate::host::TestHost;
use crate::images::Image;
use crate::node::daemon;
use crate::progress::{Lines, Steps};
use crate::stage::Place;

/// A test that runs in the guest.
#[derive(Clone, Copy, Debug)]
pub struct Test {
    /// Its name.
    pub name: &'static str,
    /// The test, which is told where things lie in the guest.
    pub run: fn(&Place) -> Result<()>,
}

/// What a guest has.
#[derive(Clone, Copy, Debug)]
pub struct Needs {
    /// Our daemon, built this way, if it is needed.
    pub programs: Option<Profile>,
    /// Makes the tests' own disks, and fills the payload.
    pub disks: fn(&Workshop<'_>) -> Result<Vec<Disk>>,
    /// Memory in MiB.
    pub memory: u32,
    /// How many processors; the machine may have fewer.
    pub processors: u32,
    /// How long the boot with all its tests may take.
    pub deadline: Duration,
}

impl Default for Needs {
    fn default() -> Self {
        Self {
            programs: None,
            disks: |_| Ok(Vec::new()),
            memory: 2048,
            processors: PROCESSORS,
            deadline: Duration::from_secs(600),
        }
    }
}

/// What a test has at hand on the machine, before its guest boots.
#[derive(Clone, Copy, Debug)]
pub struct Workshop<'a> {
    /// The cache folder.
    pub cache: &'a Cache,
    /// The test host, whose root the guest has too.
    pub host: &'a TestHost,
    /// An empty directory for disks. Removed at the end.
    pub directory: &'a Path,
    /// What lies in here is there in the guest, read-only, as [`init::PAYLOAD`].
    pub payload: &'a Path,
    /// Shows what takes long.
    pub steps: &'a Steps<'a>,
}

/// The directory of images in the payload.
const IMAGES: &str = "images";

impl Workshop<'_> {
    /// Carries an image into the guest, where [`image`] finds it.
    ///
    /// # Errors
    /// It cannot be copied.
    pub fn carry(&self, image: &Image) -> Result<()> {
        let images = self.payload.join(IMAGES);
        fs::create_dir_all(&images)?;
        Run::new("cp").arg("-a").arg(&image.layout).arg(images.join(image.name)).run()
    }
}

/// An image that was carried into the guest.
#[must_use]
pub fn image(name: &'static str) -> Image {
    Image { name, layout: Path::new(init::PAYLOAD).join(IMAGES).join(name) }
}

/// The main function of a test program whose tests run in a guest. Understands the arguments of cargo's test
/// programs.
///
/// # Errors
/// A part of the guest cannot be made, or it does not end by itself.
pub fn main(needs: Needs, tests: &'static [Test]) -> Result<ExitCode> {
    if init::stage() == Stage::First {
        init::first_process();
    }
    let mut arguments = Arguments::from_args();
    if init::stage() == Stage::Inside {
        // The line to the machine is a terminal only for the guest.
        arguments.color = Some(ColorSetting::Never);
        let place = Arc::new(init::place());
        let trials = tests.iter().map(|test| trial(*test, Arc::clone(&place))).collect();
        return Ok(libtest_mimic::run(&arguments, trials).exit_code());
    }
    if arguments.list {
        let listed = tests.iter().map(|test| Trial::test(test.name, || Ok(()))).collect();
        return Ok(libtest_mimic::run(&arguments, listed).exit_code());
    }
    on_the_machine(needs)
}

fn trial(test: Test, place: Arc<Place>) -> Trial {
    Trial::test(test.name, move || (test.run)(&place).map_err(|error| Failed::from(format!("{error:#}"))))
}

fn on_the_machine(needs: Needs) -> Result<ExitCode> {
    let steps = Steps::new(&Lines);
    let cache = Cache::open()?;
    let host = TestHost::prepare(&cache, &steps)?;
    let system = System::make(&cache, &host, &steps)?;
    let scratch = Scratch::create(&cache)?;
    let (directory, payload) = (scratch.path(), scratch.path().join("payload"));
    fs::create_dir(&payload).with_context(|| format!("make {}", payload.display()))?;
    let workshop = Workshop { cache: &cache, host: &host, directory, payload: &payload, steps: &steps };
    let own = (needs.disks)(&workshop)?;
    carry_programs(&needs, &workshop)?;
    let disks: Vec<Disk> = system.disks(directory, &payload)?.into_iter().chain(own).collect();
    let initramfs = system.initramfs(&host, directory)?;
    let boot = Boot {
        root: Path::new("/"),
        kernel: &system.kernel.image,
        initramfs: &initramfs,
        parameters: init::PARAMETERS,
        disks: &disks,
        memory: needs.memory,
        processors: needs.processors,
        console: directory.join("console"),
        deadline: needs.deadline,
    };
    Ok(ExitCode::from(boot.run(relay)?))
}

/// This program, its arguments and our daemon.
fn carry_programs(needs: &Needs, workshop: &Workshop<'_>) -> Result<()> {
    let payload = workshop.payload;
    let copy = |from: PathBuf, to: &str| {
        fs::copy(&from, payload.join(to)).with_context(|| format!("copy {}", from.display())).map(drop)
    };
    copy(std::env::current_exe().context("find this program's own file")?, init::PROGRAM)?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    fs::write(payload.join(init::ARGUMENTS), serde_json::to_vec(&arguments)?)?;
    let Some(profile) = needs.programs else { return Ok(()) };
    let built = workshop.steps.run("our programs", || cargo::build(profile))?;
    fs::create_dir(payload.join("programs"))?;
    copy(built.join(daemon::PROGRAM), &format!("programs/{}", daemon::PROGRAM))
}

/// Shows a line of the guest where a test program on the machine would: what was skipped goes to standard error.
fn relay(line: &str) {
    if line.starts_with("SKIPPED ") { eprintln!("{line}") } else { println!("{line}") }
}
