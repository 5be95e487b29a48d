//! The whole way of a program into the test host and back, for test programs and `cargo xtask` alike.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::cache::{Cache, remove_tree};
use crate::cargo::{self, Tests};
use crate::guest::image_init;
use crate::host::TestHost;
use crate::host::tools::Extra;
use crate::images::{Image, bench, demo, encodings, trees};
use crate::progress::{Silent, Steps};
use crate::stage::{self, Place, Stage, Visible};

pub use crate::cargo::Profile;

/// What is made on the machine before the program goes inside.
#[derive(Clone, Copy, Debug, Default)]
pub struct Needs {
    /// Our own programs, built this way, if they are needed.
    pub programs: Option<Profile>,
    /// The three large trees besides the small images.
    pub trees: bool,
    /// The layers of the benchmark.
    pub bench: bool,
    /// A kernel, QEMU and the program `nexuserofs-guest`, for [`image_init::Machine::inside`].
    pub guests: bool,
    /// Parts of the test host that only some tests use.
    pub extras: &'static [Extra],
    /// The project's own test programs that are run inside, by their names in `tests/`.
    pub tests: &'static [&'static str],
}

/// The test host from inside, with the images that were made.
#[derive(Clone, Debug)]
pub struct Bed {
    /// Where things lie.
    pub place: Place,
    /// The images.
    pub images: Images,
}

/// The images that were made.
#[derive(Clone, Debug)]
pub struct Images {
    /// The demo image.
    pub demo: Image,
    /// An image with one layer for each encoding.
    pub encodings: Image,
    /// The large trees, empty unless they were asked for.
    pub trees: Vec<Image>,
    /// The layers of the benchmark, if they were asked for.
    pub bench: Option<bench::Layers>,
}

/// Runs `inside` in the test host and returns its exit code.
///
/// The program calls this once, early in main: it comes back here in every stage. `summary` is told on the
/// machine which steps the preparation took.
///
/// # Errors
/// A part cannot be made, or `inside` fails.
pub fn run(
    needs: Needs,
    steps: &Steps<'_>,
    summary: impl FnOnce(&Steps<'_>),
    inside: impl FnOnce(Bed) -> Result<ExitCode>,
) -> Result<ExitCode> {
    match stage::current()? {
        Stage::Outside => {
            let cache = Cache::open()?;
            let host = TestHost::prepare(&cache, steps)?;
            images(&cache, needs, steps)?;
            let extras = extras(&cache, needs.extras, steps)?;
            let programs = needs
                .programs
                .map(|profile| steps.run("our programs", || cargo::build(profile)))
                .transpose()?;
            let guest_program = needs.guests.then(|| image_init::make(&cache, steps)).transpose()?;
            let scratch = Scratch::create(&cache)?;
            let own_tests = own_tests(needs.tests, &scratch, steps)?;
            summary(steps);
            let visible = Visible {
                programs: programs.as_deref(),
                own_tests: &own_tests,
                guest_program: guest_program.as_deref(),
                cache: cache.root(),
                project: project(),
                scratch: scratch.path(),
                extras: &extras,
            };
            stage::enter(&host, &visible)
        }
        Stage::Entering(entrance) => entrance.complete(),
        Stage::Inside(place) => {
            let images = images(&Cache::at(&place.cache)?, needs, &Steps::new(&Silent))?;
            inside(Bed { place, images })
        }
    }
}

/// The images, made where they are missing. Inside, all that are needed are in the cache.
fn images(cache: &Cache, needs: Needs, steps: &Steps<'_>) -> Result<Images> {
    Ok(Images {
        demo: steps.run("image demo", || demo::make(cache))?,
        encodings: steps.run("image encodings", || encodings::make(cache))?,
        trees: if needs.trees { trees::make(cache, steps)? } else { Vec::new() },
        bench: needs.bench.then(|| bench::make(cache, steps)).transpose()?,
    })
}

/// Parts of the test host that only some tests use, made where they are missing, with their directories.
fn extras(cache: &Cache, wanted: &[Extra], steps: &Steps<'_>) -> Result<Vec<(String, PathBuf)>> {
    let make = |extra: &Extra| {
        let directory = steps.run(extra.name(), || extra.make(cache))?;
        Ok((extra.name().to_owned(), directory))
    };
    wanted.iter().map(make).collect()
}

/// Builds test programs of the project, and puts them into a directory of their own.
fn own_tests(names: &[&'static str], scratch: &Scratch, steps: &Steps<'_>) -> Result<PathBuf> {
    let directory = scratch.path().join("own-tests");
    fs::create_dir(&directory).with_context(|| format!("make {}", directory.display()))?;
    for name in names {
        let what = format!("our own tests, {name}");
        let program = steps.run(&what, || cargo::test_program("nexuserofs", Tests::Named(name)))?;
        fs::copy(&program, directory.join(name)).with_context(|| format!("copy {}", program.display()))?;
    }
    Ok(directory)
}

/// The project's source tree.
#[must_use]
pub fn project() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// An empty directory on the machine's disk, removed when this value is dropped.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

/// What names of scratch directories begin with; the id of the process that uses it follows.
const SCRATCH: &str = "scratch-";

impl Scratch {
    pub(crate) fn create(cache: &Cache) -> Result<Self> {
        remove_abandoned(cache)?;
        let dir = cache.root().join(format!("{SCRATCH}{}", std::process::id()));
        fs::create_dir(&dir).with_context(|| format!("make {}", dir.display()))?;
        Ok(Self(dir))
    }

    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

/// Removes scratch directories whose process is dead, or had our id before us.
fn remove_abandoned(cache: &Cache) -> Result<()> {
    for entry in fs::read_dir(cache.root())? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(user) = name.to_str().and_then(|name| name.strip_prefix(SCRATCH)) else { continue };
        if user == std::process::id().to_string() || !Path::new("/proc").join(user).exists() {
            remove_tree(&entry.path())?;
        }
    }
    Ok(())
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = remove_tree(&self.0) {
            eprintln!("test bed: {error:#}");
        }
    }
}
