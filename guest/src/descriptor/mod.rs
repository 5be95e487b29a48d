//! What the host says that a root file system is to be made of. Nothing in it is trusted: a policy decides
//! about the manifest, the manifest about the layers, and dm-verity about their devices.
//!
//! Format: `docs/guest.md`.
//!
//! * `model`: the description. * `block`: one on a raw block device. * `kata`: one as Kata's storages.

mod block;
mod kata;
mod model;

pub use block::{HEADER_BYTES, InvalidBlock, MAGIC, payload_length, to_block};
pub use kata::{InvalidStorages, from_storages};
pub use model::{Assembly, Descriptor, InvalidDescriptor, LayerSource, UpperSource};
