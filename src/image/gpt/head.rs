//! The sectors before the first partition: protective MBR, header and entries.

use uuid::{Uuid, uuid};

use super::disk::{Disk, LARGEST_COUNT, Partition};
use super::style::NAME_UNITS;
use crate::image::extent::SECTOR;

const SECTOR_BYTES: usize = SECTOR as usize;
/// Size of one entry in bytes.
const ENTRY: usize = 128;
/// Where the header is, in sectors.
const HEADER_AT: u64 = 1;
/// Where the entries begin, in sectors.
const ENTRIES_AT: u64 = 2;
/// Size of all entries in bytes.
const ENTRIES: usize = LARGEST_COUNT * ENTRY;
/// The first sector behind the entries, which is the first that a partition may have.
const FIRST_USABLE: u64 = ENTRIES_AT + ENTRIES as u64 / SECTOR;
/// Size of the header in bytes, which its checksum covers.
const HEADER: usize = 92;
/// Where the header's own checksum is in it.
const HEADER_CHECKSUM: usize = 16;

/// What the partitions are for: a file system of Linux.
const LINUX_FILE_SYSTEM: Uuid = uuid!("0fc63daf-8483-4772-8e79-3d69d8477de4");

/// The bytes of the disk up to the end of its table.
pub(super) fn bytes(disk: &Disk) -> Vec<u8> {
    let entries = entries(&disk.partitions);
    let mut head = protective_mbr(disk.sectors);
    head.extend(header(disk, &entries));
    head.resize(2 * SECTOR_BYTES, 0);
    head.extend(entries);
    head
}

/// Sector 0: one partition of type 0xEE over the whole disk, for programs that know no GPT.
fn protective_mbr(sectors: u64) -> Vec<u8> {
    let mut mbr = vec![0; 446];
    // Not bootable; from head 0, sector 2, cylinder 0; to what no cylinder can name.
    mbr.extend([0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff]);
    mbr.extend(1_u32.to_le_bytes());
    mbr.extend(u32::try_from(sectors - 1).unwrap_or(u32::MAX).to_le_bytes());
    mbr.resize(510, 0);
    mbr.extend([0x55, 0xaa]);
    mbr
}

fn header(disk: &Disk, entries: &[u8]) -> Vec<u8> {
    let mut header = b"EFI PART".to_vec();
    // Revision 1.0.
    header.extend(0x0001_0000_u32.to_le_bytes());
    header.extend((HEADER as u32).to_le_bytes());
    // The checksum, which counts as 0 while it is computed, and a reserved field.
    header.extend([0; 8]);
    for sector in [HEADER_AT, disk.style.alternate(disk.sectors), FIRST_USABLE, disk.sectors - 1] {
        header.extend(sector.to_le_bytes());
    }
    header.extend(disk.guid.to_bytes_le());
    header.extend(ENTRIES_AT.to_le_bytes());
    for number in [LARGEST_COUNT as u32, ENTRY as u32, crc32fast::hash(entries)] {
        header.extend(number.to_le_bytes());
    }
    let checksum = crc32fast::hash(&header);
    header.splice(HEADER_CHECKSUM..HEADER_CHECKSUM + 4, checksum.to_le_bytes());
    header
}

fn entries(partitions: &[Partition]) -> Vec<u8> {
    let mut entries: Vec<u8> = partitions.iter().flat_map(entry).collect();
    entries.resize(ENTRIES, 0);
    entries
}

fn entry(partition: &Partition) -> [u8; ENTRY] {
    let numbers = [partition.first, partition.last, 0 /* attributes */];
    let fields = LINUX_FILE_SYSTEM
        .to_bytes_le()
        .into_iter()
        .chain(partition.guid.to_bytes_le())
        .chain(numbers.into_iter().flat_map(u64::to_le_bytes))
        .chain(partition.name.encode_utf16().take(NAME_UNITS).flat_map(u16::to_le_bytes));
    let mut entry = [0; ENTRY];
    for (place, byte) in entry.iter_mut().zip(fields) {
        *place = byte;
    }
    entry
}
