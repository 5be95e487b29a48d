//! An image of containerd as a layout that is read, and a layout's image into containerd.
//!
//! Labels are those by which containerd's garbage collection follows an image from its name to its layers
//! (`core/metadata/gc.go`).

use std::collections::BTreeMap;
use std::io;

use serde_json::json;

use super::image::{Document, Names};
use super::layout::Opened;
use super::{Descriptor, Layout};
use crate::cli::tool::error::Error;
use crate::client::content::NewBlob;
use crate::client::images::Target;
use crate::client::{Lease, Namespace};
use crate::image::digest::Digest;

/// Annotation with the full name of an image.
const NAME: &str = "io.containerd.image.name";
/// How labels begin by which a blob refers to others.
const REFERENCE: &str = "containerd.io/gc.ref.content.";
/// Label with the digest of a blob without compression.
const UNCOMPRESSED: &str = "containerd.io/uncompressed";

/// An image in a namespace of containerd.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    namespace: Namespace,
    /// What a layout of it would have for an index.
    pub(super) index: Vec<u8>,
}

impl Stored {
    /// The image called `name`.
    pub(super) fn find(namespace: &Namespace, name: &str) -> Result<Self, Error> {
        let found = namespace.image(name)?.ok_or_else(|| Error::NotInContainerd {
            name: name.to_owned(),
            namespace: namespace.name().to_owned(),
        })?;
        let Target { media_type, digest, size } = found;
        let manifest = json!({
            "mediaType": media_type, "digest": digest, "size": size, "annotations": { NAME: name },
        });
        let index = json!({ "schemaVersion": 2, "manifests": [manifest] }).to_string().into_bytes();
        Ok(Self { namespace: namespace.clone(), index })
    }

    /// Opens a blob.
    pub(super) fn open(&self, digest: &Digest) -> io::Result<Opened> {
        let found = self.namespace.blob(&digest.to_string()).map_err(io::Error::other)?;
        let blob = found.ok_or_else(|| {
            io::Error::other(
                "containerd does not have it any more, or never had: fetch it again, `ctr content fetch`, and set \
                 discard_unpacked_layers = false for Kubernetes' images",
            )
        })?;
        Ok(Opened { length: blob.length, bytes: Box::new(blob) })
    }
}

/// Where in containerd an image goes.
#[derive(Debug)]
pub(in super::super) struct Upload<'u> {
    layout: &'u Layout,
    /// Digests of layers without compression, by blob.
    diff_ids: BTreeMap<Digest, Digest>,
    lease: Lease,
}

impl<'u> Upload<'u> {
    /// Begins to put what is in `layout` into a namespace.
    pub(in super::super) fn begin(
        namespace: &Namespace,
        layout: &'u Layout,
        diff_ids: BTreeMap<Digest, Digest>,
    ) -> Result<Self, Error> {
        Ok(Self { layout, diff_ids, lease: namespace.lease()? })
    }

    /// Adds what a descriptor leads to and calls it `name`.
    pub(in super::super) fn publish(self, descriptor: &Descriptor, name: &str) -> Result<(), Error> {
        let size = self.add_document(descriptor)?;
        let (media_type, digest) = (descriptor.media_type.clone(), descriptor.digest.to_string());
        let target = Target { media_type, digest, size };
        Ok(self.lease.namespace().set_image(name, &target)?)
    }

    /// Adds a document behind all that it refers to, and returns its size in bytes.
    fn add_document(&self, descriptor: &Descriptor) -> Result<u64, Error> {
        let mut labels = BTreeMap::new();
        let mut refer = |what: String, digest: &Digest| {
            labels.insert(format!("{REFERENCE}{what}"), digest.to_string());
        };
        match Document::read(self.layout, descriptor)?.names {
            Names::Index { manifests } => {
                for (number, manifest) in manifests.iter().enumerate() {
                    self.add_document(manifest)?;
                    refer(format!("m.{number}"), &manifest.digest);
                }
            }
            Names::Image { config, layers } => {
                for (number, layer) in layers.iter().enumerate() {
                    let uncompressed = self.diff_ids.get(&layer.digest).map(Digest::to_string);
                    let labels = uncompressed.map(|digest| (UNCOMPRESSED.to_owned(), digest)).into_iter();
                    self.add(&layer.digest, &labels.collect())?;
                    refer(format!("l.{number}"), &layer.digest);
                }
                self.add(&config.digest, &BTreeMap::new())?;
                refer("config".to_owned(), &config.digest);
            }
        }
        self.add(&descriptor.digest, &labels)
    }

    fn add(&self, digest: &Digest, labels: &BTreeMap<String, String>) -> Result<u64, Error> {
        let Opened { mut bytes, length } = self.layout.open_blob(digest)?;
        let text = digest.to_string();
        self.lease.namespace().add_blob(NewBlob { digest: &text, length, labels }, &mut bytes)?;
        Ok(length)
    }
}
