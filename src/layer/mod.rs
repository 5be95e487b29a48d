//! Layers by content: one immutable EROFS file however many namespaces, profiles and snapshots use it.
//!
//! * [`build`]: the file of a layer, made while its tar streams by.
//! * [`cache`]: directories of finished layers that the operator keeps.
//! * [`key`]: the name of a layer on this host.
//! * [`record`]: what is known about a layer, also written beside its file.
//! * [`root`]: the attributes of `/` as a layer sets them.
//! * [`shelf`]: the directories that hold the layers.

pub mod build;
pub mod cache;
pub mod key;
pub mod record;
pub mod root;
pub mod shelf;

pub use key::{LAYOUT_VERSION, LayerKey};
pub use record::LayerRecord;
pub use root::RootAttributes;
pub use shelf::{Shelf, Staging};
