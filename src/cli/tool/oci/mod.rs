//! Images in OCI image layouts.
//!
//! Format: OCI image specification 1.1, `image-layout.md`, `image-index.md`, `manifest.md`, `config.md`
//! and `descriptor.md`.
//!
//! * `descriptor`: what names a blob. * [`layout`]: the blobs of a layout, a directory or its tar.
//! * [`image`]: the images that a layout's index leads to. * `platform`: which machine an image is for.

mod descriptor;
pub(super) mod image;
pub(super) mod layout;
mod platform;

pub(super) use descriptor::Descriptor;
pub(super) use image::{Image, Selection};
pub(super) use layout::Layout;
pub(super) use platform::Platform;
