//! Layers whose blocks are checked when they are read.

use std::fs;
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::sync::{Arc, Mutex};

use nexuserofs::expose::vhost_user::{Content, DamagedBlock, Disk, Tree, TreeBlock, TreePlace};
use nexuserofs::image::digest::Digest;
use nexuserofs::image::erofs::ImageSink;
use nexuserofs::image::erofs::owners::Owners;
use nexuserofs::image::extent::ExtentMap;
use nexuserofs::image::tree::BLOCK_SIZE as BLOCK;
use nexuserofs::image::verity::{Geometry, Leaves};
use nexuserofs_guest::verity::{BlockSize, Fields, Parameters, RootDigest, Salt};
use tempfile::NamedTempFile;

use crate::driver::Driver;
use crate::export::{Exported, file, part, pattern};

const EIO: i32 = -5;

struct Sink<'a>(&'a fs::File);

impl ImageSink for Sink<'_> {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }
}

/// A layer of so many blocks with its tree.
fn layer(seed: u64, blocks: u64) -> (NamedTempFile, Parameters, Geometry) {
    let data = pattern(seed, blocks * BLOCK);
    let layer = file(&data);
    let mut leaves = Leaves::default();
    leaves.write(0, &data).unwrap();
    let tree = leaves.into_tree(blocks).unwrap();
    tree.write([1; 16], &mut Sink(layer.as_file())).unwrap();
    (layer, parameters(tree.root(), blocks), tree.geometry())
}

fn parameters(root: Digest, blocks: u64) -> Parameters {
    let fields = Fields {
        root_digest: RootDigest::Sha256(*root.as_bytes()),
        salt: Salt::zeros(),
        data_block_size: BlockSize::PAGE,
        hash_block_size: BlockSize::PAGE,
        data_blocks: NonZeroU64::new(blocks).unwrap(),
        hash_start_block: blocks + 1,
    };
    Parameters::new(fields).unwrap()
}

/// What was reported.
type Reports = Arc<Mutex<Vec<DamagedBlock>>>;

/// A disk of a sector of zeros, so that no block lies on a border of the disk's, and these layers with their trees.
fn disk(layers: &[(&NamedTempFile, &Parameters)]) -> (Disk, Reports) {
    let reports = Reports::default();
    let mut map = ExtentMap::new();
    map.push_zeros(512).unwrap();
    let parts = layers.iter().enumerate().map(|(number, (layer, parameters))| {
        map.push_file(number, 0, layer.as_file().metadata().unwrap().len()).unwrap();
        let mut part = part(layer.path());
        part.tree = Some(Tree { parameters: (*parameters).clone(), place: TreePlace::Behind });
        part
    });
    let parts = parts.collect();
    let into = Arc::clone(&reports);
    let report = move |block: &DamagedBlock| into.lock().unwrap().push(block.clone());
    (Disk::image(map, parts, report).unwrap(), reports)
}

#[test]
fn whole_layers_read_as_ever_the_first_time_and_later() {
    let ((first, of_first, _), (second, of_second, _)) = (layer(1, 300), layer(2, 1));
    let mut expected = vec![0; 512];
    expected.extend(fs::read(first.path()).unwrap());
    expected.extend(fs::read(second.path()).unwrap());
    let (disk, reports) = disk(&[(&first, &of_first), (&second, &of_second)]);
    let exported = Exported::new(disk, 1);
    let mut driver = Driver::connect(&exported.socket(), 1, 128);
    // Pieces that begin and end within blocks, then all, part of it for the second time.
    for (start, length) in
        [(512, 512), (1024, 8192), (512 * 77, 512 * 99), (0, expected.len()), (0, expected.len())]
    {
        driver.put(0, &vec![0xee; length]);
        assert_eq!(driver.read(0, start as u64, length), 0);
        assert!(driver.get(0, length) == expected[start..start + length], "{start} {length}");
    }
    assert_eq!(reports.lock().unwrap().len(), 0);
}

#[test]
fn a_damaged_block_is_an_error_and_is_reported_once() {
    let (layer, parameters, _) = layer(1, 300);
    let original = fs::read(layer.path()).unwrap();
    layer.as_file().write_all_at(&[original[200 * 4096 + 9] ^ 1], 200 * BLOCK + 9).unwrap();
    let (disk, reports) = disk(&[(&layer, &parameters)]);
    let exported = Exported::new(disk, 1);
    let mut driver = Driver::connect(&exported.socket(), 1, 128);
    driver.put(0, &[0xee; 8192]);
    for _ in 0..3 {
        // Its last sector alone, which is as it was.
        assert_eq!(driver.read(0, 512 + 200 * BLOCK + 3584, 512), EIO);
        assert_eq!(driver.read(0, 512 + 200 * BLOCK, 4096), EIO);
    }
    assert_eq!(driver.get(0, 4096), [0xee; 4096], "nothing of it reaches the guest");
    for block in [199, 201] {
        assert_eq!(driver.read(0, 512 + block * BLOCK, 4096), 0);
        assert!(driver.get(0, 4096) == original[(block * BLOCK) as usize..][..4096]);
    }
    // What is in this layer is no image, so nothing can be told of files.
    let report = DamagedBlock {
        content: Content::Layer,
        file: layer.path().to_owned(),
        offset: 200 * BLOCK,
        tree: None,
        owners: Owners::default(),
    };
    assert_eq!(*reports.lock().unwrap(), [report]);
    let counts = exported.counters.counts();
    assert_eq!((counts.damaged, counts.reads.errors), (6, 6));
}

#[test]
fn damaged_blocks_among_the_parts_of_a_read_are_one_error() {
    let (layer, parameters, _) = layer(1, 300);
    let original = fs::read(layer.path()).unwrap();
    // In its first part, and in its last.
    for block in [20, 250] {
        layer.as_file().write_all_at(&[original[block * 4096] ^ 1], block as u64 * BLOCK).unwrap();
    }
    let (disk, reports) = disk(&[(&layer, &parameters)]);
    let exported = Exported::new(disk, 1);
    let mut driver = Driver::connect(&exported.socket(), 1, 128);
    let length = 256 << 12;
    for _ in 0..3 {
        driver.submit_read(0, 512, &[(0, length)], 0);
        driver.submit_read(0, 512, &[(length, length)], 1);
        driver.submit_read(0, 512, &[(2 * length, 20 << 12)], 2);
        driver.kick(0);
        assert_eq!([driver.wait(0), driver.wait(0), driver.wait(0)], [(0, EIO), (1, EIO), (2, 0)]);
    }
    let found: Vec<_> = reports.lock().unwrap().iter().map(|report| report.offset / BLOCK).collect();
    assert!(found == [20, 250] || found == [250, 20], "{found:?}");
    let counts = exported.counters.counts();
    assert_eq!((counts.damaged, counts.reads.errors, counts.reads.requests), (6, 6, 9));
}

#[test]
fn a_damaged_tree_hides_what_it_covers() {
    let (layer, parameters, geometry) = layer(1, 300);
    let leaf = geometry.levels()[0].offset + BLOCK;
    layer.as_file().write_all_at(&[0xff; 8], leaf).unwrap();
    let (disk, reports) = disk(&[(&layer, &parameters)]);
    let exported = Exported::new(disk, 1);
    let mut driver = Driver::connect(&exported.socket(), 1, 128);
    for (block, result) in [(0, 0), (127, 0), (128, EIO), (255, EIO), (256, 0), (299, 0)] {
        assert_eq!(driver.read(0, 512 + block * BLOCK, 4096), result, "{block}");
    }
    let reports = reports.lock().unwrap();
    let found: Vec<_> = reports.iter().map(|report| (report.offset / BLOCK, report.tree.clone())).collect();
    let tree = TreeBlock { file: layer.path().to_owned(), offset: leaf };
    assert_eq!(found, [(128, Some(tree.clone())), (255, Some(tree))]);
}

#[test]
fn a_layer_that_was_replaced_does_not_fill_the_log() {
    let (layer, parameters, geometry) = layer(1, 1100);
    let other = pattern(2, geometry.hash_offset());
    layer.as_file().write_all_at(&other, 0).unwrap();
    let (disk, reports) = disk(&[(&layer, &parameters)]);
    let exported = Exported::new(disk, 1);
    let mut driver = Driver::connect(&exported.socket(), 1, 128);
    for block in 0..1100 {
        assert_eq!(driver.read(0, 512 + block * BLOCK, 4096), EIO, "{block}");
    }
    assert_eq!(reports.lock().unwrap().len(), 1024);
    assert_eq!(exported.counters.counts().damaged, 1100);
}

/// A layer that the operator's tool made, with `/one` of 200 blocks and `/two` of 100.
fn built() -> (NamedTempFile, Parameters) {
    let place = tempfile::tempdir().unwrap();
    let tar = place.path().join("layer.tar");
    let mut archive = tar::Builder::new(fs::File::create(&tar).unwrap());
    for (name, byte, blocks) in [("one", 1, 200), ("two", 2, 100)] {
        let mut header = tar::Header::new_ustar();
        header.set_size(blocks * BLOCK);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, &*vec![byte; (blocks * BLOCK) as usize]).unwrap();
    }
    archive.into_inner().unwrap();
    let mut tool = Command::new(env!("CARGO_BIN_EXE_nexuserofs"));
    let output =
        tool.args(["build", "--json", "--verity", "--output"]).arg(place.path()).arg(&tar).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let path = lines[0]["file"].as_str().unwrap();
    let sidecar = fs::read(format!("{path}.dmverity")).unwrap();
    let sidecar: serde_json::Value = serde_json::from_slice(&sidecar).unwrap();
    let root = format!("sha256:{}", sidecar["roothash"].as_str().unwrap());
    let blocks = sidecar["hashoffset"].as_u64().unwrap() / BLOCK;
    (file(&fs::read(path).unwrap()), parameters(root.parse().unwrap(), blocks))
}

#[test]
fn a_damaged_block_is_told_with_the_file_that_it_belongs_to() {
    let (layer, parameters) = built();
    let bytes = fs::read(layer.path()).unwrap();
    // The first block that is all of `/two`.
    let block =
        bytes.chunks(BLOCK as usize).position(|block| block.iter().all(|byte| *byte == 2)).unwrap() as u64;
    layer.as_file().write_all_at(&[3], (block + 7) * BLOCK).unwrap();
    let (disk, reports) = disk(&[(&layer, &parameters)]);
    let exported = Exported::new(disk, 1);
    let mut driver = Driver::connect(&exported.socket(), 1, 128);
    assert_eq!(driver.read(0, 512 + (block + 6) * BLOCK, 8192), EIO);
    let reports = reports.lock().unwrap();
    assert_eq!((reports.len(), reports[0].offset), (1, (block + 7) * BLOCK));
    assert_eq!(reports[0].owners.to_string(), "data of /two");
}
