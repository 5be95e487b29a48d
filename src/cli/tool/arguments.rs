//! What the tool can be asked for.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::config::defaults;

/// Helps to operate nexuserofs-snapshotter.
#[derive(Debug, Parser)]
#[command(name = "nexuserofs", version)]
pub(super) struct Arguments {
    /// Print one JSON array instead of lines
    #[arg(long, global = true)]
    pub(super) json: bool,

    #[command(subcommand)]
    pub(super) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Keep finished layers in a directory that daemons take them from (layer_content_caches).
    ///
    /// The directory has containerd's layout, DIRECTORY/sha256/XX/HEX.erofs by diffID. Files are
    /// written under another name, synced and renamed, so a daemon may use the directory meanwhile.
    #[command(subcommand)]
    Cache(CacheVerb),
}

#[derive(Debug, Subcommand)]
pub(super) enum CacheVerb {
    /// Build layers and put them into a cache.
    Add {
        /// The cache; made if it is missing
        directory: PathBuf,
        /// Layer tars, plain or with gzip or zstd, and directories in OCI image layout (skopeo copy
        /// docker://IMAGE oci:DIRECTORY), of which every layer of every image is taken
        #[arg(required = true, value_name = "TAR|LAYOUT")]
        sources: Vec<PathBuf>,
    },
    /// Put the layers that a daemon has into a cache. The daemon may run.
    Export {
        /// The cache; made if it is missing
        directory: PathBuf,
        /// The daemon's data
        #[arg(long, value_name = "DIRECTORY", default_value = defaults::ROOT)]
        root: PathBuf,
    },
    /// List the layers of a cache.
    List {
        /// The cache
        directory: PathBuf,
    },
    /// Check the layers of a cache: owner, size, superblock, metadata, and that each is the layer that its name
    /// says. Exits with 65 if one cannot be taken.
    Verify {
        /// The cache
        directory: PathBuf,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn arguments_are_consistent() {
        Arguments::command().debug_assert();
    }
}
