//! Chains: the layers of an image merged into one metadata image, `fsmeta.erofs`, which points into their
//! files.
//!
//! What is in a chain's directory is a pure function of its layers. It can be made again at any time, so
//! nothing but the directory itself records it. It goes when one of its layers goes.
//!
//! * [`key`]: the name of a chain on this host.
//! * [`record`]: what is known about a chain, written beside its image.
//! * [`build`]: the image, made of the layers' files.
//! * [`shelf`]: the directories that hold the chains.

pub mod build;
pub mod key;
pub mod record;
pub mod shelf;

pub use build::{Built, Error, Part, build};
pub use key::ChainKey;
pub use record::{ChainLayer, ChainRecord, Outcome};
pub use shelf::ChainShelf;
