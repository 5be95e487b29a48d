//! What can go wrong in the tool.

use std::io;
use std::path::PathBuf;

use nexuserofs_guest::canonical::NotCanonical;
use nexuserofs_guest::policy::Refusal;
use nexuserofs_guest::verity::InvalidParameters;
use nexuserofs_guest::word::InvalidWord;

use crate::cli::exit::Exit;
use crate::client;
use crate::diff::offline;
use crate::error::{Classify as _, Kind};
use crate::expose::{device, export, view};
use crate::image::digest::Digest;
use crate::image::erofs::header;
use crate::image::verity::leaves;
use crate::layer::chain;
use crate::store;
use crate::trust;
use crate::trust::key::InvalidKey;

/// Why the tool stopped.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// A source that is not there.
    #[error("cannot use {path}: name the tar of a layer, or a directory in OCI image layout or its tar", path = path.display())]
    Source { path: PathBuf, source: io::Error },
    /// A file that is no image layout.
    #[error(
        "{path} is neither a directory in OCI image layout nor a plain tar of one: write one with skopeo copy … oci:DIRECTORY or \
         ctr images export FILE IMAGE",
        path = path.display()
    )]
    NoLayout { path: PathBuf },
    /// A directory that is no image layout.
    #[error("{path} is not what an OCI image layout has there: write the layout again", path = path.display())]
    Layout { path: PathBuf, source: serde_json::Error },
    /// An image that a layout does not have.
    #[error("{path} has no image called {name:?}; it has: {known}", path = path.display())]
    NoImage { path: PathBuf, name: String, known: String },
    /// A platform that no image is for.
    #[error("{path} has no image for {platform}: leave --platform out to take all that it has", path = path.display())]
    NoPlatform { path: PathBuf, platform: String },
    /// A name of nothing.
    #[error(
        "{name} is neither a file nor the key of a layer, a chain or a snapshot in {root}: look at ctr snapshots list, and \
         at --root",
        name = name.display(), root = root.display()
    )]
    NoSubject { name: PathBuf, root: PathBuf },
    /// A name of several snapshots with different layers.
    #[error("several snapshots have the key {key:?}: name one of {found}")]
    Ambiguous { key: String, found: String },
    /// A key of no snapshot.
    #[error("no snapshot has the key {key:?} in {root}: look at ctr snapshots list, and at --root", root = root.display())]
    NoSnapshot { key: String, root: PathBuf },
    /// A snapshot that a monitor cannot be given.
    #[error("{monitor} cannot be given this snapshot: {reasons}")]
    NoDisks { monitor: &'static str, reasons: String },
    /// A program that is not there.
    #[error("cannot find {program}: install QEMU (qemu-system-x86 on Debian), or name it with --qemu", program = program.display())]
    NoQemu { program: PathBuf },
    /// One root hash for several files.
    #[error("--root-hash is that of one file, and {files} are named: name one at a time")]
    OneRootHash { files: usize },
    /// A file that tells no root hash.
    #[error("{path} does not tell a root hash as containerd and the daemon write it: build the layer again", path = path.display())]
    Sidecar { path: PathBuf },
    /// A file that is no image.
    #[error("{path} is no EROFS image", path = path.display())]
    Image { path: PathBuf, source: header::Error },
    /// A hash tree that cannot be checked.
    #[error("cannot check {path}", path = path.display())]
    Verity { path: PathBuf, source: leaves::Error },
    /// An image larger than any device.
    #[error("{path} is larger than a dm-verity device can be", path = path.display())]
    Parameters { path: PathBuf, source: InvalidParameters },
    /// What only root may do.
    #[error("only root can mount and unmount: run this as root")]
    NotRoot,
    /// A view of layers that cannot be made or ended.
    #[error(transparent)]
    View(#[from] view::Error),
    /// A layer that nobody here has the key of.
    #[error("{path} is an encrypted layer: decrypt the image first", path = path.display())]
    Encrypted { path: PathBuf },
    /// An image that containerd does not have.
    #[error(
        "containerd has no image {name:?} in namespace {namespace:?}: `ctr --namespace {namespace} images list` has their names"
    )]
    NotInContainerd { name: String, namespace: String },
    /// A name in containerd is of one image.
    #[error("{path} has {count} images that are meant, and a name in containerd is of one: say which with --image", path = path.display())]
    NotOneName { path: PathBuf, count: usize },
    /// A server that does not do what it was asked.
    #[error(transparent)]
    Client(#[from] client::Error),
    /// Nothing to convert.
    #[error("{path} has no container images: there is nothing to convert", path = path.display())]
    NoImages { path: PathBuf },
    /// Nothing to build.
    #[error("{path} has no layers that are tars: there is nothing to build", path = path.display())]
    NoLayers { path: PathBuf },
    /// A configuration and a manifest that contradict each other.
    #[error("the image is damaged: {path} names {diff_ids} layers, its manifest {layers}; fetch it again", path = path.display())]
    LayerCount { path: PathBuf, layers: usize, diff_ids: usize },
    /// A file that cannot be read.
    #[error("cannot read {path}", path = path.display())]
    Read { path: PathBuf, source: io::Error },
    /// A blob that is no layer.
    #[error("cannot make a layer of {path}", path = path.display())]
    Layer { path: PathBuf, source: offline::Error },
    /// A blob that is another than the image says.
    #[error(
        "{path} is damaged or of another image: its {what} is {found}, the image says {expected}; fetch the image again",
        path = path.display()
    )]
    Mismatch { path: PathBuf, what: &'static str, found: Digest, expected: Digest },
    /// A file that would have to be replaced.
    #[error("{path} exists: take it away, or say --force to replace it", path = path.display())]
    Exists { path: PathBuf },
    /// A manifest is of one image.
    #[error("{path} has {count} images that are meant, and a manifest is of one: name it with --image and --platform", path = path.display())]
    NotOneImage { path: PathBuf, count: usize },
    /// Nobody says what the tars are for.
    #[error("tars do not say what they run on: add --platform, such as --platform linux/amd64")]
    TarsNeedPlatform,
    /// A layer that is not built here.
    #[error("{path} is no tar: only layers that are tars have a manifest that anyone can compute", path = path.display())]
    NoTar { path: PathBuf },
    /// A name that is no word.
    #[error(transparent)]
    Word(#[from] InvalidWord),
    /// Layers that make no manifest.
    #[error(transparent)]
    Trust(#[from] trust::Error),
    #[error(transparent)]
    TrustMerged(#[from] trust::MergedError),
    /// A document that is damaged, or is another.
    #[error("{path} is no {what}", path = path.display())]
    Document { path: PathBuf, what: &'static str, source: NotCanonical },
    /// A file without a key.
    #[error("{path} has no key", path = path.display())]
    Key { path: PathBuf, source: InvalidKey },
    /// A policy does not allow a manifest.
    #[error("refused ({reason})", reason = .0.reason())]
    Refused(#[source] Refusal),
    /// The rules have the layers of images in them.
    #[error("rego has the layers of images in it: name their manifests, and no key")]
    RegoNeedsImages,
    /// There are no rules for this image.
    #[error("cannot make rules for Kata's agent")]
    Rego(#[source] trust::rego::Error),
    /// Standard output cannot be written.
    #[error("cannot write to standard output")]
    Output(#[source] io::Error),
    /// Layers that are no merged image.
    #[error("the layers cannot be merged: {reason}; ask for partitions instead (--layout partitions)")]
    Unmergeable { reason: String },
    /// Layers of which one cannot be read.
    #[error("cannot merge the layers")]
    Merge(#[from] chain::Error),
    /// Layers that are no block device.
    #[error(transparent)]
    Device(#[from] device::Error),
    /// Merged metadata that is to be checked, and no tree to check it against.
    #[error(
        "cannot check {path}: no chain.json beside it tells of a hash tree over it and its layers; make one with \
         `nexuserofs device --layout verified` and name its root hash with --root-hash, or leave --verify out",
        path = path.display()
    )]
    NoMetadataTree { path: PathBuf },
    /// Merged metadata of more or fewer layers than are named.
    #[error(
        "{path} was merged of {merged} layers, and {named} are named: name all of them, the oldest first",
        path = path.display()
    )]
    LayersOfMetadata { path: PathBuf, merged: usize, named: usize },
    /// Merged metadata of other layers than those that are named.
    #[error(
        "{path} has another layer in the place of {layer}: name the layers that it was merged of, the oldest first",
        path = path.display(), layer = layer.display()
    )]
    LayerOfMetadata { path: PathBuf, layer: PathBuf },
    /// Disks that are not served.
    #[error(transparent)]
    Export(#[from] export::Error),
    /// A file operation failed.
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl From<&Error> for Exit {
    fn from(error: &Error) -> Self {
        match error {
            Error::Source { .. }
            | Error::NoLayout { .. }
            | Error::NoImage { .. }
            | Error::NoPlatform { .. }
            | Error::NoLayers { .. }
            | Error::NoImages { .. }
            | Error::NoSubject { .. }
            | Error::Ambiguous { .. }
            | Error::NoSnapshot { .. }
            | Error::NoDisks { .. }
            | Error::NoQemu { .. }
            | Error::OneRootHash { .. }
            | Error::NotRoot
            | Error::View(view::Error::Taken(_) | view::Error::Foreign { .. } | view::Error::TooMany(_))
            | Error::Encrypted { .. }
            | Error::NotOneImage { .. }
            | Error::NotInContainerd { .. }
            | Error::NotOneName { .. }
            | Error::TarsNeedPlatform
            | Error::RegoNeedsImages
            | Error::NoMetadataTree { .. }
            | Error::LayersOfMetadata { .. }
            | Error::LayerOfMetadata { .. }
            | Error::Exists { .. } => Self::Usage,
            Error::Layout { .. }
            | Error::LayerCount { .. }
            | Error::Layer { .. }
            | Error::NoTar { .. }
            | Error::Word(_)
            | Error::Trust(_)
            | Error::TrustMerged(_)
            | Error::Document { .. }
            | Error::Key { .. }
            | Error::Refused(_)
            | Error::Rego(_)
            | Error::Mismatch { .. }
            | Error::Unmergeable { .. }
            | Error::Sidecar { .. }
            | Error::Parameters { .. }
            | Error::Image { .. } => Self::Data,
            Error::Merge(error) => of_kind(error.kind()),
            Error::Device(error) => of_kind(error.kind()),
            Error::Export(error) => of_kind(error.kind()),
            Error::Read { .. }
            | Error::Verity { .. }
            | Error::View(_)
            | Error::Output(_)
            | Error::Client(_)
            | Error::Store(_) => Self::Fault,
        }
    }
}

/// The exit code for a failure of a room below.
const fn of_kind(kind: Kind) -> Exit {
    match kind {
        Kind::FailedPrecondition | Kind::InvalidArgument => Exit::Usage,
        Kind::DataLoss => Exit::Data,
        _ => Exit::Fault,
    }
}

/// An error and what caused it, as one line.
pub(super) fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let mut texts: Vec<String> = causes.map(ToString::to_string).collect();
    // Some errors repeat their cause in their own text.
    texts.dedup_by(|later, earlier| earlier.ends_with(later.as_str()));
    texts.join(": ")
}
