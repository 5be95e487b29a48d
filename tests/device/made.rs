//! Every form holds the layers' bytes, and is made once; what makes no device is refused.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use nexuserofs::expose::device::{self, Carrier, Chain, Error, Form, Layout};
use nexuserofs::image::gpt::Style;
use nexuserofs::image::vmdk::Descriptor;

use crate::chain::{FORMS, OnDisk, names};

const MERGED: Form = Form { layout: Layout::Merged, carrier: Carrier::Vmdk };
const KATA: Form = Form { layout: Layout::Partitions(Style::Kata), carrier: Carrier::Vmdk };

/// The bytes of a small device, as a monitor that does what a descriptor says reads them.
fn bytes(form: Form, path: &Path) -> Vec<u8> {
    if form.carrier == Carrier::Flat {
        return fs::read(path).unwrap();
    }
    let extents = device::check(path).unwrap();
    let part = |extent: &nexuserofs::image::vmdk::Extent| {
        let mut bytes = vec![0; extent.sectors as usize * 512];
        fs::File::open(extent.path.as_str()).unwrap().read_exact_at(&mut bytes, 0).unwrap();
        bytes
    };
    extents.extents().iter().flat_map(part).collect()
}

#[test]
fn every_form_holds_the_layers() {
    let disk = OnDisk::new(&[8192, 4096, (1 << 20) + 4096, 1 << 20, 12288]);
    for form in FORMS {
        let made = disk.make(form).unwrap();
        assert_eq!(made.path, disk.home().join(form.file_name()));
        let (mut found, expected) = (bytes(form, &made.path), disk.expected(form.layout));
        if matches!(form.layout, Layout::Partitions(_)) {
            // The table itself is read by `partitions`.
            found[..34 * 512].fill(0);
        }
        assert_eq!(made.bytes, expected.len() as u64, "{form:?}");
        assert!(found == expected, "{form:?}");
    }
}

#[test]
fn a_device_is_made_once_and_leaves_nothing_else() {
    let disk = OnDisk::new(&[8192, 4096]);
    let inode = |path: &Path| fs::metadata(path).unwrap().ino();
    for form in FORMS {
        let first = disk.make(form).unwrap();
        let before = inode(&first.path);
        assert_eq!(disk.make(form).unwrap(), first);
        assert_eq!(inode(&first.path), before, "{form:?}");
    }
    assert_eq!(names(&disk.path().join("staging")), [""; 0]);
    let expected = [
        "fsmeta.erofs",
        "layers-nerdbox.head",
        "layers-nerdbox.img",
        "layers-nerdbox.pad",
        "layers-nerdbox.vmdk",
        "layers.head",
        "layers.img",
        "layers.manifest",
        "layers.pad",
        "layers.vmdk",
        "merged.img",
        "merged.verity",
        "merged.vmdk",
        "verified.img",
        "verified.vmdk",
    ];
    assert_eq!(names(&disk.home()), expected);
}

#[test]
fn a_chain_that_is_made_out_of_sight_gets_the_same_files() {
    let disk = OnDisk::new(&[8192, 4096]);
    let hidden = disk.path().join("hidden");
    fs::create_dir(&hidden).unwrap();
    let metadata = hidden.join("fsmeta.erofs");
    fs::copy(disk.home().join("fsmeta.erofs"), &metadata).unwrap();
    fs::copy(disk.home().join("merged.verity"), hidden.join("merged.verity")).unwrap();
    for form in FORMS {
        let home = disk.home();
        let chain = Chain { home: &home, metadata: Some(&metadata), layers: &disk.layers };
        device::write(form, chain, &hidden, &mut |_| {}).unwrap();
        disk.make(form).unwrap();
    }
    assert_eq!(names(&hidden), names(&disk.home()));
    for name in names(&hidden) {
        assert!(
            fs::read(hidden.join(&name)).unwrap() == fs::read(disk.home().join(&name)).unwrap(),
            "{name}"
        );
    }
}

#[test]
fn one_layer_is_a_file_system_without_being_merged_and_two_are_not() {
    let disk = OnDisk::new(&[8192]).not_merged();
    for carrier in [Carrier::Vmdk, Carrier::Flat] {
        let form = Form { layout: Layout::Merged, carrier };
        assert!(bytes(form, &disk.make(form).unwrap().path) == disk.expected(Layout::Merged));
    }
    let disk = OnDisk::new(&[8192, 4096]).not_merged();
    assert!(matches!(disk.make(MERGED), Err(Error::NotMerged { layers: 2 })));
    disk.make(KATA).unwrap();
}

#[test]
fn a_device_of_other_files_is_not_taken_for_this_one() {
    let disk = OnDisk::new(&[8192, 4096]);
    for form in FORMS {
        disk.make(form).unwrap();
    }
    fs::write(&disk.layers[0], vec![1; 12288]).unwrap();
    for form in FORMS {
        let error = disk.make(form).unwrap_err();
        assert!(matches!(&error, Error::Stale { .. }), "{form:?}: {error}");
    }
    assert_eq!(names(&disk.path().join("staging")), [""; 0]);
}

#[test]
fn what_a_crash_left_is_completed_unless_the_layers_changed() {
    let disk = OnDisk::new(&[8192, 4096]);
    let made = disk.make(KATA).unwrap();
    fs::remove_file(&made.path).unwrap();
    disk.make(KATA).unwrap();
    fs::remove_file(&made.path).unwrap();
    fs::write(&disk.layers[0], vec![1; 12288]).unwrap();
    let error = disk.make(KATA).unwrap_err();
    assert!(matches!(&error, Error::Stale { path } if path.ends_with("layers.head")), "{error}");
    assert!(!made.path.exists());
}

#[test]
fn files_that_make_no_device_are_refused_by_name() {
    let disk = OnDisk::new(&[8192, 4096]);
    for (size, form, refused) in
        [(100, KATA, true), (0, KATA, true), (512, KATA, false), (512, MERGED, true), (8192, MERGED, false)]
    {
        fs::File::create(&disk.layers[1]).unwrap().set_len(size).unwrap();
        let made = disk.make(form);
        let is_refused = matches!(&made, Err(Error::Size { path, .. }) if *path == disk.layers[1]);
        assert_eq!(is_refused, refused, "{size} {form:?} {made:?}");
    }
    fs::remove_file(&disk.layers[1]).unwrap();
    assert!(matches!(disk.make(KATA), Err(Error::File(_))));
    std::os::unix::fs::symlink(&disk.layers[0], &disk.layers[1]).unwrap();
    assert!(matches!(disk.make(KATA), Err(Error::NotAFile { .. })));
}

#[test]
fn a_root_that_a_descriptor_cannot_name_still_has_flat_devices() {
    let mut disk = OnDisk::new(&[8192]);
    let blank = disk.path().join("a b");
    fs::create_dir(&blank).unwrap();
    fs::rename(&disk.layers[0], blank.join("layer.erofs")).unwrap();
    disk.layers[0] = blank.join("layer.erofs");
    let error = disk.make(KATA).unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("it has a blank; move the directory, or use a flat file"), "{source}");
    assert_eq!(names(&disk.home()), ["fsmeta.erofs"]);
    disk.make(Form { carrier: Carrier::Flat, ..KATA }).unwrap();
}

#[test]
fn a_descriptor_whose_files_are_gone_or_short_is_found() {
    let disk = OnDisk::new(&[8192, 4096]);
    let made = disk.make(KATA).unwrap();
    assert_eq!(device::check(&made.path).unwrap().sectors() * 512, made.bytes);
    fs::File::options().write(true).open(&disk.layers[0]).unwrap().set_len(4096).unwrap();
    assert!(matches!(device::check(&made.path), Err(Error::Short { found: 4096, needed: 8192, .. })));
    fs::remove_file(&disk.layers[0]).unwrap();
    assert!(matches!(device::check(&made.path), Err(Error::File(_))));
    fs::write(&made.path, "RW 1 FLAT \"/etc/shadow\" 0\n").unwrap();
    assert!(matches!(device::check(&made.path), Err(Error::Foreign { .. })));
}

#[test]
fn layers_over_two_gigabytes_are_one_line_and_cost_a_flat_file_no_more_than_themselves() {
    let disk = OnDisk::new(&[4096, (3 << 30) + 8192]);
    let made = disk.make(MERGED).unwrap();
    let text = fs::read_to_string(&made.path).unwrap();
    assert_eq!(Descriptor::parse(&text).unwrap().extents().len(), 3);
    let flat = disk.make(Form { carrier: Carrier::Flat, ..MERGED }).unwrap();
    let found = fs::metadata(&flat.path).unwrap();
    assert_eq!(found.len(), 8192 + (3 << 30) + 8192);
    assert!(found.blocks() * 512 < 1 << 20, "holes stay holes: {} sectors are allocated", found.blocks());
    let (mut there, mut here) = (vec![0; 8192], vec![0; 8192]);
    fs::File::open(&disk.layers[1]).unwrap().read_exact_at(&mut there, 3 << 30).unwrap();
    fs::File::open(&flat.path).unwrap().read_exact_at(&mut here, 8192 + (3 << 30)).unwrap();
    assert!(there == here && there.iter().any(|byte| *byte != 0));
}
