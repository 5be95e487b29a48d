//! That the bytes of a merged image depend on its layers alone, and what cannot be merged.

use nexuserofs::image::erofs::Superblock;
use nexuserofs::image::erofs::read::{Image, Limits};
use nexuserofs::image::merged::{Error, Layer};
use nexuserofs::image::tree::Tree;
use proptest::prelude::*;

use crate::sample::{Sample, bytes, metadata};
use crate::stack::{any_stack, layer_of_chain, merge};

proptest! {
    #![proptest_config(ProptestConfig { cases: 50, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_same_layers_give_the_same_bytes(stack in any_stack()) {
        let merged = merge(&stack).unwrap();
        prop_assert_eq!(&merge(&stack).unwrap(), &merged);
        let superblock = Superblock::parse(&merged).unwrap();
        prop_assert_eq!(usize::from(superblock.devices), stack.len());
        prop_assert_eq!(superblock.image_size(), merged.len() as u64);
    }
}

#[test]
fn a_longer_file_of_a_layer_is_another_image() {
    let stack = [layer_of_chain(0), layer_of_chain(1)];
    let mut longer = stack.clone();
    longer[0].extend_from_slice(&[0; 4096]);
    assert_ne!(merge(&longer).unwrap(), merge(&stack).unwrap());
}

#[test]
fn data_is_not_copied() {
    let mut sample = Sample::new();
    sample.file(Tree::ROOT, b"large", metadata(0o644), &bytes(0, 20 << 20));
    let merged = merge(&[sample.image(), layer_of_chain(1)]).unwrap();
    assert!(merged.len() <= 4 * 4096, "{}", merged.len());
}

#[test]
fn a_file_that_is_no_device_is_refused() {
    let bytes = Sample::new().image();
    let image = Image::open(bytes.as_slice(), &Limits::default()).unwrap();
    let size = bytes.len() as u64;
    let refused = |bytes| Layer::new(&image, bytes).unwrap_err();
    assert!(matches!(refused(size + 1), Error::FileSize { .. }));
    assert!(matches!(refused(1 << 45), Error::FileSize { .. }));
    assert!(matches!(refused(size - 4096), Error::Truncated { .. }));
}

#[test]
fn layers_that_are_too_large_together_are_refused() {
    let bytes = Sample::new().image();
    let image = Image::open(bytes.as_slice(), &Limits::default()).unwrap();
    let layer = || Layer::new(&image, (1 << 43) + (1 << 42)).unwrap();
    let mut merged = Vec::new();
    nexuserofs::image::merged::write(&[layer()], &mut merged).unwrap();
    let error = nexuserofs::image::merged::write(&[layer(), layer()], &mut Vec::new()).unwrap_err();
    assert!(error.write_failure().is_none(), "{error}");
    assert!(error.to_string().contains("together"), "{error}");
}
