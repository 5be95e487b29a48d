//! What tells a guest which layers are an image's: layers manifests, signatures, and policies.
//!
//! The formats and the checks are the guest's (`nexuserofs_guest`); here is the side that makes them.
//!
//! * [`list`](list()): the manifest of layers that were built. * [`key`]: keys that sign.
//! * [`policy`]: policies in the forms that guests take.

pub mod key;
mod list;
pub mod policy;

pub use list::{Error, list};
