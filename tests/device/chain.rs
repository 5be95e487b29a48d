//! Layers on a disk, and the devices that are made of them.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nexuserofs::expose::device::{self, Carrier, Chain, Device, Error, Form, Layout};
use nexuserofs::image::gpt::Style;
use nexuserofs::store::staging::StagingArea;
use tempfile::TempDir;

/// Every form that a merged chain can have.
pub(crate) const FORMS: [Form; 8] = [
    Form { layout: Layout::Merged, carrier: Carrier::Vmdk },
    Form { layout: Layout::Merged, carrier: Carrier::Flat },
    Form { layout: Layout::Verified, carrier: Carrier::Vmdk },
    Form { layout: Layout::Verified, carrier: Carrier::Flat },
    Form { layout: Layout::Partitions(Style::Kata), carrier: Carrier::Vmdk },
    Form { layout: Layout::Partitions(Style::Kata), carrier: Carrier::Flat },
    Form { layout: Layout::Partitions(Style::Nerdbox), carrier: Carrier::Vmdk },
    Form { layout: Layout::Partitions(Style::Nerdbox), carrier: Carrier::Flat },
];

/// A directory with `layers/KEY/layer.erofs`, `chain/fsmeta.erofs`, `chain/merged.verity` and `staging`. Nothing here looks into a
/// layer, so that any bytes do.
pub(crate) struct OnDisk {
    directory: TempDir,
    metadata: Option<PathBuf>,
    pub(crate) layers: Vec<PathBuf>,
}

impl OnDisk {
    /// Layers of so many bytes, oldest first, with merged metadata of one block and a tree of two.
    pub(crate) fn new(sizes: &[u64]) -> Self {
        Self::in_directory(tempfile::tempdir().unwrap(), sizes)
    }

    /// The same in a directory that is there.
    pub(crate) fn in_directory(directory: TempDir, sizes: &[u64]) -> Self {
        let at = |name: &str| directory.path().join(name);
        fs::create_dir(at("staging")).unwrap();
        fs::create_dir(at("chain")).unwrap();
        let metadata = at("chain/fsmeta.erofs");
        write(&metadata, 0, 4096);
        write(&at("chain/merged.verity"), 77, 8192);
        let layer = |(index, size): (usize, &u64)| {
            let path = at(&format!("layers/v1-{index:032x}/layer.erofs"));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            write(&path, index + 1, *size);
            path
        };
        let layers = sizes.iter().enumerate().map(layer).collect();
        Self { directory, metadata: Some(metadata), layers }
    }

    /// The same layers, which nobody merged.
    pub(crate) fn not_merged(self) -> Self {
        Self { metadata: None, ..self }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The chain's directory.
    pub(crate) fn home(&self) -> PathBuf {
        self.path().join("chain")
    }

    pub(crate) fn make(&self, form: Form) -> Result<Device, Error> {
        let home = self.home();
        let chain = Chain { home: &home, metadata: self.metadata.as_deref(), layers: &self.layers };
        device::make(form, chain, &StagingArea::new(self.path().join("staging")), &mut |_| {})
    }

    /// What a small device is to hold, as bytes, and where each layer is on it, oldest first.
    pub(crate) fn expected(&self, layout: Layout) -> Vec<u8> {
        let layers = self.layers.iter().map(|path| fs::read(path).unwrap());
        match layout {
            Layout::Merged => {
                let metadata = self.metadata.iter().map(|path| fs::read(path).unwrap());
                metadata.chain(layers).flatten().collect()
            }
            Layout::Verified => {
                let tree = fs::read(self.home().join("merged.verity")).unwrap();
                [self.expected(Layout::Merged), tree].concat()
            }
            Layout::Partitions(style) => {
                // Without the head, which `partitions` looks at.
                let mut bytes = vec![0; 1 << 20];
                for layer in layers.rev() {
                    bytes.resize(bytes.len().next_multiple_of(1 << 20), 0);
                    bytes.extend(layer);
                }
                if style == Style::Nerdbox {
                    bytes.resize(bytes.len().next_multiple_of(1 << 20), 0);
                }
                bytes
            }
        }
    }
}

/// Fills a file with bytes of its own; of a large one, only the beginning and the end.
fn write(path: &Path, seed: usize, size: u64) {
    let file = fs::File::create(path).unwrap();
    file.set_len(size).unwrap();
    let part = size.min(8192);
    for offset in [0, size - part] {
        let byte = |at: u64| ((offset + at) * 7 / 3 + seed as u64 * 101) as u8;
        let bytes: Vec<u8> = (0..part).map(byte).collect();
        file.write_all_at(&bytes, offset).unwrap();
    }
}

/// The names in a directory, sorted.
pub(crate) fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
