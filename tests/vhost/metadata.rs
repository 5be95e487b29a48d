//! Merged layers on one disk, whose metadata is checked against the tree over all of it when it is read.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use nexuserofs::expose::vhost_user::{Content, DamagedBlock, Disk, Error, Part, Tree, TreeBlock, TreePlace};
use nexuserofs::image::digest::Digest;
use nexuserofs::image::extent::ExtentMap;
use nexuserofs::image::merged::{self, verity::Hashed};
use nexuserofs::image::tree::BLOCK_SIZE as BLOCK;
use nexuserofs::image::verity;
use nexuserofs::layer::chain::{self, Outcome};
use nexuserofs::layer::{HashTree, Verity, build};
use tempfile::TempDir;

use crate::driver::Driver;
use crate::export::Exported;

const EIO: i32 = -5;

/// Files in each layer. With names of 200 bytes the metadata has several hundred blocks, more than a block of the tree
/// covers.
const FILES: usize = 1500;

/// Three layers with hash trees, merged.
struct Image {
    place: TempDir,
    layers: Vec<(PathBuf, Verity)>,
    verity: Verity,
}

impl Image {
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        let layers: Vec<_> = ["a", "b", "c"].map(|name| layer(place.path(), name)).into();
        let verity = merge(place.path(), &layers);
        Self { place, layers, verity }
    }

    fn metadata(&self) -> PathBuf {
        self.place.path().join("fsmeta.erofs")
    }

    fn tree(&self) -> PathBuf {
        self.place.path().join("merged.verity")
    }

    /// Number of blocks of metadata.
    fn blocks(&self) -> u64 {
        fs::metadata(self.metadata()).unwrap().len() / BLOCK
    }

    /// What the disk holds.
    fn bytes(&self) -> Vec<u8> {
        let files = std::iter::once(self.metadata()).chain(self.layers.iter().map(|(path, _)| path.clone()));
        files.flat_map(|path| fs::read(path).unwrap()).collect()
    }

    /// The disk, and what is reported of it.
    fn disk(&self) -> Result<(Disk, Reports), Error> {
        let apart = TreePlace::Apart { file: File::open(self.tree()).unwrap(), path: self.tree() };
        let mut parts = vec![part(&self.metadata(), &self.verity, apart)];
        parts.extend(self.layers.iter().map(|(path, verity)| part(path, verity, TreePlace::Behind)));
        let mut map = ExtentMap::new();
        for (number, part) in parts.iter().enumerate() {
            map.push_file(number, 0, part.file.metadata().unwrap().len()).unwrap();
        }
        let reports = Reports::default();
        let into = Arc::clone(&reports);
        let disk = Disk::image(map, parts, move |block| into.lock().unwrap().push(block.clone()))?;
        Ok((disk, reports))
    }
}

/// What was reported.
type Reports = Arc<Mutex<Vec<DamagedBlock>>>;

fn part(path: &Path, verity: &Verity, place: TreePlace) -> Part {
    let tree = Some(Tree { parameters: verity.parameters().unwrap(), place });
    Part { file: File::open(path).unwrap(), path: path.to_owned(), tree }
}

/// A layer with files of its own, and one that the layers above replace.
fn layer(place: &Path, name: &str) -> (PathBuf, Verity) {
    let mut archive = tar::Builder::new(Vec::new());
    let own = (0..FILES).map(|number| format!("{name}{number:0>199}"));
    for path in own.chain(["same".to_owned()]) {
        let mut header = tar::Header::new_ustar();
        header.set_size(3);
        header.set_mode(0o644);
        archive.append_data(&mut header, path, &b"abc"[..]).unwrap();
    }
    let tar = archive.into_inner().unwrap();
    let path = place.join(format!("{name}.erofs"));
    let built = build::read(&mut tar.as_slice(), &path, HashTree::With).unwrap();
    let verity = built.seal(&Digest::of(&tar)).unwrap().verity.unwrap();
    (path, verity)
}

/// Merges layers into the files that a chain has, and returns the tree over all of it.
fn merge(place: &Path, layers: &[(PathBuf, Verity)]) -> Verity {
    let part = |(path, verity): &(PathBuf, Verity)| chain::Part {
        path: path.clone(),
        bytes: fs::metadata(path).unwrap().len(),
        verity: Some(*verity),
    };
    let built = chain::build(&layers.iter().map(part).collect::<Vec<_>>()).unwrap();
    let Outcome::Merged { verity, .. } = built.outcome else { panic!("{:?}", built.outcome) };
    fs::write(place.join("fsmeta.erofs"), &built.image).unwrap();
    fs::write(place.join("merged.verity"), &built.tree).unwrap();
    verity.unwrap()
}

/// Changes one byte of a file.
fn damage(path: &Path, offset: u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 1], offset).unwrap();
}

fn connect(exported: &Exported) -> Driver {
    Driver::connect(&exported.socket(), 1, 128)
}

#[test]
fn a_good_disk_reads_as_its_files_the_first_time_and_later() {
    let image = Image::new();
    assert!(image.blocks() > 256, "too few blocks of the tree cover all {} blocks", image.blocks());
    let expected = image.bytes();
    let (disk, reports) = image.disk().unwrap();
    let exported = Exported::new(disk, 1);
    let mut driver = connect(&exported);
    // Over the seam of metadata and first layer, in pieces that begin within blocks, then everything twice.
    let seam = (image.blocks() * BLOCK) as usize;
    let pieces = [(seam - 512, 1024), (512, 8192), (seam + 3584, 4096)];
    let all =
        || (0..expected.len()).step_by(1 << 20).map(|start| (start, (expected.len() - start).min(1 << 20)));
    for (start, length) in pieces.into_iter().chain(all()).chain(all()) {
        driver.put(0, &vec![0xee; length]);
        assert_eq!(driver.read(0, start as u64, length), 0, "{start}");
        assert!(driver.get(0, length) == expected[start..start + length], "{start} {length}");
    }
    assert_eq!(*reports.lock().unwrap(), []);
}

#[test]
fn a_changed_block_of_metadata_is_an_error_and_is_told_with_its_place() {
    let image = Image::new();
    let expected = image.bytes();
    let last = image.blocks() - 1;
    for (block, within) in [(0, 1024), (image.blocks() / 2, 4095), (last, 0)] {
        damage(&image.metadata(), block * BLOCK + within);
        let (disk, reports) = image.disk().unwrap();
        let exported = Exported::new(disk, 1);
        let mut driver = connect(&exported);
        driver.put(0, &[0xee; 4096]);
        for _ in 0..2 {
            assert_eq!(driver.read(0, block * BLOCK, 4096), EIO, "{block}");
        }
        assert_eq!(driver.get(0, 4096), [0xee; 4096], "nothing of it reaches the guest");
        let neighbour = if block == 0 { 1 } else { block - 1 };
        assert_eq!(driver.read(0, neighbour * BLOCK, 4096), 0);
        assert!(driver.get(0, 4096) == expected[(neighbour * BLOCK) as usize..][..4096]);
        assert_eq!(driver.read(0, (last + 1) * BLOCK, 4096), 0, "the first layer is what it was");
        let reports = reports.lock().unwrap();
        let [DamagedBlock { content: Content::MergedMetadata, file, offset, tree: None, .. }] = &reports[..]
        else {
            panic!("{reports:?}")
        };
        assert_eq!((file, *offset), (&image.metadata(), block * BLOCK));
        assert_eq!(exported.counters.counts().damaged, 2);
        damage(&image.metadata(), block * BLOCK + within);
    }
}

#[test]
fn a_changed_tree_hides_the_metadata_that_it_covers() {
    let image = Image::new();
    let geometry = image.verity.geometry();
    // The digests of blocks 128 to 255 of the device. The tree's file begins where the device's tree does.
    let leaf = geometry.levels()[0].offset + BLOCK - geometry.hash_offset();
    damage(&image.tree(), leaf + 40);
    let (disk, reports) = image.disk().unwrap();
    let exported = Exported::new(disk, 1);
    let mut driver = connect(&exported);
    for (block, result) in [(0, 0), (127, 0), (128, EIO), (255, EIO), (256, 0), (image.blocks(), 0)] {
        assert_eq!(driver.read(0, block * BLOCK, 4096), result, "{block}");
    }
    let reports = reports.lock().unwrap();
    let expected = Some(TreeBlock { file: image.tree(), offset: leaf });
    assert_eq!(reports.iter().map(|report| &report.tree).collect::<Vec<_>>(), [&expected, &expected]);
}

/// A sound tree over other metadata and the same layers.
fn tree_over(metadata: &[u8], layers: &[(PathBuf, Verity)]) -> verity::Tree {
    let files: Vec<Vec<u8>> = layers.iter().map(|(path, _)| fs::read(path).unwrap()).collect();
    let hashed = files.iter().zip(layers).map(|(file, (_, verity))| Hashed {
        file: file.as_slice(),
        bytes: file.len() as u64,
        geometry: verity.geometry(),
        root: verity.root(),
    });
    merged::verity::tree(metadata, &hashed.collect::<Vec<_>>()).unwrap()
}

#[test]
fn metadata_and_tree_of_another_root_are_not_believed() {
    let image = Image::new();
    let mut bytes = fs::read(image.metadata()).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    let other = tree_over(&bytes, &image.layers);
    assert_ne!(other.root(), image.verity.root());
    fs::write(image.metadata(), &bytes).unwrap();
    fs::write(image.tree(), merged::verity::encode(&other, [1; 16]).unwrap()).unwrap();
    let (disk, reports) = image.disk().unwrap();
    let exported = Exported::new(disk, 1);
    let mut driver = connect(&exported);
    for block in [0, image.blocks() / 2, image.blocks() - 1] {
        assert_eq!(driver.read(0, block * BLOCK, 4096), EIO, "{block}");
    }
    assert_eq!(driver.read(0, image.blocks() * BLOCK, 4096), 0, "layers have trees of their own");
    // What is wrong is the block at the top, of which the root hash is the digest.
    let top = Some(TreeBlock { file: image.tree(), offset: BLOCK });
    assert!(reports.lock().unwrap().iter().all(|report| report.tree == top));
    assert_eq!(reports.lock().unwrap().len(), 3);
}

#[test]
fn a_tree_over_something_else_is_refused() {
    let image = Image::new();
    let whole = fs::read(image.tree()).unwrap();
    fs::write(image.tree(), &whole[..whole.len() - BLOCK as usize]).unwrap();
    let error = image.disk().unwrap_err();
    assert!(matches!(&error, Error::OtherTree { tree, .. } if *tree == image.tree()), "{error}");
    fs::write(image.tree(), &whole).unwrap();
    image.disk().unwrap();
    let metadata = File::options().append(true).open(image.metadata()).unwrap();
    metadata.set_len(image.blocks() * BLOCK + 512).unwrap();
    assert!(matches!(image.disk(), Err(Error::OtherTree { .. })), "half a block would not be checked");
}
