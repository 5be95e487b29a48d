//! An image read back, written as a tar, and made an image again.

use std::collections::BTreeMap;

use nexuserofs::image::digest::Digest;
use nexuserofs::image::erofs::read::{Image, Limits};
use nexuserofs::image::erofs::{self, Writer};
use nexuserofs::image::tar::write::{Options, Summary, write};
use nexuserofs::image::tar::{self, read_layer};
use nexuserofs::image::tree::{DeviceNumber, Metadata, Node};
use proptest::prelude::*;

use crate::everything::everything;
use crate::independent;
use crate::listing;
use crate::random::any_sample;
use crate::sample::Sample;

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_image_survives_the_way_over_a_tar(sample in any_sample()) {
        let sample = as_read_from_tar(sample);
        let (tar, _) = as_tar(&sample.image());
        let image = as_image(&tar);
        independent::assert_shows(&image, &listing::expected(&sample.tree), &sample.probes());
        prop_assert!(as_tar(&image).0 == tar, "the tar of what was read from a tar is another");
    }
}

#[test]
fn everything_but_sockets_survives_and_two_tars_are_the_same() {
    let image = small_files(everything()).image();
    let (tar, summary) = as_tar(&image);
    assert!(as_tar(&image).0 == tar);
    let expected = as_read_from_tar(small_files(everything()));
    // One of the directories is opaque.
    assert_eq!(summary, Summary { entries: listing::expected(&expected.tree).len() as u64 + 1, sockets: 1 });
    independent::assert_shows(&as_image(&tar), &listing::expected(&expected.tree), &expected.probes());
}

fn as_tar(image: &[u8]) -> (Vec<u8>, Summary) {
    let read = Image::open(image, &Limits::default()).unwrap();
    let mut tar = Vec::new();
    let summary = write(&mut tar, read.tree(), &read, &Options::default()).unwrap();
    (tar, summary)
}

fn as_image(mut tar: &[u8]) -> Vec<u8> {
    let mut image = Vec::new();
    let mut writer = Writer::new(&mut image);
    let layer = read_layer(&mut tar, &mut writer, &tar::Limits::default()).unwrap();
    writer.finish(&layer.tree, erofs::uuid(&Digest::of(b"again"))).unwrap();
    image
}

/// What is left of a sample on the way over a tar: no sockets, links of mode 0777, and whiteouts without
/// metadata.
fn as_read_from_tar(mut sample: Sample) -> Sample {
    let sockets: Vec<bool> =
        sample.tree.inodes.iter().map(|inode| matches!(inode.node, Node::Socket)).collect();
    for inode in &mut sample.tree.inodes {
        match &mut inode.node {
            Node::Directory(directory) => {
                directory.entries.retain(|_, id| !sockets[id.0 as usize]);
            }
            Node::Symlink(_) => inode.metadata.mode = 0o777,
            Node::CharacterDevice(DeviceNumber { major: 0, minor: 0 }) => {
                inode.metadata = Metadata { xattrs: BTreeMap::new(), ..Metadata::default() };
            }
            _ => {}
        }
    }
    sample
}

/// The sample without files that no tar should have to hold.
fn small_files(mut sample: Sample) -> Sample {
    let large: Vec<bool> = sample
        .tree
        .inodes
        .iter()
        .map(|inode| matches!(&inode.node, Node::Regular(data) if data.size > 64 << 20))
        .collect();
    for inode in &mut sample.tree.inodes {
        if let Node::Directory(directory) = &mut inode.node {
            directory.entries.retain(|_, id| !large[id.0 as usize]);
        }
    }
    sample
}
