//! Images through the `erofs-rs` crate, an independent reader.

use std::collections::BTreeMap;

use erofs_rs::EroFS;
use erofs_rs::backend::SliceImage;
use erofs_rs::types::Inode;
use nexuserofs::image::erofs::Superblock;
use nexuserofs::image::tree::{Node, Tree};
use proptest::prelude::*;

use crate::everything::everything;
use crate::listing::{self, Facts, Listing, join};
use crate::random::any_sample;
use crate::sample::{Sample, metadata};

#[test]
fn everything_reads_back() {
    assert_reads_back(&everything());
}

#[test]
fn a_directory_of_50_000_entries_reads_back() {
    let mut sample = Sample::new();
    let directory = sample.directory(Tree::ROOT, b"many", metadata(0o755));
    for i in 0..50_000 {
        sample.add(directory, format!("entry number {i}").as_bytes(), metadata(0o644), Node::Fifo);
    }
    assert_reads_back(&sample);
}

#[test]
fn the_superblock_tells_size_and_count() {
    let image = everything().image();
    let superblock = Superblock::parse(&image).unwrap();
    assert_eq!(superblock.image_size(), image.len() as u64);
    assert_eq!(superblock.inodes, everything().tree.inodes.len() as u64);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn random_trees_read_back_and_are_the_same_twice(sample in any_sample()) {
        assert_reads_back(&sample);
        prop_assert!(sample.image() == sample.image());
    }
}

fn assert_reads_back(sample: &Sample) {
    let image = sample.image();
    let fs = EroFS::new(SliceImage::new(&image)).unwrap();
    let (listing, inodes) = list(&fs);
    let expected = listing::expected(sample);
    for (path, facts) in &expected {
        assert_eq!(listing.get(path), Some(facts), "{}", path.escape_ascii());
    }
    assert_eq!(listing.len(), expected.len());
    for probe in listing::probes(sample) {
        let file = fs.open_inode_file(inodes[&probe.path]).unwrap();
        let mut bytes = Vec::new();
        while bytes.len() < probe.bytes.len() {
            let mut part = vec![0; probe.bytes.len() - bytes.len()];
            let read = file.read_at(&mut part, probe.offset + bytes.len() as u64).unwrap();
            assert_ne!(read, 0, "{} ends early", probe.path.escape_ascii());
            bytes.extend_from_slice(&part[..read]);
        }
        assert!(bytes == probe.bytes, "{} at {}", probe.path.escape_ascii(), probe.offset);
    }
}

type Reader<'i> = EroFS<SliceImage<'i>>;

fn list(fs: &Reader<'_>) -> (Listing, BTreeMap<Vec<u8>, Inode>) {
    let root = fs.get_inode(fs.super_block().root_inode_id()).unwrap();
    let mut inodes = BTreeMap::from([(Vec::new(), root)]);
    for entry in fs.walk_dir("/").unwrap() {
        let entry = entry.unwrap();
        let directory = entry.dir_entry.path();
        let path = directory.as_bytes().strip_prefix(b"/").unwrap();
        inodes.insert(join(b"", path), entry.inode);
    }
    let mut listing: Listing = inodes.iter().map(|(path, inode)| (path.clone(), facts(fs, *inode))).collect();
    let nids = inodes.iter().map(|(path, inode)| (path.clone(), inode.id())).collect();
    listing::resolve_links(nids, &mut listing);
    (listing, inodes)
}

fn facts(fs: &Reader<'_>, inode: Inode) -> Facts {
    use std::os::unix::fs::PermissionsExt;
    let target = inode.is_symlink().then(|| fs.read_link_inode(inode).unwrap().into_vec());
    Facts {
        mode: inode.file_type().as_raw_mode() | inode.permissions().mode(),
        links: u64::from(inode.nlink()),
        owner: (inode.uid(), inode.gid()),
        mtime: inode.modified_unix(),
        device: inode.device(),
        size: (!inode.is_dir()).then(|| inode.data_size()),
        target,
        xattrs: fs.xattrs_inode(inode).unwrap(),
        same_as: Vec::new(),
    }
}
