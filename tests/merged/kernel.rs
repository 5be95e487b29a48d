//! What must hold of every merged image.

use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;

use crate::mounting::{Files, Mount, Overlay, can_mount};
use crate::same::assert_same;
use crate::stack::{any_stack, layer_of_chain};

#[test]
fn random_stacks_show_what_their_overlay_shows() {
    if !can_mount("random_stacks_show_what_their_overlay_shows") {
        return;
    }
    let mut runner = TestRunner::deterministic();
    for _ in 0..60 {
        let stack = any_stack().new_tree(&mut runner).unwrap().current();
        assert_equal(&Files::of(&stack));
    }
}

#[test]
fn a_chain_of_128_layers_shows_what_its_overlay_shows() {
    if can_mount("a_chain_of_128_layers_shows_what_its_overlay_shows") {
        let stack: Vec<_> = (0..128).map(layer_of_chain).collect();
        assert_equal(&Files::of(&stack));
    }
}

/// Fails unless the merged image shows what the overlay of its layers shows, with the layers as devices and
/// with all on one device.
fn assert_equal(files: &Files) {
    let overlay = Overlay::of(files).unwrap();
    let merged = Mount::erofs(&files.merged, &files.layers).unwrap();
    assert_same(merged.path(), overlay.mount.path());
    let flattened = Mount::erofs(&files.flattened(), &[]).unwrap();
    assert_same(flattened.path(), overlay.mount.path());
}
