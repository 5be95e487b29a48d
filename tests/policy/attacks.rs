//! What the rules allow, and what a host may try.

use serde_json::{Value, json};

use crate::host::Image;
use crate::is_allowed;
use crate::kata::{self, ROOTFS, request, storage};

/// Changes the option of a storage that begins with `start`.
fn set(storage: &mut Value, start: &str, value: &str) {
    let options = storage["options"].as_array_mut().unwrap();
    let place = options.iter().position(|option| option.as_str().unwrap().starts_with(start)).unwrap();
    options[place] = format!("{start}{value}").into();
}

fn remove(storage: &mut Value, start: &str) {
    storage["options"].as_array_mut().unwrap().retain(|option| !option.as_str().unwrap().starts_with(start));
}

/// A volume that has nothing to do with the root file system.
fn volume(mount_point: &str) -> Value {
    json!({
        "driver": "ephemeral", "driver_options": [], "source": "tmpfs", "fstype": "tmpfs", "fs_group": null,
        "options": ["size=64M"], "mount_point": mount_point, "shared": true,
    })
}

#[test]
fn the_image_itself_is_allowed_with_any_number_of_layers() {
    for layers in [1, 2, 3, 9] {
        let image = Image::of(layers);
        let storages = kata::storages(&image.plan());
        assert_eq!(storages.len(), layers.max(2));
        assert!(is_allowed(&image.rules(), &request(storages)), "{layers} layers");
    }
}

#[test]
fn the_order_of_storages_means_nothing_since_partitions_are_numbered() {
    let image = Image::of(3);
    let mut storages = kata::storages(&image.plan());
    storages.reverse();
    assert!(is_allowed(&image.rules(), &request(storages)));
}

#[test]
fn volumes_elsewhere_are_left_to_other_rules() {
    let image = Image::of(2);
    let (rules, storages) = (image.rules(), kata::storages(&image.plan()));
    let with = |mount_point: &str| {
        let all = storages.iter().cloned().chain([volume(mount_point)]);
        is_allowed(&rules, &request(all.collect()))
    };
    assert!(with("/run/kata-containers/shared/containers/volume"));
    assert!(with("/run/kata-containers/0f1e2d/rootfs-of-another"));
    for place in [
        ROOTFS.to_owned(),
        format!("{ROOTFS}/"),
        format!("{ROOTFS}/bin"),
        "/run/kata-containers".to_owned(),
        "/".to_owned(),
        "/run//kata-containers/0f1e2d/rootfs".to_owned(),
        "/run/./kata-containers/0f1e2d/rootfs".to_owned(),
        "/run/x/../kata-containers/0f1e2d/rootfs".to_owned(),
    ] {
        assert!(!with(&place), "{place}");
    }
}

/// A change of what the host sends, by what it is.
type Attack = (&'static str, fn(&mut Vec<Value>));

const ATTACKS: &[Attack] = &[
    ("two layers are swapped", |s| {
        set(&mut s[0], "X-kata.partition-number=", "2");
        set(&mut s[1], "X-kata.partition-number=", "1");
    }),
    ("the newest layer is dropped", |s| drop(s.remove(0))),
    ("the oldest layer is dropped", |s| drop(s.pop())),
    ("nothing is left", Vec::clear),
    ("a layer is there twice", |s| s.push(s[0].clone())),
    ("a layer is there twice, and another is not", |s| s[2] = s[1].clone()),
    ("a layer is there twice, under a number of its own", |s| {
        let mut twice = s[0].clone();
        set(&mut twice, "X-kata.partition-number=", "4");
        s.push(twice);
    }),
    ("a layer without dm-verity is added", |s| {
        let marks = ["X-kata.overlay-lower", "X-kata.multi-layer=true"].map(str::to_owned);
        s.insert(0, storage("0:2", "erofs", &marks));
    }),
    ("a layer is added that is called another file system", |s| {
        let marks = ["X-kata.overlay-lower", "X-kata.multi-layer=true"].map(str::to_owned);
        s.insert(0, storage("0:2", "EROFS", &marks));
    }),
    ("a layer is added by its driver", |s| {
        let mut added = storage("0:2", "xfs", &[]);
        added["driver"] = "erofs.multi-layer".into();
        s.push(added);
    }),
    ("an image is mounted beside the layers", |s| s.push(storage("0:2", "erofs", &["ro".to_owned()]))),
    ("another root hash", |s| set(&mut s[1], "X-kata.dmverity.roothash=", &"ab".repeat(32))),
    ("another salt", |s| set(&mut s[1], "X-kata.dmverity.salt=", &"01".repeat(32))),
    ("another offset, and so another number of blocks", |s| {
        set(&mut s[1], "X-kata.dmverity.hashoffset=", "1048576");
    }),
    ("another algorithm", |s| {
        s[1]["options"].as_array_mut().unwrap().push("X-kata.dmverity.algorithm=sha512".into());
    }),
    ("another block size", |s| {
        s[1]["options"].as_array_mut().unwrap().push("X-kata.dmverity.blocksize=8192".into());
    }),
    ("another hash type", |s| {
        s[1]["options"].as_array_mut().unwrap().push("X-kata.dmverity.hashtype=0".into());
    }),
    ("the superblock is said to be missing", |s| {
        set(&mut s[1], "X-kata.dmverity.no-superblock=", "true");
    }),
    ("dm-verity is not enabled", |s| remove(&mut s[1], "X-kata.dmverity-enabled=")),
    ("dm-verity is disabled", |s| set(&mut s[1], "X-kata.dmverity-enabled=", "false")),
    ("nothing is said of dm-verity", |s| remove(&mut s[1], "X-kata.dmverity")),
    ("a root hash is said twice", |s| {
        let again = format!("X-kata.dmverity.roothash={}", "ab".repeat(32));
        s[1]["options"].as_array_mut().unwrap().push(again.into());
    }),
    ("a layer is no partition", |s| remove(&mut s[1], "X-kata.gpt-partitioned=")),
    ("a layer has no number", |s| remove(&mut s[1], "X-kata.partition-number=")),
    ("a directory is made in the root file system", |s| {
        s[0]["options"].as_array_mut().unwrap().push("X-kata.mkdir.path={{ mount 0 }}/upper/etc".into());
    }),
    ("the partitions are of two disks", |s| s[1]["source"] = "0:7".into()),
    ("the partitions are found by two drivers", |s| s[1]["driver"] = "blk".into()),
    ("a driver that the agent does not look for devices with", |s| {
        s.iter_mut().for_each(|storage| storage["driver"] = "local".into());
    }),
    ("an option for the driver", |s| s[1]["driver_options"] = json!(["encryption_key=ephemeral"])),
    ("another file system", |s| s[1]["fstype"] = "ext4".into()),
    ("a layer is mounted elsewhere", |s| s[1]["mount_point"] = "/etc".into()),
    ("all is mounted elsewhere", |s| {
        s.iter_mut().for_each(|storage| storage["mount_point"] = "/run/kata-containers/x/rootfs".into());
    }),
    ("what is written goes to a block of the host's", |s| {
        let marks = ["rw", "X-kata.overlay-upper", "X-kata.multi-layer=true"].map(str::to_owned);
        s.insert(0, storage("0:2", "ext4", &marks));
    }),
    ("an upper that is only marked as one", |s| {
        s.push(storage("0:2", "xfs", &["X-kata.overlay-upper".to_owned()]));
    }),
];

#[test]
fn every_attack_is_denied() {
    let image = Image::of(3);
    let (rules, storages) = (image.rules(), kata::storages(&image.plan()));
    assert!(is_allowed(&rules, &request(storages.clone())));
    for (name, attack) in ATTACKS {
        let mut changed = storages.clone();
        attack(&mut changed);
        assert_ne!(changed, storages, "{name}");
        assert!(!is_allowed(&rules, &request(changed)), "{name}");
    }
}

#[test]
fn plans_of_other_profiles_are_denied() {
    for layers in [1, 3] {
        let image = Image::of(layers);
        for plan in [image.plan_with_block(), image.unchecked_plan()] {
            assert!(!is_allowed(&image.rules(), &request(kata::storages(&plan))), "{plan:?}");
        }
    }
}

#[test]
fn a_single_image_is_denied_because_kata_does_not_check_it() {
    let image = Image::of(1);
    let single: Vec<_> = image.plan().into_iter().filter(|mount| !mount.source.contains("/empty/")).collect();
    let storages = kata::storages(&single);
    assert_eq!(storages.len(), 1);
    assert!(!is_allowed(&image.rules(), &request(storages)));
}

#[test]
fn the_container_has_to_run_in_what_the_layers_make() {
    let image = Image::of(2);
    let mut request = request(kata::storages(&image.plan()));
    request["OCI"]["Root"]["Path"] = "/run/kata-containers/shared/containers/other".into();
    assert!(!is_allowed(&image.rules(), &request));
}

#[test]
fn the_rules_of_one_image_deny_another() {
    let (one, other) = (Image::of(2), Image::of(3));
    assert!(!is_allowed(&one.rules(), &request(kata::storages(&other.plan()))));
    assert!(!is_allowed(&other.rules(), &request(kata::storages(&one.plan()))));
}

#[test]
fn rules_for_several_images_allow_each_of_them_and_no_mixture() {
    let images = [Image::of(1), Image::of(2), Image::of(3)];
    let rules = nexuserofs::trust::rego::rules(&[images[0].manifest(), images[2].manifest()]).unwrap();
    let storages = images.each_ref().map(|image| kata::storages(&image.plan()));
    assert!(is_allowed(&rules, &request(storages[0].clone())));
    assert!(is_allowed(&rules, &request(storages[2].clone())));
    assert!(!is_allowed(&rules, &request(storages[1].clone())));
    let mixed = vec![storages[0][0].clone(), storages[2][1].clone(), storages[2][2].clone()];
    assert!(!is_allowed(&rules, &request(mixed)));
}
