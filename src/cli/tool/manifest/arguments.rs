//! What can be asked for about manifests.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use nexuserofs_guest::word::Word;

use crate::cli::tool::oci::Platform;

const EXAMPLES: &str = "Examples:
  skopeo copy docker://IMAGE oci:image && nexuserofs manifest compute image > image.json
  openssl genpkey -algorithm ed25519 -out key.pem
  nexuserofs manifest sign --key key.pem --version 1 --name IMAGE image.json > signed.json";

#[derive(Debug, Subcommand)]
pub(in crate::cli::tool) enum ManifestVerb {
    /// Print the manifest of an image, computed from the image alone.
    ///
    /// Every layer is built as the daemon builds it, with its dm-verity tree, in TMPDIR, and deleted again. The same
    /// image gives the same manifest everywhere.
    #[command(after_help = EXAMPLES)]
    Compute(Compute),
    /// Print a manifest with a signature more.
    Sign(Sign),
    /// Hold a manifest against a policy as a guest does, and print its image hash. Exits with 65 if it is refused.
    Verify(Verify),
    /// Print what a manifest says.
    Show {
        /// The manifest, or - for standard input
        manifest: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(in crate::cli::tool) struct Compute {
    /// A directory in OCI image layout or a plain tar of one, with one image; or the tars of all layers,
    /// oldest first, plain or with gzip or zstd
    #[arg(required = true, value_name = "LAYOUT|TAR")]
    pub(super) sources: Vec<PathBuf>,
    /// Take the image that the layout calls so
    #[arg(long, value_name = "NAME")]
    pub(super) image: Option<String>,
    /// Take the image for this platform; tars need it
    #[arg(long, value_name = "OS/ARCHITECTURE")]
    pub(super) platform: Option<Platform>,
    /// List the merged image too, for guests that get the whole image as one device. The image hash is another one
    /// then. An image of a single layer has none
    #[arg(long)]
    pub(super) merged: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli::tool) struct Sign {
    /// The private key, Ed25519 in PEM
    #[arg(long, value_name = "FILE")]
    pub(super) key: PathBuf,
    /// Version of the image, which grows with every release; policies refuse versions below theirs
    #[arg(long, value_parser = clap::value_parser!(u64).range(..1 << 53))]
    pub(super) version: u64,
    /// What the image is called; policies may take only some names
    #[arg(long)]
    pub(super) name: Option<Word>,
    /// When the signature ends, in seconds since 1970 (date --date 2030-01-01 +%s)
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(..1 << 53))]
    pub(super) expires: Option<u64>,
    /// The manifest, or - for standard input
    pub(super) manifest: PathBuf,
}

#[derive(Debug, Args)]
pub(in crate::cli::tool) struct Verify {
    /// The policy, as `nexuserofs policy emit --format json` prints it
    #[arg(long, value_name = "FILE")]
    pub(super) policy: PathBuf,
    /// The manifest, or - for standard input
    pub(super) manifest: PathBuf,
}
