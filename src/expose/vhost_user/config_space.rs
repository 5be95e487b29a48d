//! What a guest's driver reads of a disk: features, and the configuration space (`struct virtio_blk_config`, VIRTIO
//! 1.3, 5.2.4), in little-endian numbers.

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_MQ, VIRTIO_BLK_F_RO,
    VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_TOPOLOGY, VIRTIO_BLK_F_WRITE_ZEROES,
};
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};

use super::disk::{Access, Disk};
use crate::image::extent::SECTOR;
use crate::image::tree::BLOCK_SIZE;

/// Size of the space in bytes, with fields that we leave 0.
const SIZE: usize = 96;

/// Most pieces of data in a request: a ring of 128, QEMU's default, less header and status.
const MOST_SEGMENTS: u32 = 126;

/// Most sectors of a segment of a `DISCARD` or `WRITE_ZEROES`: 2 GiB, so that one does not hold up a queue for long.
pub(super) const MOST_DISCARD_SECTORS: u32 = 1 << 22;

/// Most segments of a `DISCARD` or `WRITE_ZEROES`.
pub(super) const MOST_DISCARD_SEGMENTS: u32 = 32;

/// Feature bits of virtio that a driver may choose.
pub(super) fn features(disk: &Disk) -> u64 {
    let mut bits = vec![
        VIRTIO_F_VERSION_1,
        VIRTIO_RING_F_INDIRECT_DESC,
        VIRTIO_RING_F_EVENT_IDX,
        VIRTIO_BLK_F_SEG_MAX,
        VIRTIO_BLK_F_BLK_SIZE,
        VIRTIO_BLK_F_TOPOLOGY,
        VIRTIO_BLK_F_FLUSH,
        VIRTIO_BLK_F_MQ,
    ];
    match disk.access() {
        Access::ReadOnly => bits.push(VIRTIO_BLK_F_RO),
        Access::ReadWrite => bits.extend([VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_WRITE_ZEROES]),
    }
    bits.into_iter().fold(0, |features, bit| features | 1 << bit)
}

/// The whole space.
pub(super) fn bytes(disk: &Disk, queues: u16) -> [u8; SIZE] {
    let mut space = [0; SIZE];
    let mut put = |offset: usize, bytes: &[u8]| space[offset..offset + bytes.len()].copy_from_slice(bytes);
    let blocks_per_sector = BLOCK_SIZE / SECTOR;
    put(0, &disk.sectors().to_le_bytes());
    put(12, &MOST_SEGMENTS.to_le_bytes());
    // Partitions and descriptors count sectors, so those are the logical blocks; data lies in blocks of EROFS or ext4.
    put(20, &(SECTOR as u32).to_le_bytes());
    put(24, &[blocks_per_sector.ilog2() as u8]);
    put(26, &(blocks_per_sector as u16).to_le_bytes());
    // With FLUSH and without a choice of the driver, writes are cached.
    put(32, &[1]);
    put(34, &queues.to_le_bytes());
    if disk.access() == Access::ReadWrite {
        put(36, &MOST_DISCARD_SECTORS.to_le_bytes());
        put(40, &MOST_DISCARD_SEGMENTS.to_le_bytes());
        put(44, &(blocks_per_sector as u32).to_le_bytes());
        put(48, &MOST_DISCARD_SECTORS.to_le_bytes());
        put(52, &MOST_DISCARD_SEGMENTS.to_le_bytes());
        put(56, &[1]);
    }
    space
}
