//! A second Debian on the machine, as a directory: current containerd tools without touching the machine's own.
//!
//! Debian 12's erofs-utils, runc and containerd are too old, and newer ones would replace the machine's
//! C library. A root made by mmdebstrap has them all; [`crate::stage`] runs programs in it.

pub mod go;
pub mod tools;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cache::{Cache, Key};
use crate::command::Run;
use crate::machine;
use crate::progress::{Outcome, Steps};

/// What a Debian root is made of.
#[derive(Clone, Copy, Debug)]
pub struct Recipe {
    /// Name of the cache entry.
    pub name: &'static str,
    /// Debian suite.
    pub suite: &'static str,
    /// mmdebstrap's variant: `minbase` for a root to work in, `extract` for files of packages and no more.
    pub variant: &'static str,
    /// Packages besides the essential ones.
    pub packages: &'static [&'static str],
}

/// The root in which registry, containerd and our daemon run.
pub const TEST_HOST: Recipe = Recipe {
    name: "test-host",
    suite: "sid",
    variant: "minbase",
    packages: &[
        "ca-certificates",
        "containerd",
        "containernetworking-plugins",
        "cryptsetup-bin",
        "docker-registry",
        "e2fsprogs",
        "erofs-utils",
        "iproute2",
        "isal",
        "mount",
        "procps",
        "runc",
        "skopeo",
        "udev",
        "umoci",
        "util-linux",
        "xfsprogs",
    ],
};

impl Recipe {
    /// Makes the root in `dir`, which exists and is empty.
    ///
    /// # Errors
    /// mmdebstrap fails.
    pub fn make(&self, dir: &Path) -> Result<()> {
        Run::new("mmdebstrap")
            // Suites that are rebuilt all the time outlive the date in their own Release file.
            .arg("--aptopt=Acquire::Check-Valid-Until \"false\"")
            .arg(format!("--variant={}", self.variant))
            .arg(format!("--include={}", self.packages.join(",")))
            .arg(self.suite)
            .arg(dir)
            .run()
    }

    /// Makes the root unless the cache has it.
    ///
    /// # Errors
    /// mmdebstrap fails.
    pub fn in_cache(&self, cache: &Cache) -> Result<(PathBuf, Outcome)> {
        cache.entry(self.name, &self.key(), |dir| self.make(dir))
    }

    fn key(&self) -> Key {
        Key::of(std::iter::once(self.suite).chain(self.packages.iter().copied()))
    }
}

/// The test host: where its parts lie on the machine.
#[derive(Clone, Debug)]
pub struct TestHost {
    /// Root directory of the Debian system. Never written to after it was made.
    pub root: PathBuf,
    /// Directory with containerd 2.3 and the programs beside it.
    pub tools: PathBuf,
    /// Versions of what is inside, one `name version` per line, for reports.
    pub versions: String,
}

impl TestHost {
    /// Makes whatever is missing of the test host.
    ///
    /// # Errors
    /// A package cannot be installed, or a part cannot be made; the error names the step.
    pub fn prepare(cache: &Cache, steps: &Steps<'_>) -> Result<Self> {
        machine::check()?;
        steps.run("packages of the machine", || machine::install(machine::BASE))?;
        let root = steps.run("test host: Debian sid with runc, erofs-utils and a registry", || {
            TEST_HOST.in_cache(cache)
        })?;
        let tools = steps.run("containerd 2.3 from its Go modules", || tools::CONTAINERD.build(cache))?;
        let versions = installed_versions(&root).context("ask the test host for its package versions")?;
        Ok(Self { root, tools, versions })
    }
}

fn installed_versions(root: &Path) -> Result<String> {
    Run::new("dpkg-query")
        .arg(format!("--admindir={}", root.join("var/lib/dpkg").display()))
        .args(["--show", "--showformat=${Package} ${Version}\\n"])
        .args(["containerd", "runc", "erofs-utils", "docker-registry", "skopeo", "isal"])
        .output()
}

/// Whether the test host is complete already.
///
/// # Errors
/// The Go module's files cannot be read.
pub fn outcome_of_preparing(cache: &Cache) -> Result<Outcome> {
    let there = cache.holds(TEST_HOST.name, &TEST_HOST.key())
        && cache.holds(tools::CONTAINERD.name, &tools::CONTAINERD.key()?);
    Ok(if there { Outcome::AlreadyThere } else { Outcome::Done })
}
