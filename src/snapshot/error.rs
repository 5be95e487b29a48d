//! Why a snapshot operation is refused or fails.

use std::sync::Arc;

use super::Kind;
use crate::error::{self, Classify};
use crate::expose::{block, device, export, host};
use crate::image::digest::Digest;
use crate::layer::chain::ChainKey;
use crate::layer::{LayerKey, chain, written};
use crate::store;

/// Why a snapshot operation is refused or fails.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No profile has the name that the request calls the snapshotter by.
    #[error(
        "there is no profile {profile:?}, only {configured:?}: \
         add [profiles.{profile}] to the daemon's configuration, or name the proxy plugin after a profile"
    )]
    UnknownProfile {
        /// The name in the request.
        profile: String,
        /// The names that there are.
        configured: Vec<String>,
    },
    /// A key or name is empty.
    #[error("a snapshot needs a key that is not empty")]
    EmptyKey,
    /// A label of a new snapshot has a value that means nothing.
    #[error("label {label} is {value:?}, which cannot be honoured: {reason}")]
    InvalidLabel {
        /// Its name.
        label: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A directory is to be limited, and cannot be.
    #[error(
        "the size of a snapshot cannot be limited: the file system of {} enforces no project quotas; mount it with \
         prjquota, use block mode, or do not require them in the profile", directory.display()
    )]
    NoQuota {
        /// The directory of all snapshots.
        directory: std::path::PathBuf,
    },
    /// The profile requires dm-verity trees, and a layer was made before one was asked for.
    #[error(
        "layer {layer} has no dm-verity tree, which the profile requires: remove every image that has this layer, \
         and pull again"
    )]
    NoVerity {
        /// The layer.
        layer: LayerKey,
    },
    /// Merged metadata is to be checked, and has no tree although all its layers have one.
    #[error(
        "the merged metadata of chain {chain} has no hash tree, and the profile has verity = \"require\": stop the daemon, \
         delete the chain's directory, and start the daemon, which makes it again with one"
    )]
    NoMergedTree {
        /// The chain.
        chain: ChainKey,
    },
    /// The plan is to tell of dm-verity trees, and has more layers than a disk has partitions.
    #[error(
        "{layers} layers are more than virtual machines check with dm-verity, which is {most}: build the image with \
         fewer, or run it under a profile without verity and with layers = \"merged\""
    )]
    TooManyLayers {
        /// How many there are.
        layers: usize,
        /// How many there may be.
        most: usize,
    },
    /// The profile requires dm-verity trees, and a layer has blocks for which none is made.
    #[error(
        "layer {layer} has blocks of {block_size} bytes, and the dm-verity trees that the profile requires cover \
         blocks of 4096: use an image whose layers are tars or have such blocks, and for tars no builder or \
         mkfs_options with smaller ones; or set verity = \"auto\" for the profile"
    )]
    BlocksTooSmall {
        /// The layer.
        layer: LayerKey,
        /// Size of its blocks in bytes.
        block_size: u32,
    },
    /// Layers are to be sealed with fs-verity, and cannot be.
    #[error(
        "the file system of {} has no fs-verity, which enable_fsverity asks for: give an ext4 the feature with \
         tune2fs -O verity DEVICE (block size as large as a page, Linux 5.4 or newer with CONFIG_FS_VERITY), take a \
         btrfs or f2fs, or set enable_fsverity to false", root.display()
    )]
    NoFsverity {
        /// The root directory.
        root: std::path::PathBuf,
    },
    /// The file of a layer is not the one that was sealed with fs-verity.
    #[error(
        "layer {layer} is not what was sealed with fs-verity ({reason}): find out who changed it, remove every image \
         that has this layer, and pull again"
    )]
    Tampered {
        /// The layer.
        layer: LayerKey,
        /// What was found.
        reason: String,
    },
    /// There is no such snapshot.
    #[error("snapshot {key:?} does not exist in {profile:?}")]
    NotFound {
        /// The profile.
        profile: String,
        /// The key.
        key: String,
    },
    /// The parent does not exist.
    #[error("parent {parent:?} does not exist in {profile:?}")]
    ParentNotFound {
        /// The profile.
        profile: String,
        /// The parent's name.
        parent: String,
    },
    /// The key or name is in use.
    #[error("snapshot {key:?} already exists in {profile:?}")]
    AlreadyExists {
        /// The profile.
        profile: String,
        /// The key or name.
        key: String,
    },
    /// Only a committed snapshot can be a parent.
    #[error("parent {parent:?} is not committed")]
    ParentNotCommitted {
        /// The parent's name.
        parent: String,
    },
    /// Only a committed snapshot can be a parent, here of one that is being committed.
    #[error("parent {parent:?} is not committed yet, commit it first")]
    RebaseOntoUncommitted {
        /// The parent's name.
        parent: String,
    },
    /// A snapshot that was made on a parent stays on it.
    #[error("cannot change the parent of {key:?} from {parent:?} to {requested:?} at commit")]
    ParentChange {
        /// The snapshot.
        key: String,
        /// Its parent.
        parent: String,
        /// The other one.
        requested: String,
    },
    /// The operation is for active snapshots.
    #[error("snapshot {key:?} is {kind}, not active")]
    NotActive {
        /// The snapshot.
        key: String,
        /// What it is.
        kind: Kind,
    },
    /// A committed snapshot is not mounted itself.
    #[error("snapshot {key:?} is committed and has no mounts: prepare or view a snapshot on it")]
    NoMounts {
        /// The snapshot.
        key: String,
    },
    /// Others stand on it.
    #[error("cannot remove snapshot {key:?}: {children} snapshots have it as parent, remove them first")]
    HasChildren {
        /// The snapshot.
        key: String,
        /// How many.
        children: usize,
    },
    /// A virtual machine has the writable block open.
    #[error(
        "cannot take what {key:?} has written: a virtual machine has its writable block open, and what it did not \
         write back yet would be missing: end it, or have the guest sync and freeze its file system and set the label \
         containerd.io/snapshot/erofs.quiesced until the call is answered"
    )]
    BlockHeld {
        /// The snapshot.
        key: String,
    },
    /// What was written to a committed snapshot is not a layer.
    #[error(
        "no layer could be made of what was written to snapshot {name:?}, the next call tries again: {reason}"
    )]
    NotSealed {
        /// The snapshot.
        name: String,
        /// Why not.
        reason: Arc<Error>,
    },
    /// The daemon is on its way down, and a layer is left to the next start.
    #[error("the daemon is stopping: try again when it runs")]
    Stopping,
    /// What a layer was to be made of is not there.
    #[error(
        "what was written is not on disk any more, as after a power cut soon after the commit: remove the snapshot and \
         what stands on it, and make it again"
    )]
    WrittenLost,
    /// A fault of ours while a layer was made.
    #[error("the thread that made the layer panicked, its message is in the log: report it")]
    SealingPanicked,
    /// A snapshot was written to that is to consist of a layer and nothing else.
    #[error(
        "snapshot {key:?} holds files or was mounted writable, and the layer that is applied to it would replace \
         what was written: copy what you need, remove it, and prepare a new snapshot for the layer"
    )]
    Written {
        /// The snapshot.
        key: String,
    },
    /// The mounts are ours, but none can be written through.
    #[error("cannot apply a layer: the mounts are of a read-only snapshot")]
    ReadOnlyMounts,
    /// The mounts are of a snapshot that is not there any more.
    #[error("cannot apply a layer: snapshot directory {id} was removed; prepare the snapshot again")]
    Removed {
        /// Its identifier.
        id: String,
    },
    /// The mounts are of several snapshots.
    #[error("cannot apply a layer: the mounts name several writable snapshots")]
    SeveralSnapshots,
    /// A layer that a committed snapshot consists of is lost.
    #[error("layer {layer} of snapshot {name:?} is missing on disk: remove the image and pull it again")]
    LayerMissing {
        /// The snapshot.
        name: String,
        /// The layer.
        layer: LayerKey,
    },
    /// A layer was stored in place of a damaged one, which nobody used any more before it was recorded.
    #[error("layer {layer} was removed while it was being stored again: try again")]
    LayerRemoved {
        /// The layer.
        layer: LayerKey,
    },
    /// A record on the way to the bottom of a chain is lost.
    #[error("snapshot {name:?} stands on {parent:?}, which is lost: remove the image and pull it again")]
    BrokenChain {
        /// The snapshot.
        name: String,
        /// Its parent.
        parent: String,
    },
    /// Two layers have the same key but different digests. That takes a deliberate collision.
    #[error(
        "layer {key} on disk has diffID {found}, not {expected}: one of the two was made to collide; remove its image"
    )]
    KeyCollision {
        /// The key of both.
        key: LayerKey,
        /// The layer on disk.
        found: Digest,
        /// The layer that was to be added.
        expected: Digest,
    },
    /// A layer record does not fit its own key, or is not of a blob where a blob was applied.
    #[error("layer record with key {key} does not belong to the layer that was applied")]
    InconsistentLayer {
        /// The key.
        key: LayerKey,
    },
    /// The database or a directory.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The writable block.
    #[error(transparent)]
    Block(#[from] block::Error),
    /// What was written cannot be made a layer.
    #[error(transparent)]
    Convert(#[from] written::Error),
    /// Layers cannot be merged because one of them cannot be read.
    #[error(
        "the layers cannot be merged: remove the image and pull it again, or use a profile with separate layers"
    )]
    Merge(#[from] chain::Error),
    /// The description of a chain as one disk cannot be written.
    #[error(transparent)]
    Device(#[from] device::Error),
    /// A mount of the daemon's own.
    #[error(transparent)]
    Host(#[from] host::Error),
    /// The disks of a snapshot are not served.
    #[error(transparent)]
    Export(#[from] export::Error),
}

impl Classify for Error {
    fn kind(&self) -> error::Kind {
        use error::Kind;
        match self {
            Self::UnknownProfile { .. }
            | Self::NoFsverity { .. }
            | Self::EmptyKey
            | Self::InvalidLabel { .. }
            | Self::ParentNotCommitted { .. }
            | Self::ParentChange { .. }
            | Self::SeveralSnapshots => Kind::InvalidArgument,
            Self::NotFound { .. } | Self::ParentNotFound { .. } | Self::Removed { .. } => Kind::NotFound,
            Self::AlreadyExists { .. } => Kind::AlreadyExists,
            Self::RebaseOntoUncommitted { .. }
            | Self::NotActive { .. }
            | Self::NoMounts { .. }
            | Self::HasChildren { .. }
            | Self::Written { .. }
            | Self::NoQuota { .. }
            | Self::NoVerity { .. }
            | Self::NoMergedTree { .. }
            | Self::TooManyLayers { .. }
            | Self::BlocksTooSmall { .. }
            | Self::BlockHeld { .. }
            | Self::ReadOnlyMounts => Kind::FailedPrecondition,
            Self::NotSealed { reason, .. } => reason.kind(),
            Self::Stopping | Self::LayerRemoved { .. } => Kind::Unavailable,
            Self::WrittenLost
            | Self::LayerMissing { .. }
            | Self::Tampered { .. }
            | Self::BrokenChain { .. }
            | Self::KeyCollision { .. } => Kind::DataLoss,
            Self::InconsistentLayer { .. } | Self::SealingPanicked => Kind::Internal,
            Self::Store(error) => error.kind(),
            Self::Block(error) => error.kind(),
            Self::Convert(error) => error.kind(),
            Self::Merge(error) => error.kind(),
            Self::Device(error) => error.kind(),
            Self::Host(error) => error.kind(),
            Self::Export(error) => error.kind(),
        }
    }
}
