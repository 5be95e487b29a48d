//! The images that a layout's index leads to.

use std::path::PathBuf;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::{Descriptor, Layout, Platform};
use crate::cli::tool::error::Error;
use crate::diff::offline::Converted;
use crate::image::digest::Digest;

/// How deep indexes may name indexes. Images for several machines have one below the layout's own.
pub(in super::super) const DEPTH: u32 = 4;

/// An index or a manifest, whole; which one shows in its fields.
#[derive(Clone, Debug)]
pub(in super::super) struct Document {
    /// Everything that it says.
    pub(in super::super) value: Value,
    pub(in super::super) names: Names,
}

/// What a document leads to.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(in super::super) enum Names {
    /// A manifest.
    Image { config: Box<Descriptor>, layers: Vec<Descriptor> },
    /// An index.
    Index { manifests: Vec<Descriptor> },
}

/// Which images of a layout are meant.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Selection {
    /// Those that the layout calls so; all without a name.
    pub(in super::super) name: Option<String>,
    /// Those for this machine; all without one.
    pub(in super::super) platform: Option<Platform>,
}

/// A container image.
#[derive(Clone, Debug)]
pub(in super::super) struct Image {
    /// Digest of its manifest.
    pub(in super::super) manifest: Digest,
    /// Digest of its configuration.
    pub(in super::super) config: Digest,
    pub(in super::super) layers: Vec<Layer>,
    pub(in super::super) platform: Platform,
    /// Everything that its configuration says.
    pub(in super::super) configuration: Value,
}

/// A layer of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Layer {
    pub(in super::super) blob: Descriptor,
    /// Digest of its content without compression, as the image's configuration says.
    pub(in super::super) diff_id: Digest,
}

#[derive(Deserialize)]
struct Configuration {
    #[serde(deserialize_with = "root_fs")]
    rootfs: RootFs,
    #[serde(flatten)]
    platform: Platform,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Vec<Digest>,
}

/// Reads a table, and no list of its values, which would do as well: its place is written to by name.
fn root_fs<'de, D: Deserializer<'de>>(from: D) -> Result<RootFs, D::Error> {
    let table = Map::<String, Value>::deserialize(from)?;
    RootFs::deserialize(Value::Object(table)).map_err(D::Error::custom)
}

impl Layer {
    /// Refuses what was read from the blob called `path` if the image says that it is something else.
    pub(in super::super) fn check(
        &self,
        converted: &Converted,
        path: impl Fn() -> PathBuf,
    ) -> Result<(), Error> {
        let same = |what, found: Digest, expected: Digest| match found == expected {
            true => Ok(()),
            false => Err(Error::Mismatch { path: path(), what, found, expected }),
        };
        same("digest", converted.blob, self.blob.digest)?;
        same("diffID", converted.diff_id, self.diff_id)
    }
}

impl Document {
    /// The layout's own index.
    pub(in super::super) fn index(layout: &Layout) -> Result<Self, Error> {
        let value: Value = layout.index()?;
        Self::of(value, layout, None)
    }

    /// The document that a descriptor names.
    pub(in super::super) fn read(layout: &Layout, descriptor: &Descriptor) -> Result<Self, Error> {
        let text = layout.document(descriptor)?;
        let path = || layout.blob_name(&descriptor.digest);
        let value = serde_json::from_slice(&text).map_err(|source| Error::Layout { path: path(), source })?;
        Self::of(value, layout, Some(descriptor))
    }

    fn of(value: Value, layout: &Layout, descriptor: Option<&Descriptor>) -> Result<Self, Error> {
        let path = || descriptor.map_or(layout.path().to_owned(), |found| layout.blob_name(&found.digest));
        let names = Names::deserialize(&value).map_err(|source| Error::Layout { path: path(), source })?;
        Ok(Self { value, names })
    }
}

impl Selection {
    /// The entries of the layout's own index that are meant.
    pub(in super::super) fn entries(&self, layout: &Layout) -> Result<Vec<Descriptor>, Error> {
        let Names::Index { manifests } = Document::index(layout)?.names else { return Ok(Vec::new()) };
        let Some(name) = &self.name else { return Ok(manifests) };
        let known: Vec<String> =
            manifests.iter().flat_map(Descriptor::names).map(ToOwned::to_owned).collect();
        let meant: Vec<Descriptor> =
            manifests.into_iter().filter(|descriptor| descriptor.is_called(name)).collect();
        if meant.is_empty() {
            let (path, name) = (layout.path().to_owned(), name.clone());
            return Err(Error::NoImage { path, name, known: known.join(", ") });
        }
        Ok(meant)
    }

    /// Whether the platform that an index names is meant; one that names none may be.
    pub(in super::super) fn admits(&self, platform: Option<&Platform>) -> bool {
        match (&self.platform, platform) {
            (Some(wanted), Some(found)) => found.is(wanted),
            _ => true,
        }
    }
}

impl Image {
    /// The container images of a layout that are meant. What is none, a signature for example, is left out.
    pub(in super::super) fn all(layout: &Layout, selection: &Selection) -> Result<Vec<Self>, Error> {
        let mut images = Vec::new();
        for entry in selection.entries(layout)? {
            collect(layout, &entry, selection, DEPTH, &mut images)?;
        }
        match &selection.platform {
            Some(platform) if images.is_empty() => {
                Err(Error::NoPlatform { path: layout.path().to_owned(), platform: platform.to_string() })
            }
            _ => Ok(images),
        }
    }

    /// The image with this manifest, this configuration and these layers; `None` if it is no container image, or another
    /// machine's.
    pub(in super::super) fn read(
        layout: &Layout,
        manifest: &Descriptor,
        config: &Descriptor,
        layers: Vec<Descriptor>,
        selection: &Selection,
    ) -> Result<Option<Self>, Error> {
        if !is_container(&layers) {
            return Ok(None);
        }
        let text = layout.document(config)?;
        let path = || layout.blob_name(&config.digest);
        let value: Value =
            serde_json::from_slice(&text).map_err(|source| Error::Layout { path: path(), source })?;
        let known = Configuration::deserialize(&value);
        let Configuration { rootfs, mut platform } =
            known.map_err(|source| Error::Layout { path: path(), source })?;
        // A configuration has the fields of a platform among others.
        platform.rest.retain(|name, _| name == "os.version");
        if !selection.admits(Some(&platform)) {
            return Ok(None);
        }
        let diff_ids = rootfs.diff_ids;
        if diff_ids.len() != layers.len() {
            return Err(Error::LayerCount { path: path(), layers: layers.len(), diff_ids: diff_ids.len() });
        }
        let layers = layers.into_iter().zip(diff_ids).map(|(blob, diff_id)| Layer { blob, diff_id });
        Ok(Some(Self {
            manifest: manifest.digest,
            config: config.digest,
            layers: layers.collect(),
            platform,
            configuration: value,
        }))
    }
}

/// Whether a manifest with these layers is of a container image: what else is kept in layouts has layers
/// of other types.
pub(in super::super) fn is_container(layers: &[Descriptor]) -> bool {
    layers.iter().all(|layer| layer.is_tar() || layer.is_erofs())
}

fn collect(
    layout: &Layout,
    descriptor: &Descriptor,
    selection: &Selection,
    depth: u32,
    images: &mut Vec<Image>,
) -> Result<(), Error> {
    if depth == 0 || !selection.admits(descriptor.platform.as_ref()) {
        return Ok(());
    }
    match Document::read(layout, descriptor)?.names {
        Names::Index { manifests } => manifests
            .iter()
            .try_for_each(|descriptor| collect(layout, descriptor, selection, depth - 1, images)),
        Names::Image { config, layers } => {
            images.extend(Image::read(layout, descriptor, &config, layers, selection)?);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_configuration_has_its_layers_where_they_are_written_again() {
        let read = |rootfs: Value| {
            Configuration::deserialize(json!({ "os": "linux", "architecture": "amd64", "rootfs": rootfs }))
                .map(|found| found.rootfs.diff_ids)
        };
        let diff_ids = [Digest::of(b"layer")];
        assert_eq!(read(json!({ "type": "layers", "diff_ids": diff_ids })).unwrap(), diff_ids);
        assert!(read(json!([diff_ids])).is_err(), "a list for a table");
    }
}
