//! The layers manifest: what an image's root file system is made of, so exactly that nothing else passes for it.
//!
//! Format: `docs/layers-manifest.md`.
//!
//! * `body`: the list itself, and the hash that stands for it. * `layer`: one layer in it. * `empty`: the layer that holds
//!   nothing, which no list needs.
//! * `merged`: all of them as one device. * `table`: the dm-verity table of either.
//! * `statement`: what a signer says about it. * `key`: who signs. * `signed`: the document with both.

mod body;
mod empty;
mod key;
mod layer;
mod merged;
mod signed;
mod statement;
mod table;

pub use body::{Fields, Image, ImageHash, InvalidManifest, LayoutVersion, MOST_LAYERS, Manifest, Platform};
pub use key::{InvalidKey, InvalidSignature, KeyId, PublicKey, SignatureBytes};
pub use layer::{InvalidLayer, Layer, LayerFields};
pub use merged::{InvalidMerged, MergeVersion, Merged, MergedFields};
pub use signed::{Signature, SignedManifest};
pub use statement::{Statement, UnixTime};
