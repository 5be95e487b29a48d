//! What a hostile front-end puts into the memory that it shares: rings that look right at first, and do not keep it up.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use nexuserofs_integration::random::Random;

/// Size of the shared memory in bytes, and where the device is told that it is.
pub(crate) const MEMORY: u64 = 1 << 18;
pub(crate) const BASE: u64 = 1 << 20;

/// Entries of the ring, and where its parts are in the memory.
pub(crate) const ENTRIES: u16 = 64;
pub(crate) const TABLE: u64 = 0;
pub(crate) const AVAILABLE: u64 = 0x1000;
pub(crate) const USED: u64 = 0x2000;
/// Where tables of indirect descriptors begin.
const INDIRECT: u64 = 0x3000;

/// Types of requests, those that there are not among them.
const KINDS: [u32; 8] = [0, 0, 1, 4, 8, 11, 13, 99];

/// Puts some chains into the ring, and tells the device of them.
pub(crate) fn put_chains(random: &mut Random, memory: &File, told: &mut u16) -> io::Result<()> {
    for _ in 0..=random.below(8) {
        let head = random.below(ENTRIES.into()) as u16;
        if random.one_in(4) {
            put_indirect(random, memory, head)?;
        } else {
            put_chain(random, memory, TABLE, head, ENTRIES)?;
        }
        let slot = AVAILABLE + 4 + 2 * u64::from(*told % ENTRIES);
        memory.write_all_at(&head.to_le_bytes(), slot)?;
        *told = told.wrapping_add(1);
    }
    if random.one_in(20) {
        // More than the ring has.
        *told = told.wrapping_add(random.bits() as u16);
    }
    memory.write_all_at(&told.to_le_bytes(), AVAILABLE + 2)
}

/// A header, data and a place for the status, each of which may be anything else.
fn put_chain(random: &mut Random, memory: &File, table: u64, head: u16, entries: u16) -> io::Result<()> {
    let header = place(random);
    if header <= MEMORY - 16 {
        let kind = KINDS[random.below(KINDS.len())];
        let sector = if random.one_in(5) { random.bits() } else { random.bits() % 9000 };
        memory.write_all_at(&kind.to_le_bytes(), header)?;
        memory.write_all_at(&sector.to_le_bytes(), header + 8)?;
    }
    let pieces = random.below(6);
    let to_driver = random.one_in(2);
    let mut number = head;
    for piece in 0..pieces + 2 {
        let (address, length, is_written) = match piece {
            0 => (header, 16, false),
            last if last == pieces + 1 => (place(random), 1, true),
            _ => (place(random), length(random), to_driver),
        };
        let mut flags = if is_written { 2 } else { 0 };
        if piece < pieces + 1 || random.one_in(30) {
            flags |= 1;
        }
        if random.one_in(30) {
            flags ^= 1 << random.below(4);
        }
        let past_the_end = random.one_in(50);
        let next = random.below(usize::from(entries) + usize::from(past_the_end)) as u16;
        put(memory, table, number, (BASE + address, length, flags, next))?;
        number = next % entries;
    }
    Ok(())
}

fn put_indirect(random: &mut Random, memory: &File, head: u16) -> io::Result<()> {
    let table = INDIRECT + 4096 * random.below(8) as u64;
    let entries = 1 + random.below(200) as u16;
    put_chain(random, memory, table, 0, entries)?;
    let length = if random.one_in(10) { random.bits() as u32 } else { 16 * u32::from(entries) };
    put(memory, TABLE, head, (BASE + table, length, 4, 0))
}

/// A descriptor: address, length, flags, next.
fn put(
    memory: &File,
    table: u64,
    number: u16,
    (address, length, flags, next): (u64, u32, u16, u16),
) -> io::Result<()> {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&address.to_le_bytes());
    bytes[8..12].copy_from_slice(&length.to_le_bytes());
    bytes[12..14].copy_from_slice(&flags.to_le_bytes());
    bytes[14..].copy_from_slice(&next.to_le_bytes());
    memory.write_all_at(&bytes, table + 16 * u64::from(number))
}

/// A place in the memory, rarely the rings themselves, or one that is not there.
fn place(random: &mut Random) -> u64 {
    match random.below(20) {
        0 => random.bits() >> random.below(64),
        1 => random.below(0x3000) as u64,
        2 => MEMORY - random.below(64) as u64,
        _ => 0x10000 + random.below(0x20000) as u64,
    }
    .min(1 << 62)
}

fn length(random: &mut Random) -> u32 {
    match random.below(10) {
        0 => random.bits() as u32,
        1 => random.below(4096) as u32,
        _ => 512 * (1 + random.below(64)) as u32,
    }
}

/// Any bytes at any place.
pub(crate) fn scribble(random: &mut Random, memory: &File) -> io::Result<()> {
    let bytes: Vec<u8> = (0..=random.below(64)).map(|_| random.bits() as u8).collect();
    let end = if random.one_in(2) { 0x3000 } else { MEMORY as usize };
    memory.write_all_at(&bytes, random.below(end) as u64)
}
