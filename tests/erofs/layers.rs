//! The whole way of a layer: a random archive through the layer builder into a file, and that
//! through readers which share no code with it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;

use nexuserofs::image::digest::Digest;
use nexuserofs::image::tree::Tree;
use nexuserofs::image::verity::Leaves;
use nexuserofs::layer::HashTree;
use nexuserofs::layer::build::{self, Built};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use tempfile::TempDir;

use crate::archives::{Archived, any_archive};
use crate::{independent, listing, mounted};

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_layer_is_what_its_archive_describes(archived in any_archive()) {
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("layer.erofs");
        let bytes = archived.bytes();
        let built = build(&mut bytes.as_slice(), &bytes, &file);
        let image = fs::read(&file).unwrap();
        prop_assert_eq!(built.image_bytes, image.len() as u64);
        prop_assert_eq!(built.entries, archived.entries.len() as u64);
        check_root(&archived, &built)?;
        let Archived { sample, .. } = archived;
        independent::assert_shows(&image, &listing::expected(&sample.tree), &sample.probes());

        let verified = directory.path().join("verified");
        let with_tree = build_with(HashTree::With, &mut bytes.as_slice(), &bytes, &verified);
        check_tree(&image, &with_tree, &fs::read(&verified).unwrap());

        let again = directory.path().join("again");
        build(&mut BufReader::with_capacity(61, bytes.as_slice()), &bytes, &again);
        prop_assert!(fs::read(again).unwrap() == image, "the size of reads changes the image");
    }
}

#[test]
fn kernel_shows_what_archives_describe() {
    let mut runner = TestRunner::deterministic();
    for _ in 0..50 {
        let archived = any_archive().new_tree(&mut runner).unwrap().current();
        let (sample, bytes) = (&archived.sample, archived.bytes());
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("layer.erofs");
        build(&mut bytes.as_slice(), &bytes, &file);
        let (expected, probes) = (listing::expected(&sample.tree), sample.probes());
        if mounted::assert_shows("kernel_shows_what_archives_describe", &file, &expected, &probes).is_err() {
            return;
        }
    }
}

/// Builds the layer file of an archive with these bytes.
pub(crate) fn build(stream: &mut impl BufRead, archive: &[u8], file: &Path) -> Built {
    build_with(HashTree::Without, stream, archive, file)
}

/// The same, with or without a dm-verity tree.
pub(crate) fn build_with(tree: HashTree, stream: &mut impl BufRead, archive: &[u8], file: &Path) -> Built {
    build::read(stream, file, tree).unwrap().seal(&Digest::of(archive)).unwrap()
}

/// A tree changes nothing of the image, and is the one over the finished image.
fn check_tree(image: &[u8], built: &Built, file: &[u8]) {
    let verity = built.verity.unwrap();
    assert!(file.starts_with(image));
    assert_eq!((verity.image_size(), built.image_bytes), (image.len() as u64, file.len() as u64));
    let tree = Leaves::of(&mut &*image).unwrap().into_tree(image.len() as u64 / 4096).unwrap();
    assert_eq!(verity.root(), tree.root());
    let mut expected = image.to_vec();
    tree.write(verity.uuid(), &mut expected).unwrap();
    assert!(file == expected);
}

/// The attributes of the root are told if and only if an entry names it, without overlay's own.
fn check_root(archived: &Archived, built: &Built) -> Result<(), TestCaseError> {
    let mut metadata = archived.sample.tree.inode(Tree::ROOT).metadata.clone();
    let is_named = !metadata.xattrs.contains_key(nexuserofs::image::tar::XATTR_IMPLICIT);
    metadata.xattrs.retain(|name, _| !name.starts_with(b"trusted.overlay."));
    let told = built.root.as_ref().map(|root| (root.mode, root.uid, root.gid, &root.xattrs));
    let expected = (metadata.mode, metadata.uid, metadata.gid, &metadata.xattrs);
    prop_assert_eq!(told, is_named.then_some(expected));
    Ok(())
}
