//! What must not be answered, and must do no harm.

use std::io::Read as _;

use proptest::collection::vec;
use proptest::prelude::*;
use virtio_bindings::virtio_blk::{VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT};

use super::guest::{ENTRIES, FREE, Fields, Guest, INDIRECT, NEXT, SEAM, WRITE};
use super::{block, image, pattern};

const HEADER: u64 = FREE;
const STATUS: u64 = FREE + 64;
const DATA: u64 = FREE + 4096;
const END: u64 = 2 * SEAM;

/// Puts these descriptors into the table and offers the first. It must come back with nothing written.
fn is_malformed(descriptors: &[Fields]) {
    let (disk, _) = image();
    let mut guest = Guest::new(disk);
    guest.put_header(HEADER, VIRTIO_BLK_T_IN, 0);
    guest.put(STATUS, &[0xee]);
    guest.put(DATA, &[0xee; 512]);
    (0..).zip(descriptors).for_each(|(index, fields)| guest.put_descriptor(index, *fields));
    assert_eq!(guest.used(), 0, "{descriptors:?}");
    assert_eq!(guest.counts().malformed, 1);
    assert_eq!((guest.get(STATUS, 1), guest.get(DATA, 512)), (vec![0xee], vec![0xee; 512]));
}

/// All heads name one table, which is as long as a table can be.
#[test]
fn many_long_tables_at_once_are_answered_batch_by_batch() {
    const TABLE: u64 = FREE + 0x4000;
    let (disk, _) = image();
    let mut guest = Guest::new(disk);
    guest.put_header(HEADER, VIRTIO_BLK_T_IN, 0);
    let mut table = vec![(HEADER, 16, 0)];
    table.extend([(DATA, 1, WRITE)].repeat(30_000));
    table.push((STATUS, 1, WRITE));
    guest.put_indirect(TABLE, &table);
    guest.offer_again(ENTRIES).unwrap();
    let counts = guest.counts();
    assert_eq!(counts.malformed + counts.reads.requests, u64::from(ENTRIES), "{counts:?}");
}

#[test]
fn chains_that_are_no_request_come_back_untouched() {
    let header = (HEADER, 16, NEXT, 1);
    let status = (STATUS, 1, WRITE, 0);
    for descriptors in [
        // Too short: nothing to read, nothing to write, half a header.
        &[(STATUS, 1, WRITE, 0)][..],
        &[(HEADER, 16, 0, 0)],
        &[(HEADER, 15, NEXT, 1), status],
        &[header, (STATUS, 0, WRITE, 0)],
        // Loops, and a successor that is not there.
        &[(HEADER, 16, NEXT, 0)],
        &[header, (DATA, 512, WRITE | NEXT, 1)],
        &[header, (DATA, 512, WRITE | NEXT, ENTRIES)],
        &[header, (DATA, 512, WRITE | NEXT, u16::MAX)],
        // Memory that is not there.
        &[header, (END, 512, WRITE | NEXT, 2), status],
        &[header, (END - 1, 512, WRITE | NEXT, 2), status],
        &[header, (u64::MAX - 10, 512, WRITE | NEXT, 2), status],
        &[header, (DATA, u32::MAX, WRITE | NEXT, 2), status],
        &[(END, 16, NEXT, 1), status],
        &[header, (END, 1, WRITE, 0)],
        // More than 4 GiB in all.
        &[header, (0, 0xffff_fff0, WRITE | NEXT, 2), (0, 0xffff_fff0, WRITE | NEXT, 3), status],
        // What may be read after what may be written.
        &[header, (DATA, 512, WRITE | NEXT, 2), (HEADER, 16, NEXT, 3), status],
        // Tables that are none: too long, not in whole descriptors, empty, outside.
        &[(DATA, 17, INDIRECT, 0)],
        &[(DATA, 0, INDIRECT, 0)],
        &[(DATA, 16 << 16, INDIRECT, 0)],
        &[(END - 8, 32, INDIRECT, 0)],
    ] {
        is_malformed(descriptors);
    }
}

#[test]
fn a_table_in_a_table_is_refused() {
    let (disk, _) = image();
    let mut guest = Guest::new(disk);
    guest.put_indirect(DATA, &[(DATA, 48, INDIRECT)]);
    assert_eq!(guest.used(), 0);
}

#[test]
fn rings_that_say_what_cannot_be_are_given_up() {
    let (disk, _) = image();
    let mut guest = Guest::new(disk);
    guest.put_available(ENTRIES + 1);
    assert!(guest.serve().is_err());
    let (disk, _) = image();
    let mut guest = Guest::new(disk);
    guest.put_header(HEADER, VIRTIO_BLK_T_IN, 0);
    guest.put_chain(&[(HEADER, 16, 0), (STATUS, 1, WRITE)]);
    assert!(guest.offer(ENTRIES).is_err());
}

#[test]
fn memory_that_is_named_many_times_is_written_as_often() {
    let (disk, expected) = image();
    let mut guest = Guest::new(disk);
    guest.put_header(HEADER, VIRTIO_BLK_T_IN, 0);
    let pieces: Vec<_> = [(HEADER, 16, 0)]
        .into_iter()
        .chain(std::iter::repeat_n((DATA, 512, WRITE), 12))
        .chain([(STATUS, 1, WRITE)])
        .collect();
    guest.put_chain(&pieces);
    assert_eq!(guest.used(), 12 * 512 + 1);
    assert_eq!(guest.get(DATA, 512), expected[11 * 512..12 * 512]);
}

fn descriptor() -> impl Strategy<Value = Fields> {
    let address = prop_oneof![
        4 => (0..64_u64).prop_map(|at| FREE + at * 512),
        2 => Just(HEADER),
        1 => (0..2048_u64).prop_map(|at| SEAM - 1024 + at),
        1 => 0..0xb000_u64,
        1 => any::<u64>(),
    ];
    let length = prop_oneof![Just(16), Just(1), (0..9_u32).prop_map(|sectors| sectors * 512), any::<u32>()];
    let flags = prop_oneof![4 => 0..4_u16, 1 => any::<u16>()];
    (address, length, flags, 0..ENTRIES + 2)
}

proptest! {
    /// Whatever the rings hold, nothing outside the disk changes, and serving ends.
    #[test]
    fn no_ring_makes_harm(
        descriptors in vec(descriptor(), ENTRIES as usize),
        table in vec(any::<u8>(), 4096),
        kind in prop_oneof![Just(VIRTIO_BLK_T_IN), Just(VIRTIO_BLK_T_OUT), 0..20_u32],
        sector in prop_oneof![0..20_u64, any::<u64>()],
        heads in vec(0..ENTRIES + 1, 1..20),
        writable in any::<bool>(),
    ) {
        let (disk, file) = if writable {
            let (disk, file) = block(8192);
            (disk, Some(file))
        } else {
            (image().0, None)
        };
        let mut guest = Guest::new(disk);
        guest.put(DATA, &table);
        guest.put_header(HEADER, kind, sector);
        (0..).zip(&descriptors).for_each(|(index, fields)| guest.put_descriptor(index, *fields));
        for head in heads {
            // A guest may write over its own rings: that is an error at most.
            if guest.offer(head).is_err() {
                break;
            }
        }
        if let Some(file) = file {
            prop_assert_eq!(file.as_file().metadata().unwrap().len(), 8192);
        }
    }
}

#[test]
fn a_request_that_reads_does_not_write() {
    let (disk, file) = block(8192);
    let mut guest = Guest::new(disk);
    guest.put_header(HEADER, VIRTIO_BLK_T_IN, 0);
    // Data that only may be read is none of a read.
    guest.put_chain(&[(HEADER, 16, 0), (DATA, 512, 0), (STATUS, 1, WRITE)]);
    assert_eq!(guest.used(), 1);
    let mut found = Vec::new();
    file.reopen().unwrap().read_to_end(&mut found).unwrap();
    assert!(found == pattern(3, 8192));
}
