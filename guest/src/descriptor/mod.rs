//! What the host says that a root file system is to be made of. Nothing in it is trusted: a policy decides
//! about the manifest, the manifest about the layers, and dm-verity about their devices.
//!
//! Format: `docs/guest.md`.
//!
//! * `model`: the description. * `assembly`: the part of it that says where things are.
//! * `block`: one on a raw block device. * `kata`: one as Kata's storages.

mod assembly;
mod block;
mod kata;
mod model;

pub use assembly::{Assembly, ImageSource, LayerSource, UpperSource};
pub use block::{HEADER_BYTES, InvalidBlock, MAGIC, payload_length, to_block};
pub use kata::{InvalidStorages, from_storages};
pub use model::{Descriptor, InvalidDescriptor};
