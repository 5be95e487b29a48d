use std::fs::{self, Permissions};
use std::io::Cursor;
use std::os::unix::fs::PermissionsExt;

use tar_core::EntryType;
use tar_core::builder::EntryBuilder;

use super::*;
use crate::image::erofs::InvalidSuperblock;
use crate::layer::{HashTree, LayerRecord, Verity, build};

/// A tar with `/` in an unusual mode and one file.
fn tar(content: &[u8]) -> Vec<u8> {
    let mut root = EntryBuilder::new_gnu();
    root.path("./").entry_type(EntryType::Directory).mode(0o700).unwrap().size(0).unwrap();
    let mut file = EntryBuilder::new_gnu();
    file.path("file").entry_type(EntryType::Regular).mode(0o644).unwrap().size(content.len() as u64).unwrap();
    let mut tar = root.finish_bytes();
    tar.extend(file.finish_bytes());
    tar.extend(content);
    tar.resize(tar.len().next_multiple_of(512) + 1024, 0);
    tar
}

/// Builds the layer of a tar into a cache.
fn put(cache: &LayerCache, tar: &[u8]) -> Entry {
    put_with(HashTree::Without, cache, tar)
}

fn put_with(hash_tree: HashTree, cache: &LayerCache, tar: &[u8]) -> Entry {
    let diff_id = Digest::of(tar);
    let slot = cache.slot().unwrap();
    let built = build::read(&mut Cursor::new(tar), slot.path(), hash_tree).unwrap().seal(&diff_id).unwrap();
    let record = LayerRecord::from_tar(diff_id, tar.len() as u64, built.image_bytes, built.root, diff_id)
        .with_verity(built.verity);
    slot.publish(diff_id, &record).unwrap()
}

fn cache() -> (tempfile::TempDir, LayerCache) {
    let directory = tempfile::tempdir().unwrap();
    let cache = LayerCache::new(directory.path().join("cache"));
    (directory, cache)
}

#[test]
fn what_is_put_in_lies_where_containerd_looks_for_it_and_is_found_again() {
    let (_directory, cache) = cache();
    assert_eq!(cache.entries().unwrap(), []);
    let tar = tar(b"content");
    let diff_id = Digest::of(&tar);
    let entry = put(&cache, &tar);
    let hex = diff_id.hex();
    assert_eq!(entry.path(), cache.directory().join("sha256").join(&hex[..2]).join(format!("{hex}.erofs")));
    assert_eq!(fs::metadata(entry.path()).unwrap().permissions().mode() & 0o7777, 0o644);
    assert_eq!(cache.find(&diff_id), Some(entry.clone()));
    assert_eq!(cache.find(&Digest::of(b"other")), None);
    fs::write(cache.directory().join("sha256/README"), "no shelf").unwrap();
    fs::write(entry.path().with_file_name("README.erofs"), "no digest").unwrap();
    assert_eq!(cache.entries().unwrap(), std::slice::from_ref(&entry));
    let record = entry.record().unwrap().unwrap();
    assert_eq!(entry.check().unwrap().image_bytes, record.image_bytes);
    assert_eq!(record.root.unwrap().mode, 0o700);
    let names = fs::read_dir(cache.directory()).unwrap().count();
    assert_eq!(names, 1, "nothing but the shelves is left");
}

#[test]
fn a_slot_that_is_given_up_leaves_nothing() {
    let (_directory, cache) = cache();
    let slot = cache.slot().unwrap();
    fs::write(slot.path(), "half").unwrap();
    drop(slot);
    assert_eq!(fs::read_dir(cache.directory()).unwrap().count(), 0);
}

#[test]
fn what_is_not_a_whole_image_of_this_layer_is_refused() {
    let (_directory, cache) = cache();
    let entry = put(&cache, &tar(b"content"));
    let whole = fs::read(entry.path()).unwrap();
    let other = put(&cache, &tar(b"other"));

    fs::write(entry.path(), fs::read(other.path()).unwrap()).unwrap();
    assert!(matches!(entry.check(), Err(Invalid::Foreign)));
    fs::write(entry.path(), &whole[..whole.len() - 4096]).unwrap();
    assert!(matches!(entry.check(), Err(Invalid::Size { .. })));
    fs::write(entry.path(), vec![0; whole.len()]).unwrap();
    assert!(matches!(entry.check(), Err(Invalid::Superblock(InvalidSuperblock::Magic))));
    fs::write(entry.path(), &whole).unwrap();
    fs::set_permissions(entry.path(), Permissions::from_mode(0o664)).unwrap();
    assert!(matches!(entry.check(), Err(Invalid::Writable { mode: 0o664, .. })));
    fs::remove_file(entry.path()).unwrap();
    std::os::unix::fs::symlink(other.path(), entry.path()).unwrap();
    assert!(matches!(entry.check(), Err(Invalid::NotAFile)));
}

#[test]
fn a_record_of_another_layer_counts_as_none() {
    let (_directory, cache) = cache();
    let (entry, other) = (put(&cache, &tar(b"content")), put(&cache, &tar(b"other")));
    fs::copy(other.path().with_extension("json"), entry.path().with_extension("json")).unwrap();
    assert_eq!(entry.record().unwrap(), None);
    fs::remove_file(other.path().with_extension("json")).unwrap();
    assert_eq!(other.record().unwrap(), None);
}

#[test]
fn a_file_is_proven_by_its_tar_and_by_no_other() {
    let (_directory, cache) = cache();
    let content = vec![5; 70_000];
    let tar_bytes = tar(&content);
    let diff_id = Digest::of(&tar_bytes);
    let entry = put(&cache, &tar_bytes);
    let prove =
        |tar: &[u8]| proof::read(&mut Cursor::new(tar), entry.path(), HashTree::Without)?.finish(&diff_id);

    let proven = prove(&tar_bytes).unwrap();
    assert_eq!(proven.image_bytes, entry.check().unwrap().image_bytes);
    assert_eq!(proven.root.unwrap().mode, 0o700);
    let mut changed = content.clone();
    changed[69_999] = 6;
    assert!(matches!(prove(&tar(&changed)), Err(proof::Error::Different { .. })));
    assert!(matches!(prove(&tar(&content[1..])), Err(proof::Error::Different { .. })));
}

#[test]
fn each_changed_bit_of_a_file_is_noticed() {
    let (_directory, cache) = cache();
    let tar = tar(b"content");
    let diff_id = Digest::of(&tar);
    let entry = put(&cache, &tar);
    let whole = fs::read(entry.path()).unwrap();
    let prove = || proof::read(&mut Cursor::new(&tar), entry.path(), HashTree::Without)?.finish(&diff_id);
    for byte in (0..whole.len()).step_by(97) {
        let mut damaged = whole.clone();
        damaged[byte] ^= 1;
        fs::write(entry.path(), damaged).unwrap();
        assert!(matches!(prove(), Err(proof::Error::Different { .. })), "byte {byte}");
    }
    fs::write(entry.path(), [whole.as_slice(), &[0; 4096]].concat()).unwrap();
    assert!(matches!(prove(), Err(proof::Error::Different { .. })), "something was appended");
}

#[test]
fn the_parameters_of_a_tree_lie_where_containerd_looks_for_them() {
    let (_directory, cache) = cache();
    let tar = tar(b"content");
    let entry = put_with(HashTree::With, &cache, &tar);
    let checked = entry.check().unwrap();
    assert_eq!(checked.hash_tree, HashTree::With);
    let parameters = PathBuf::from(format!("{}.dmverity", entry.path().display()));
    let verity: Verity = serde_json::from_slice(&fs::read(&parameters).unwrap()).unwrap();
    assert_eq!(Some(verity), entry.record().unwrap().unwrap().verity);
    assert_eq!(verity.geometry().file_size(), checked.image_bytes);
    assert_eq!(cache.entries().unwrap(), std::slice::from_ref(&entry));
    // A layer without a tree in its place takes them away.
    let entry = put(&cache, &tar);
    assert_eq!(entry.check().unwrap().hash_tree, HashTree::Without);
    assert!(!parameters.exists());
}

#[test]
fn a_tree_is_proven_as_well_and_made_where_it_lacks() {
    let (_directory, cache) = cache();
    let tar = tar(&vec![5; 700_000]);
    let diff_id = Digest::of(&tar);
    let prove = |path: &Path| proof::read(&mut Cursor::new(&tar), path, HashTree::With)?.finish(&diff_id);

    let bare = put(&cache, &tar);
    let made = cache.directory().join("made");
    fs::copy(bare.path(), &made).unwrap();
    let made_verity = prove(&made).unwrap().verity.unwrap();
    let entry = put_with(HashTree::With, &cache, &tar);
    let whole = fs::read(entry.path()).unwrap();
    assert!(fs::read(&made).unwrap() == whole, "made as the builder does");
    let proven = prove(entry.path()).unwrap();
    assert_eq!((proven.verity, proven.image_bytes), (Some(made_verity), whole.len() as u64));

    for byte in (made_verity.image_size() as usize..whole.len()).step_by(511) {
        let mut damaged = whole.clone();
        damaged[byte] ^= 1;
        fs::write(&made, damaged).unwrap();
        assert!(matches!(prove(&made), Err(proof::Error::Different { .. })), "byte {byte}");
    }
    fs::write(&made, [whole.as_slice(), &[0; 4096]].concat()).unwrap();
    assert!(matches!(prove(&made), Err(proof::Error::Different { .. })), "something was appended");
}

#[test]
fn a_tree_that_is_cut_off_or_of_another_layer_is_refused() {
    let (_directory, cache) = cache();
    let entry = put_with(HashTree::With, &cache, &tar(b"content"));
    let whole = fs::read(entry.path()).unwrap();
    fs::write(entry.path(), &whole[..whole.len() - 4096]).unwrap();
    assert!(matches!(entry.check(), Err(Invalid::Size { .. })));
    let mut other = whole.clone();
    let uuid = entry.record().unwrap().unwrap().verity.unwrap().image_size() as usize + 16;
    other[uuid] ^= 1;
    fs::write(entry.path(), other).unwrap();
    assert!(matches!(entry.check(), Err(Invalid::Size { .. })));
}
