//! `cargo xtask host`: the test host and the cache.

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;
use nexuserofs_integration::cache::{Cache, remove_tree};
use nexuserofs_integration::host::TestHost;
use nexuserofs_integration::images::{demo, encodings, trees};
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
        Arguments::Prepare => prepare(&cache, Images::All)?,
        Arguments::Remove => {
            remove_tree(cache.root())?;
            println!("removed {}", cache.root().display());
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Which images tests need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Images {
    /// Those that are made in a minute.
    Small,
    /// The large trees as well.
    All,
}

/// Makes what tests need on the machine.
pub(crate) fn prepare(cache: &Cache, images: Images) -> Result<()> {
    let bars = Bars::new(if images == Images::All { 8 } else { 5 });
    let steps = Steps::new(&bars);
    let host = TestHost::prepare(cache, &steps)?;
    steps.run("image demo", || demo::make(cache))?;
    steps.run("image encodings", || encodings::make(cache))?;
    if images == Images::All {
        trees::make(cache, &steps)?;
    }
    bars::summary(&steps);
    println!("in {}:\n{}", cache.root().display(), host.versions);
    Ok(())
}
