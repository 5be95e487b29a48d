//! What a guest asks of a virtio disk: it is answered or not, the files stay as long as they are, and nothing is put
//! into the guest's memory but where the guest said that it may be.

use std::cell::Cell;
use std::fs::{self, File};
use std::ops::Range;
use std::sync::OnceLock;

use arbitrary::Arbitrary;
use nexuserofs::expose::vhost_user::{Bare, Disk, Part};
use nexuserofs::image::extent::ExtentMap;
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

/// Size of the guest's memory in bytes. It has a hole in it.
const MEMORY: u64 = 0x1_0000;
const HOLE: Range<u64> = 0x8000..0x9000;

/// Entries of the queue, and where its parts are.
const ENTRIES: u16 = 16;
const TABLE: u64 = 0;
const AVAILABLE: u64 = 0x200;
const USED: u64 = 0x300;
/// Length of the used ring with the event behind it.
const USED_BYTES: u64 = 4 + 8 * ENTRIES as u64 + 2;
/// Where indirect tables are, one for each chain.
const INDIRECT: u64 = 0x400;
const INDIRECT_BYTES: u64 = 0x100;
/// Where headers are, one for each chain. Behind them there is data only.
const HEADERS: u64 = INDIRECT + INDIRECT_BYTES * ENTRIES as u64;
const DATA: u64 = HEADERS + 16 * ENTRIES as u64;

/// How many batches of requests are answered: a guest whose rings overlap finds work for ever.
const BATCHES: u32 = 64;

/// Flags of a descriptor.
const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT_TABLE: u16 = 4;

/// Size of the writable block in bytes.
const BLOCK_BYTES: u64 = 1 << 16;

/// What a guest does.
#[derive(Debug, Arbitrary)]
pub struct Input {
    is_writable: bool,
    has_event_index: bool,
    chains: Vec<Chain>,
    /// What it puts over its memory before the device looks.
    pokes: Vec<(u16, u8)>,
    /// What it reads of the configuration.
    config: (u16, u16),
}

/// A request.
#[derive(Debug, Arbitrary)]
struct Chain {
    kind: Kind,
    sector: Sector,
    pieces: Vec<Piece>,
    is_indirect: bool,
}

#[derive(Debug, Arbitrary)]
enum Kind {
    Read,
    Write,
    Flush,
    GetId,
    Discard,
    WriteZeroes,
    Any(u32),
}

#[derive(Debug, Arbitrary)]
enum Sector {
    Near(u8),
    Any(u64),
}

/// A descriptor behind the header.
#[derive(Debug, Arbitrary)]
struct Piece {
    address: Address,
    length: u16,
    is_writable: bool,
}

#[derive(Debug, Arbitrary)]
enum Address {
    /// In the data.
    Data(u16),
    /// Anywhere.
    Any(u64),
}

struct Disks {
    image: Bare,
    block: Bare,
    /// The block's file, and the image's.
    files: [File; 2],
}

/// The image is read only, and what a guest did to the block does not matter to the next: one of each is enough.
fn disks() -> &'static Disks {
    static DISKS: OnceLock<Disks> = OnceLock::new();
    DISKS.get_or_init(|| {
        let directory = std::env::temp_dir();
        let [image, block] = ["image", "block"].map(|name| {
            let path = directory.join(format!("nexuserofs-fuzz-{}-{name}", std::process::id()));
            fs::write(&path, vec![0xa5; BLOCK_BYTES as usize]).expect("a file");
            path
        });
        let mut map = ExtentMap::new();
        map.push_bytes([0x5a; 512]).expect("a map");
        map.push_file(0, 512, 8192).expect("a map");
        map.push_zeros(4096).expect("a map");
        map.push_file(0, 0, 4096).expect("a map");
        let part = Part { file: File::open(&image).expect("a file"), path: image.clone(), tree: None };
        let writable = File::options().read(true).write(true).open(&block).expect("a file");
        let files = [&block, &image].map(|path| File::open(path).expect("a file"));
        let made = Disks {
            image: Bare::new(
                Disk::image(map, vec![part], |_| {}).expect("a disk"),
                "fuzz".parse().expect("a serial"),
            ),
            block: Bare::new(
                Disk::block(writable, block.clone()).expect("a disk"),
                "fuzz".parse().expect("a serial"),
            ),
            files,
        };
        [image, block].iter().for_each(|path| fs::remove_file(path).expect("a file"));
        made
    })
}

/// Answers what a guest asks for, and checks what became of it.
pub fn check(input: &Input) {
    let disks = disks();
    let disk = if input.is_writable { &disks.block } else { &disks.image };
    let (offset, length) = (usize::from(input.config.0), usize::from(input.config.1));
    let space = disk.config_space(1);
    assert!(space.get(offset..offset + length).is_none_or(|part| part.len() == length));

    let ranges =
        [(GuestAddress(0), HOLE.start as usize), (GuestAddress(HOLE.end), (MEMORY - HOLE.end) as usize)];
    let memory = GuestMemoryMmap::from_ranges(&ranges).expect("memory");
    let mut allowed = vec![USED..USED + USED_BYTES];
    let count = put_chains(&memory, &input.chains, &mut allowed);
    for (address, byte) in &input.pokes {
        // The hole takes nothing.
        let _ = memory.write_obj(*byte, GuestAddress(u64::from(*address)));
    }
    let before = contents(&memory);
    let mut queue = Queue::new(ENTRIES).expect("a queue");
    queue.try_set_desc_table_address(GuestAddress(TABLE)).expect("an address");
    queue.try_set_avail_ring_address(GuestAddress(AVAILABLE)).expect("an address");
    queue.try_set_used_ring_address(GuestAddress(USED)).expect("an address");
    queue.set_event_idx(input.has_event_index);
    queue.set_ready(true);
    let batches = Cell::new(0);
    let is_closing = || {
        batches.set(batches.get() + 1);
        batches.get() > BATCHES
    };
    let served = disk.serve(&mut queue, &memory, &is_closing);
    if input.pokes.is_empty() && !overlap(&allowed) {
        served.expect("rings that are whole");
        assert_eq!(queue.next_used(), count, "each chain is used once");
    }
    if input.pokes.is_empty() {
        for (place, (old, new)) in before.iter().zip(contents(&memory)).enumerate() {
            let is_allowed = || allowed.iter().any(|range| range.contains(&(place as u64)));
            assert!(*old == new || is_allowed(), "byte {place:#x} was written");
        }
    }
    for file in &disks.files {
        assert_eq!(file.metadata().expect("a file").len(), BLOCK_BYTES);
    }
}

/// Whether the device may write to what it reads its work from: then the guest changes its own requests.
fn overlap(allowed: &[Range<u64>]) -> bool {
    allowed.iter().skip(1).any(|range| range.start < DATA)
}

/// Puts chains into the table, as many as fit, and returns how many there are. Where the device may write is added to
/// `allowed`.
fn put_chains(memory: &GuestMemoryMmap, chains: &[Chain], allowed: &mut Vec<Range<u64>>) -> u16 {
    let (mut next, mut count) = (0, 0);
    for chain in chains.iter().take(ENTRIES.into()) {
        let pieces = &chain.pieces[..chain.pieces.len().min(ENTRIES as usize - 2)];
        let needed = if chain.is_indirect { 1 } else { pieces.len() as u16 + 1 };
        if next + needed > ENTRIES {
            break;
        }
        let header = put_header(memory, chain, count);
        let table = if chain.is_indirect { INDIRECT + INDIRECT_BYTES * u64::from(count) } else { TABLE };
        let first = if chain.is_indirect { 0 } else { next };
        put(memory, table, first, (header, 16, 0), !pieces.is_empty());
        for (number, piece) in pieces.iter().enumerate() {
            let address = match piece.address {
                Address::Data(offset) => DATA + u64::from(offset) % (MEMORY - DATA),
                Address::Any(address) => address,
            };
            let flags = if piece.is_writable { WRITE } else { 0 };
            let last = number + 1 == pieces.len();
            put(memory, table, first + 1 + number as u16, (address, piece.length.into(), flags), !last);
            if piece.is_writable {
                allowed.push(address..address.saturating_add(piece.length.into()));
            }
        }
        if chain.is_indirect {
            let bytes = 16 * (pieces.len() as u32 + 1);
            put(memory, TABLE, next, (table, bytes, INDIRECT_TABLE), false);
        }
        write(memory, AVAILABLE + 4 + 2 * u64::from(count), next);
        next += needed;
        count += 1;
    }
    write(memory, AVAILABLE + 2, count);
    count
}

/// Puts a chain's header where it belongs, and returns where.
fn put_header(memory: &GuestMemoryMmap, chain: &Chain, number: u16) -> u64 {
    let kind: u32 = match chain.kind {
        Kind::Read => 0,
        Kind::Write => 1,
        Kind::Flush => 4,
        Kind::GetId => 8,
        Kind::Discard => 11,
        Kind::WriteZeroes => 13,
        Kind::Any(kind) => kind,
    };
    let sector = match chain.sector {
        Sector::Near(sector) => u64::from(sector),
        Sector::Any(sector) => sector,
    };
    let place = HEADERS + 16 * u64::from(number);
    write(memory, place, kind);
    write(memory, place + 8, sector);
    place
}

/// Puts a descriptor (address, length, flags) into a table.
fn put(
    memory: &GuestMemoryMmap,
    table: u64,
    number: u16,
    (address, length, flags): (u64, u32, u16),
    has_next: bool,
) {
    let place = table + 16 * u64::from(number);
    write(memory, place, address);
    write(memory, place + 8, length);
    write(memory, place + 12, flags | if has_next { NEXT } else { 0 });
    write(memory, place + 14, number + 1);
}

fn write<T: vm_memory::ByteValued>(memory: &GuestMemoryMmap, place: u64, value: T) {
    memory.write_obj(value, GuestAddress(place)).expect("a place in the memory");
}

/// All of the guest's memory, with zeros for the hole.
fn contents(memory: &GuestMemoryMmap) -> Vec<u8> {
    let mut bytes = vec![0; MEMORY as usize];
    let (low, high) = bytes.split_at_mut(HOLE.end as usize);
    memory.read_slice(&mut low[..HOLE.start as usize], GuestAddress(0)).expect("memory");
    memory.read_slice(high, GuestAddress(HOLE.end)).expect("memory");
    bytes
}
