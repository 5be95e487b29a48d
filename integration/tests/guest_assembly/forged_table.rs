//! A partition table that says other things than it should, with right checksums.
//!
//! Format: UEFI specification 2.10, section 5.3. Our disks have no second copy of the table, as Kata's.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::Result;
use flate2::Crc;

/// Bytes of a sector, before which is the header, and of the header.
const SECTOR: u64 = 512;
const HEADER: usize = 92;
/// Where in the header its checksum is, and that of the entries.
const HEADER_SUM: usize = 16;
const ENTRIES_SUM: usize = 88;
/// Entries, where they begin, and how long one is.
const COUNT: usize = 128;
const ENTRIES: u64 = 2 * SECTOR;
const ENTRY: usize = 128;

/// Parts of an entry: where they begin, in bytes.
const IDENTIFIER: usize = 16;
const LAST_SECTOR: usize = 40;
const NAME: usize = 56;
/// Bytes of a name.
const NAME_BYTES: usize = 72;

/// Names of partitions in the forged table: the newest layer's, one with the same sectors, the oldest layer's, two
/// with one name, and one that ends behind the disk's end.
pub(crate) const WHOLE: &str = "whole";
pub(crate) const OVERLAPPING: &str = "overlapping";
pub(crate) const OLDEST: &str = "oldest";
pub(crate) const TWICE: &str = "twice";
pub(crate) const BEYOND: &str = "beyond";

const NAMES: [&str; 6] = [WHOLE, OVERLAPPING, OLDEST, TWICE, TWICE, BEYOND];

/// Makes of a table of three layers one with [`NAMES`].
pub(crate) fn forge(disk: &Path) -> Result<()> {
    let file = File::options().read(true).write(true).open(disk)?;
    let mut entries = vec![0; COUNT * ENTRY];
    file.read_exact_at(&mut entries, ENTRIES)?;
    let newest = entries[..ENTRY].to_vec();
    for (index, (entry, name)) in entries.chunks_exact_mut(ENTRY).zip(NAMES).enumerate() {
        if name != OLDEST {
            entry.copy_from_slice(&newest);
        }
        // Each needs an identifier of its own.
        put(entry, IDENTIFIER, &[index as u8]);
        put(entry, NAME, &utf16(name));
        if name == BEYOND {
            put(entry, LAST_SECTOR, &(1_u64 << 40).to_le_bytes());
        }
    }
    file.write_all_at(&entries, ENTRIES)?;

    let mut header = [0; HEADER];
    file.read_exact_at(&mut header, SECTOR)?;
    put(&mut header, ENTRIES_SUM, &sum(&entries).to_le_bytes());
    put(&mut header, HEADER_SUM, &[0; 4]);
    let checked = sum(&header);
    put(&mut header, HEADER_SUM, &checked.to_le_bytes());
    Ok(file.write_all_at(&header, SECTOR)?)
}

fn utf16(name: &str) -> Vec<u8> {
    let mut bytes: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
    bytes.resize(NAME_BYTES, 0);
    bytes
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

fn sum(bytes: &[u8]) -> u32 {
    let mut sum = Crc::new();
    sum.update(bytes);
    sum.sum()
}
