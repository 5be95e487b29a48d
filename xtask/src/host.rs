//! `cargo xtask host`: the test host and the cache.

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;
use nexuserofs_integration::cache::{Cache, remove_tree};
use nexuserofs_integration::host::TestHost;
use nexuserofs_integration::images::{demo, trees};
use nexuserofs_integration::progress::Steps;

use crate::bars::{self, Bars};

#[derive(Debug, Subcommand)]
pub(crate) enum Arguments {
    /// Install packages and make test host, containerd and the test images, where they are missing.
    Prepare,
    /// Remove everything that was made, the cache folder included. Debian packages stay installed.
    Remove,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let cache = Cache::open()?;
    match arguments {
        Arguments::Prepare => prepare(&cache)?,
        Arguments::Remove => {
            remove_tree(cache.root())?;
            println!("removed {}", cache.root().display());
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Makes everything that tests need on the machine.
pub(crate) fn prepare(cache: &Cache) -> Result<()> {
    let bars = Bars::new(8);
    let steps = Steps::new(&bars);
    let host = TestHost::prepare(cache, &steps)?;
    steps.run("image demo", || demo::make(cache))?;
    trees::make(cache, &steps)?;
    bars::summary(&steps);
    println!("in {}:\n{}", cache.root().display(), host.versions);
    Ok(())
}
