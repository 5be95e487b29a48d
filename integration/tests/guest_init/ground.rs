//! What the boots share: machines, and the layers of two images.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::Result;
use nexuserofs::diff::offline;
use nexuserofs::expose::device::{self, Carrier, Chain, Form, Layout};
use nexuserofs::image::gpt::Style;
use nexuserofs::layer::chain::shelf::IMAGE_NAME;
use nexuserofs::layer::{HashTree, LayerRecord};
use nexuserofs::store::staging::StagingArea;
use nexuserofs::trust;
use nexuserofs_guest::manifest::{Manifest, Platform};
use nexuserofs_integration::cache::Cache;
use nexuserofs_integration::guest::Release;
use nexuserofs_integration::guest::disk::Disk;
use nexuserofs_integration::guest::image_init::Machine;
use nexuserofs_integration::host::TestHost;
use nexuserofs_integration::images::tiny::TinyTar;
use nexuserofs_integration::images::{Image, shell};
use nexuserofs_integration::progress::{Lines, Steps};
use tempfile::TempDir;

use crate::merged_chain;

/// As many layers as a GPT has entries.
pub(crate) const MANY: usize = 128;

/// A layer's file and its record.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    pub(crate) file: PathBuf,
    pub(crate) record: LayerRecord,
}

/// What all tests share.
pub(crate) struct Ground {
    new: Machine,
    old: Machine,
    /// An image with a shell, of two layers, and on it layers of a few files each, [`MANY`] in all.
    layers: Vec<Layer>,
    scratch: TempDir,
}

impl Ground {
    pub(crate) fn prepare() -> Result<Self> {
        let (cache, steps) = (Cache::open()?, Steps::new(&Lines));
        let machine = |release| Machine::prepare(&cache, release, &steps);
        let (new, old) = (machine(Release::Linux6_12)?, machine(Release::Linux6_1)?);
        let host = TestHost::prepare(&cache, &steps)?;
        let image = steps.run("image shell", || shell::make(&cache, &host.root))?;
        let scratch = tempfile::tempdir()?;
        let layers = layers(&image, scratch.path())?;
        Ok(Self { new, old, layers, scratch })
    }

    /// The machine with this kernel.
    pub(crate) const fn machine(&self, release: Release) -> &Machine {
        match release {
            Release::Linux6_12 => &self.new,
            Release::Linux6_1 => &self.old,
        }
    }

    /// The layers of the image with a shell, oldest first.
    pub(crate) fn shell(&self) -> &[Layer] {
        self.many(SHELL)
    }

    /// The first so many layers, oldest first.
    pub(crate) fn many(&self, count: usize) -> &[Layer] {
        &self.layers[..count]
    }

    /// A disk whose partitions are these layers, as Kata's runtime makes it.
    pub(crate) fn partitioned(&self, serial: &str, layers: &[Layer]) -> Result<Disk> {
        let home = self.scratch.path().join(serial);
        disk(&home, Layout::Partitions(Style::Kata), None, layers, serial)
    }

    /// A disk with these layers merged and one hash tree, and the manifest that lists it.
    pub(crate) fn merged(&self, serial: &str, layers: &[Layer]) -> Result<(Disk, Manifest)> {
        let home = tempfile::tempdir_in(self.scratch.path())?.keep();
        let metadata = home.join(IMAGE_NAME);
        let files = layers.iter().map(|layer| (layer.file.clone(), layer.record.verity));
        let built = merged_chain::merge(&metadata, files)?;
        let disk = disk(&home, Layout::Verified, Some(&metadata), layers, serial)?;
        Ok((disk, trust::merged(&list(layers)?, &built.outcome)?))
    }
}

/// The list of these layers.
pub(crate) fn list(layers: &[Layer]) -> Result<Manifest> {
    let records: Vec<LayerRecord> = layers.iter().map(|layer| layer.record.clone()).collect();
    let platform = Platform { os: "linux".parse()?, architecture: "amd64".parse()?, variant: None };
    Ok(trust::list(&records, None, platform)?)
}

fn disk(
    home: &Path,
    layout: Layout,
    metadata: Option<&Path>,
    layers: &[Layer],
    serial: &str,
) -> Result<Disk> {
    let staging = home.join("staging");
    fs::create_dir_all(&staging)?;
    let layers: Vec<PathBuf> = layers.iter().map(|layer| layer.file.clone()).collect();
    let chain = Chain { home, metadata, layers: &layers };
    let form = Form { layout, carrier: Carrier::Vmdk };
    let made = device::make(form, chain, &StagingArea::new(staging), &mut |_| {})?;
    Ok(Disk::of("vmdk", serial, made.path))
}

/// How many layers the image with a shell has.
const SHELL: usize = 2;

fn layers(image: &Image, directory: &Path) -> Result<Vec<Layer>> {
    let mut layers = Vec::new();
    for layer in image.layers()? {
        let blob = image.layout.join("blobs").join(layer.blob.digest.replace(':', "/"));
        layers.push(convert(directory, layers.len(), &fs::read(blob)?)?);
    }
    assert_eq!(layers.len(), SHELL);
    for index in SHELL..MANY {
        let tar = TinyTar::new().directory("own/", 0o755)?;
        let tar = tar.file(&format!("own/{index}"), b"")?.file("newest", index.to_string().as_bytes())?;
        layers.push(convert(directory, index, &tar.finish()?.blob)?);
    }
    Ok(layers)
}

fn convert(directory: &Path, index: usize, mut blob: &[u8]) -> Result<Layer> {
    // The name of the directory becomes a part of the partition's.
    let home = directory.join(format!("layer-{index}"));
    fs::create_dir(&home)?;
    let file = home.join("layer.erofs");
    let record = offline::convert(&mut blob, &file, HashTree::With)?.record;
    Ok(Layer { file, record })
}

/// A copy with one bit changed in the EROFS superblock, which mounting reads.
pub(crate) fn damaged(directory: &Path, index: usize, layer: &Layer) -> Result<PathBuf> {
    use std::os::unix::fs::FileExt as _;
    let path = directory.join(format!("damaged-{index}.erofs"));
    fs::copy(&layer.file, &path)?;
    let file = File::options().read(true).write(true).open(&path)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, 1024 + 64)?;
    file.write_all_at(&[byte[0] ^ 1], 1024 + 64)?;
    Ok(path)
}
