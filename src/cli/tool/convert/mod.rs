//! `nexuserofs convert`: images whose layers are EROFS images already.
//!
//! Media types, diffIDs and `os.features` are those of containerd's converter
//! (`core/images/converter/erofs`, containerd 2.3), so its snapshotter and ours take the result.
//!
//! * `place`: where images come from and go to. * `layer`: the blob of a layer. * `rewrite`: manifests and configurations that name other layers.
//! * `line`: what is printed.

mod layer;
mod line;
mod place;
mod rewrite;

use std::collections::BTreeMap;

use self::layer::Native;
use self::line::Converted;
use self::place::{Destination, Origin};
use self::rewrite::Features;
use super::arguments::Convert;
use super::error::Error;
use super::oci::image::{DEPTH, Layer, Names, is_container};
use super::oci::{Descriptor, Document, Image, Layout, LayoutWriter, Selection};
use super::progress::Progress;
use super::report::{Console, Report};
use crate::cli::exit::Exit;
use crate::image::digest::Digest;

/// Writes a layout with native images of those that `asked` names.
pub(super) fn run(asked: &Convert, console: Console) -> Result<Exit, Error> {
    let Origin { source, selection } = Origin::open(asked)?;
    let destination = Destination::choose(asked)?;
    let entries = selection.entries(&source)?;
    let mut conversion = Conversion {
        progress: Progress::of_bytes(layers_length(&source, &selection)?, console),
        writer: destination.writer()?,
        source,
        selection,
        compress: asked.zstd,
        features: if asked.without_os_features { Features::Untold } else { Features::Told },
        layers: BTreeMap::new(),
        report: Report::default(),
    };
    let mut manifests = Vec::new();
    for entry in &entries {
        manifests.extend(conversion.convert(entry, DEPTH)?);
    }
    let Conversion { writer, report, source, layers, .. } = conversion;
    if manifests.is_empty() {
        return Err(Error::NoImages { path: source.path().to_owned() });
    }
    let diff_ids = layers.into_values().map(|native| (native.blob.digest, native.diff_id)).collect();
    destination.publish(writer, &manifests, diff_ids)?;
    report.print(console)?;
    Ok(Exit::Success)
}

/// Bytes of the layers that are to be read, as far as manifests tell.
fn layers_length(source: &Layout, selection: &Selection) -> Result<u64, Error> {
    let images = Image::all(source, selection)?;
    let layers = images.into_iter().flat_map(|image| image.layers);
    let each: BTreeMap<Digest, u64> =
        layers.map(|layer| (layer.blob.digest, layer.blob.size.unwrap_or(0))).collect();
    Ok(each.values().sum())
}

/// A layout on its way into another.
struct Conversion {
    source: Layout,
    selection: Selection,
    writer: LayoutWriter,
    /// Whether the layers are compressed.
    compress: bool,
    features: Features,
    progress: Progress,
    /// Layers that were converted, by the blob that they were made of.
    layers: BTreeMap<Digest, Native>,
    report: Report<Converted>,
}

impl Conversion {
    /// Converts what a descriptor leads to; `None` if nothing of it is meant, or is an image.
    fn convert(&mut self, descriptor: &Descriptor, depth: u32) -> Result<Option<Descriptor>, Error> {
        if depth == 0 || !self.selection.admits(descriptor.platform.as_ref()) {
            return Ok(None);
        }
        let document = Document::read(&self.source, descriptor)?;
        match document.names.clone() {
            Names::Index { manifests } => self.convert_index(descriptor, document, &manifests, depth),
            Names::Image { config, layers } => {
                layers.iter().try_for_each(|layer| self.refuse_encrypted(layer))?;
                if is_container(&layers) {
                    self.convert_image(descriptor, document, &config, layers)
                } else {
                    // A signature or a list of contents is about the image that was, not the one that will be.
                    self.report.add(Converted::left_out(descriptor));
                    Ok(None)
                }
            }
        }
    }

    fn convert_index(
        &mut self,
        descriptor: &Descriptor,
        document: Document,
        manifests: &[Descriptor],
        depth: u32,
    ) -> Result<Option<Descriptor>, Error> {
        let mut converted = Vec::new();
        for manifest in manifests {
            converted.extend(self.convert(manifest, depth - 1)?);
        }
        if converted.is_empty() {
            return Ok(None);
        }
        let index = rewrite::index(document.value, &converted);
        let written = self.writer.add_document(super::oci::INDEX_TYPE, &index)?;
        Ok(Some(written.with_annotations(descriptor.annotations.clone())))
    }

    fn convert_image(
        &mut self,
        descriptor: &Descriptor,
        document: Document,
        config: &Descriptor,
        layers: Vec<Descriptor>,
    ) -> Result<Option<Descriptor>, Error> {
        let Some(image) = Image::read(&self.source, descriptor, config, layers, &self.selection)? else {
            return Ok(None);
        };
        let mut natives = Vec::with_capacity(image.layers.len());
        for layer in &image.layers {
            natives.push(self.native(layer)?);
        }
        let platform =
            rewrite::platform(descriptor.platform.clone().unwrap_or(image.platform), self.features);
        let configuration = rewrite::configuration(image.configuration, &natives, self.features);
        let config = self.writer.add_document(super::oci::CONFIG_TYPE, &configuration)?;
        let manifest = rewrite::manifest(document.value, &config, &natives);
        let written = self.writer.add_document(super::oci::MANIFEST_TYPE, &manifest)?;
        self.report.add(Converted::image(descriptor, &written, &platform));
        let written = written.with_annotations(descriptor.annotations.clone());
        Ok(Some(Descriptor { platform: Some(platform), ..written }))
    }

    /// The native form of a layer, which is made once.
    fn native(&mut self, layer: &Layer) -> Result<Native, Error> {
        if let Some(native) = self.layers.get(&layer.blob.digest) {
            return Ok(native.clone());
        }
        self.progress.name(&self.source.blob_name(&layer.blob.digest));
        let native = if layer.blob.is_erofs() {
            layer::keep(&self.source, layer, &self.writer, &self.progress)?
        } else {
            layer::make(&self.source, layer, &self.writer, self.compress, &self.progress)?
        };
        self.report.add(Converted::layer(&layer.blob, &native));
        self.layers.insert(layer.blob.digest, native.clone());
        Ok(native)
    }

    fn refuse_encrypted(&self, layer: &Descriptor) -> Result<(), Error> {
        match layer.media_type.ends_with("+encrypted") {
            true => Err(Error::Encrypted { path: self.source.blob_name(&layer.digest) }),
            false => Ok(()),
        }
    }
}
