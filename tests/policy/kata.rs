//! A plan as Kata's runtime tells the agent of it: `ErofsMultiLayerRootfs::new` of kata-containers
//! (`src/runtime-rs/crates/resource/src/rootfs/erofs_rootfs.rs`) and `generate_dmverity_options`
//! (`src/libs/kata-types/src/gpt_disk.rs`), both as of August 2026.

use std::fs;

use nexuserofs::expose::mount::Mount;
use serde_json::{Value, json};

/// Where the container's root file system is in the guest.
pub(crate) const ROOTFS: &str = "/run/kata-containers/0f1e2d/rootfs";

/// The request to create a container on these storages, as far as rules look at it.
pub(crate) fn request(storages: Vec<Value>) -> Value {
    json!({
        "container_id": "0f1e2d",
        "OCI": { "Root": { "Path": ROOTFS, "Readonly": false } },
        "storages": storages,
    })
}

/// The storages that the runtime makes of a plan.
pub(crate) fn storages(plan: &[Mount]) -> Vec<Value> {
    let upper = plan.iter().filter(|mount| mount.fstype == "ext4").map(upper);
    let layers: Vec<_> = plan.iter().filter(|mount| mount.fstype == "erofs").collect();
    let lowers: Vec<_> = match layers.as_slice() {
        // A single image is a disk of its own, and what its options say of dm-verity goes unheard.
        [one] => vec![unchecked(one)],
        many => many.iter().zip(1..).map(|(layer, partition)| checked(layer, partition)).collect(),
    };
    upper.chain(lowers).collect()
}

/// A storage as it is in JSON, with what Kata leaves empty.
pub(crate) fn storage(source: &str, fstype: &str, options: &[String]) -> Value {
    json!({
        "driver": "scsi",
        "driver_options": [],
        "source": source,
        "fstype": fstype,
        "fs_group": null,
        "options": options,
        "mount_point": ROOTFS,
        "shared": false,
    })
}

fn upper(mount: &Mount) -> Value {
    let kept = mount.options.iter().filter(|option| *option != "loop").cloned();
    let marks = ["X-kata.overlay-upper", "X-kata.multi-layer=true"].map(str::to_owned);
    storage("0:0", "ext4", &kept.chain(marks).collect::<Vec<_>>())
}

fn unchecked(layer: &Mount) -> Value {
    let is_kept = |option: &&String| *option != "loop" && !option.starts_with("device=");
    let marks = ["X-kata.overlay-lower", "X-kata.multi-layer=true"].map(str::to_owned);
    let options = layer.options.iter().filter(is_kept).cloned().chain(marks);
    storage("0:1", "erofs", &options.collect::<Vec<_>>())
}

fn checked(layer: &Mount, partition: usize) -> Value {
    let mut options = vec![
        "X-kata.overlay-lower".to_owned(),
        "X-kata.multi-layer=true".to_owned(),
        "X-kata.gpt-partitioned=true".to_owned(),
        format!("X-kata.partition-number={partition}"),
    ];
    let sidecar = layer.options.iter().find_map(|option| option.strip_prefix("X-containerd.dmverity="));
    if let Some(sidecar) = sidecar {
        let parameters: Value = serde_json::from_slice(&fs::read(sidecar).unwrap()).unwrap();
        let offset = parameters["hashoffset"].as_u64().unwrap();
        let at = usize::try_from(offset).unwrap();
        let has_superblock = fs::read(&layer.source).unwrap()[at..].starts_with(b"verity\0\0");
        options.extend([
            "X-kata.dmverity-enabled=true".to_owned(),
            format!("X-kata.dmverity.roothash={}", parameters["roothash"].as_str().unwrap()),
            format!("X-kata.dmverity.hashoffset={offset}"),
            format!("X-kata.dmverity.no-superblock={}", !has_superblock),
            format!("X-kata.dmverity.salt={}", parameters["salt"].as_str().unwrap()),
        ]);
    }
    storage("0:1", "erofs", &options)
}
