//! Plans that name the sockets of disks.

use super::*;
use crate::layer::chain::ChainLayer;

fn exported(count: usize) -> Lower {
    Lower { flavour: Flavour::VhostUser, ..chain(count) }
}

fn merged(count: usize) -> Lower {
    let lower = exported(count);
    let layers: Vec<_> =
        lower.layers.iter().map(|key| ChainLayer { key: key.clone(), bytes: 4096 }).collect();
    Lower { merged: Some(ChainKey::of(&layers)), ..lower }
}

const MERGED: &str = "vhost-user-blk /r/exports/1f/image.sock [ro, layout=merged, serial=image]";
const PARTITIONS: &str = "vhost-user-blk /r/exports/1f/image.sock [ro, layout=partitions, serial=image]";
const BLOCK: &str = "vhost-user-blk /r/exports/1f/writable.sock \
                     [rw, fstype=ext4, upperdir=upper, workdir=work, serial=writable]";

#[test]
fn views_have_the_image() {
    assert_eq!(text(&view(&exported(1), PLACES)), MERGED);
    assert_eq!(text(&view(&exported(3), PLACES)), PARTITIONS);
    assert_eq!(text(&view(&merged(3), PLACES)), MERGED);
}

#[test]
fn active_snapshots_have_the_block_behind_it() {
    assert_eq!(text(&active(&merged(3), Writable::Block, PLACES)), format!("{MERGED}\n{BLOCK}"));
    assert_eq!(text(&active(&exported(0), Writable::Block, PLACES)), BLOCK);
    assert_eq!(text(&active(&exported(3), Writable::Directory, PLACES)), PARTITIONS);
}

#[test]
fn without_a_disk_it_is_a_directory() {
    assert_eq!(text(&view(&exported(0), PLACES)), "bind /r/snapshots/1f/fs [ro, rbind]");
    assert_eq!(
        text(&active(&exported(0), Writable::Directory, PLACES)),
        "bind /r/snapshots/1f/fs [rw, rbind]"
    );
}
