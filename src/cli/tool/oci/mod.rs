//! Images in OCI image layouts.
//!
//! Format: OCI image specification 1.1, `image-layout.md`, `image-index.md`, `manifest.md`, `config.md`
//! and `descriptor.md`.
//!
//! * `descriptor`: what names a blob. * [`layout`]: the blobs of a layout, a directory or its tar.
//! * [`image`]: the images that a layout's index leads to. * `platform`: which machine an image is for.
//! * `writer`: a layout in the making. * `containerd`: images of containerd, both ways.

mod containerd;
mod descriptor;
pub(super) mod image;
pub(super) mod layout;
mod platform;
mod writer;

pub(super) use containerd::Upload;
pub(super) use descriptor::Descriptor;
pub(super) use image::{Document, Image, Selection};
pub(super) use layout::Layout;
pub(super) use platform::Platform;
pub(super) use writer::LayoutWriter;

/// Type of an index.
pub(super) const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
/// Type of a manifest.
pub(super) const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
/// Type of an image's configuration.
pub(super) const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
