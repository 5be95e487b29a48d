//! What tells a guest which layers are an image's: layers manifests, signatures, and policies.
//!
//! The formats and the checks are the guest's (`nexuserofs_guest`); here is the side that makes them.
//!
//! * [`list`](list()): the manifest of layers that were built. * [`merged`](merged()): the same with the image that they
//!   are merged into. * [`key`]: keys that sign. * [`policy`]: policies in the forms that guests take.

pub mod key;
mod list;
mod merged;
pub mod policy;

pub use list::{Error, list};
pub use merged::{Error as MergedError, merged};
