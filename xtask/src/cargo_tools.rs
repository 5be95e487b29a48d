//! Programs of cargo's that the project uses, built once into the cache.

use std::path::PathBuf;

use anyhow::Result;
use nexuserofs_integration::cache::{Cache, Key};
use nexuserofs_integration::command::Run;
use nexuserofs_integration::progress::Steps;

/// A program that `cargo install` builds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tool {
    name: &'static str,
    version: &'static str,
}

/// Checks licences, sources and duplicate crates.
pub(crate) const DENY: Tool = Tool { name: "cargo-deny", version: "0.20.2" };

impl Tool {
    /// Builds the program unless the cache has it, and returns its path.
    ///
    /// # Errors
    /// The build fails.
    pub(crate) fn install(self, cache: &Cache, steps: &Steps<'_>) -> Result<PathBuf> {
        let what = format!("{} {} (built from its crate)", self.name, self.version);
        let dir = steps.run(&what, || {
            cache.entry(self.name, &Key::of([self.version]), |dir| {
                Run::new("cargo")
                    .args(["install", "--quiet", "--locked", "--version", self.version, "--root"])
                    .arg(dir)
                    .arg(self.name)
                    .run()
            })
        })?;
        Ok(dir.join("bin").join(self.name))
    }
}
