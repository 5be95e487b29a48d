//! Formats as functions over bytes: no file names, no async, no global state.
//!
//! * [`tree`]: the file tree of one layer, what every reader produces and every writer consumes.
//! * [`tar`]: an OCI layer's tar stream into a tree and back, with the rules of `docs/tar-semantics.md`.
//! * [`erofs`]: a tree and its data into an EROFS image, layout v1 (`docs/image-layout-v1.md`), and
//!   images back into trees.
//! * [`overlay`]: what overlayfs marks in the trees of layers, and stacks of them as one.
//! * [`verity`]: dm-verity hash trees over images.
//! * [`merged`]: one image of metadata for several layers, which points into theirs.
//! * [`empty`]: the layer that holds nothing.
//! * [`names`]: the paths of a tree, and how names are shown.
//! * [`digest`]: content digests. * `identity`: UUIDs that follow from what they name.
//! * [`extent`]: what lies where on a block device that is made of files.
//! * [`gpt`], [`vmdk`]: such devices as a disk with a partition for each layer, and as a text that a virtual machine
//!   monitor reads.

pub mod digest;
pub mod empty;
pub mod erofs;
pub mod extent;
pub mod gpt;
mod identity;
pub mod merged;
pub mod names;
pub mod overlay;
pub mod tar;
pub mod tree;
pub mod verity;
pub mod vmdk;
