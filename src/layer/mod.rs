//! Layers by content: one immutable EROFS file however many namespaces, profiles and snapshots use it.
//!
//! * [`admission`]: what an image that another program made goes through.
//! * [`adopt`]: the file of a layer that is an EROFS image already.
//! * [`build`]: the file of a layer, made while its tar streams by.
//! * [`cache`]: directories of finished layers that the operator keeps.
//! * [`chain`]: the layers of an image, merged into one metadata image.
//! * [`empty`]: the layers that hold nothing.
//! * [`written`]: the file of a layer, made of a directory that was written to.
//! * [`upper`]: such a directory as a tree.
//! * [`image_file`]: how both files are written.
//! * `hashing`: the thread that hashes what is written. * [`verity`]: the tree that becomes of it.
//! * [`mkfs`]: the file of a layer that mkfs.erofs makes.
//! * [`open`](mod@open): that file read back.
//! * [`protection`]: what keeps that file from being changed.
//! * [`key`]: the name of a layer on this host.
//! * [`recipe`]: how the content of a blob becomes a layer's file.
//! * [`record`]: what is known about a layer, also written beside its file.
//! * [`root`]: the attributes of `/` as a layer sets them.
//! * [`shelf`]: the directories that hold the layers.

pub mod admission;
pub mod adopt;
pub mod build;
pub mod cache;
pub mod chain;
pub mod empty;
mod hashing;
pub mod image_file;
pub mod key;
pub mod mkfs;
pub mod open;
pub mod protection;
pub mod recipe;
pub mod record;
pub mod root;
pub mod shelf;
pub mod upper;
pub mod verity;
pub mod written;

pub use key::{LAYOUT_VERSION, LayerKey};
pub use protection::Protection;
pub use recipe::{Content, MkfsBuild, Recipe};
pub use record::{BlobLayer, FromBlob, LayerRecord, Source};
pub use root::RootAttributes;
pub use shelf::{Shelf, Staging};
pub use verity::{HashTree, Verity};
