//! What is answered.

use std::io::Read as _;
use std::os::unix::fs::MetadataExt;

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP, VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_FLUSH,
    VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_SECURE_ERASE,
    VIRTIO_BLK_T_WRITE_ZEROES,
};

use super::guest::{FREE, Guest, SEAM, WRITE};
use super::{block, image, pattern};
use crate::expose::vhost_user::config_space::{MOST_DISCARD_SECTORS, MOST_DISCARD_SEGMENTS};

const OK: u8 = VIRTIO_BLK_S_OK as u8;
const IOERR: u8 = VIRTIO_BLK_S_IOERR as u8;
const UNSUPP: u8 = VIRTIO_BLK_S_UNSUPP as u8;

const HEADER: u64 = FREE;
const STATUS: u64 = FREE + 64;
const DATA: u64 = FREE + 4096;

/// A request in the usual three descriptors. Returns the status and the number of bytes that were written.
fn request(guest: &mut Guest, kind: u32, sector: u64, length: u32, data_flags: u16) -> (u8, u32) {
    guest.put_header(HEADER, kind, sector);
    guest.put(STATUS, &[0xff]);
    guest.put_chain(&[(HEADER, 16, 0), (DATA, length, data_flags), (STATUS, 1, WRITE)]);
    let used = guest.used();
    (guest.get(STATUS, 1)[0], used)
}

fn read(guest: &mut Guest, sector: u64, length: u32) -> (u8, u32) {
    request(guest, VIRTIO_BLK_T_IN, sector, length, WRITE)
}

#[test]
fn every_range_of_an_image_reads_as_what_lies_there() {
    let (disk, expected) = image();
    let sectors = expected.len() as u64 / 512;
    assert_eq!(disk.sectors(), sectors);
    let mut guest = Guest::new(disk);
    for start in 0..sectors {
        for count in [1, 2, 7, sectors - start] {
            let (offset, length) = (start * 512, count.min(sectors - start) * 512);
            guest.put(DATA, &vec![0xee; length as usize]);
            assert_eq!(read(&mut guest, start, length as u32), (OK, length as u32 + 1));
            assert!(
                guest.get(DATA, length) == expected[offset as usize..][..length as usize],
                "{start} {count}"
            );
        }
    }
    let counts = guest.counts();
    assert_eq!((counts.reads.requests, counts.reads.errors), (sectors * 4, 0));
}

#[test]
fn descriptors_may_be_cut_anywhere() {
    let (disk, expected) = image();
    let mut guest = Guest::new(disk);
    guest.put_header(HEADER, VIRTIO_BLK_T_IN, 1);
    let pieces = [
        (HEADER, 3, 0),
        (HEADER + 3, 12, 0),
        (HEADER + 15, 1, 0),
        // Data over the seam of two regions, and the status in the same descriptor.
        (SEAM - 1000, 2100, WRITE),
        (DATA, 0, WRITE),
        (DATA, 2508 + 1, WRITE),
    ];
    guest.put_chain(&pieces);
    assert_eq!(guest.used(), 4609);
    let read = [guest.get(SEAM - 1000, 2100), guest.get(DATA, 2508)].concat();
    assert!(read == expected[512..5120]);
    assert_eq!(guest.get(DATA + 2508, 1), [OK]);
    guest.put_indirect(FREE + 0x8000, &[(HEADER, 16, 0), (DATA, 1024, WRITE), (STATUS, 1, WRITE)]);
    assert_eq!(guest.used(), 1025);
    assert!(guest.get(DATA, 1024) == expected[512..1536]);
}

#[test]
fn what_is_outside_or_not_in_sectors_is_refused() {
    let (disk, expected) = image();
    let end = expected.len() as u64 / 512;
    let mut guest = Guest::new(disk);
    for (sector, length) in [
        (end, 512),
        (end - 1, 1024),
        (u64::MAX, 512),
        (u64::MAX / 512, 512),
        (1 << 55, 512),
        (0, 511),
        (0, 513),
    ] {
        guest.put(DATA, &[0xee; 1024]);
        assert_eq!(read(&mut guest, sector, length), (IOERR, 1), "{sector} {length}");
        assert_eq!(guest.get(DATA, 1024), [0xee; 1024]);
    }
    assert_eq!(read(&mut guest, end, 0), (OK, 1));
}

#[test]
fn an_image_takes_nothing_and_tells_its_serial() {
    let (disk, _) = image();
    let mut guest = Guest::new(disk);
    for kind in [VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES] {
        assert_eq!(request(&mut guest, kind, 0, 512, 0), (IOERR, 1), "{kind}");
    }
    for kind in [VIRTIO_BLK_T_SECURE_ERASE, 10, 2, 99, u32::MAX] {
        assert_eq!(request(&mut guest, kind, 0, 512, 0), (UNSUPP, 1), "{kind}");
    }
    assert_eq!(request(&mut guest, VIRTIO_BLK_T_FLUSH, 0, 0, 0), (OK, 1));
    guest.put(DATA, &[0xee; 32]);
    assert_eq!(request(&mut guest, VIRTIO_BLK_T_GET_ID, 0, 32, WRITE), (OK, 21));
    assert_eq!(&guest.get(DATA, 21), b"layers\0\0\0\0\0\0\0\0\0\0\0\0\0\0\xee");
    assert_eq!(request(&mut guest, VIRTIO_BLK_T_GET_ID, 0, 4, WRITE), (OK, 5));
    assert_eq!(guest.counts().others.errors, 5);
}

#[test]
fn a_block_holds_what_was_written() {
    let (disk, file) = block(64 << 10);
    let mut guest = Guest::new(disk);
    let written = pattern(9, 8192);
    guest.put(DATA, &written);
    assert_eq!(request(&mut guest, VIRTIO_BLK_T_OUT, 5, 8192, 0), (OK, 1));
    assert_eq!(request(&mut guest, VIRTIO_BLK_T_FLUSH, 0, 0, 0), (OK, 1));
    assert_eq!(request(&mut guest, VIRTIO_BLK_T_OUT, 127, 1024, 0), (IOERR, 1));
    let mut expected = pattern(3, 64 << 10);
    expected[2560..2560 + 8192].copy_from_slice(&written);
    let mut found = Vec::new();
    file.reopen().unwrap().read_to_end(&mut found).unwrap();
    assert!(found == expected);
    assert_eq!(read(&mut guest, 4, 16_384), (OK, 16_385));
    assert!(guest.get(DATA, 16_384) == expected[2048..2048 + 16_384]);
}

/// Segments of sector, number of sectors, flags.
fn release(guest: &mut Guest, kind: u32, segments: &[(u64, u32, u32)]) -> u8 {
    let bytes = segments.iter().flat_map(|(sector, sectors, flags)| {
        [&sector.to_le_bytes()[..], &sectors.to_le_bytes(), &flags.to_le_bytes()].concat()
    });
    let bytes: Vec<u8> = bytes.collect();
    guest.put(DATA, &bytes);
    request(guest, kind, 0, bytes.len() as u32, 0).0
}

#[test]
fn discarded_space_goes_back_to_the_host_and_zeros_keep_it() {
    let (disk, file) = block(1 << 20);
    file.as_file().sync_all().unwrap();
    let used = || file.as_file().metadata().unwrap().blocks() * 512;
    let before = used();
    let mut guest = Guest::new(disk);
    assert_eq!(release(&mut guest, VIRTIO_BLK_T_WRITE_ZEROES, &[(0, 256, 0)]), OK);
    assert_eq!(used(), before);
    assert_eq!(release(&mut guest, VIRTIO_BLK_T_DISCARD, &[(256, 256, 0), (1024, 8, 0)]), OK);
    assert_eq!(used(), before - (256 + 8) * 512);
    assert_eq!(release(&mut guest, VIRTIO_BLK_T_WRITE_ZEROES, &[(512, 256, 1)]), OK);
    assert_eq!(used(), before - (512 + 8) * 512);
    assert_eq!(release(&mut guest, VIRTIO_BLK_T_WRITE_ZEROES, &[(769, 1, 1), (771, 2, 0)]), OK);
    let mut expected = pattern(3, 1 << 20);
    for zeros in [0..768, 769..770, 771..773, 1024..1032] {
        expected[zeros.start * 512..zeros.end * 512].fill(0);
    }
    let mut found = Vec::new();
    file.reopen().unwrap().read_to_end(&mut found).unwrap();
    assert!(found == expected);
    assert_eq!(guest.counts().discards.bytes, (256 + 264 + 256 + 3) * 512);
}

#[test]
fn segments_that_are_wrong_change_nothing() {
    let (disk, file) = block(64 << 10);
    let mut guest = Guest::new(disk);
    let too_many = vec![(0, 1, 0); MOST_DISCARD_SEGMENTS as usize + 1];
    let first_is_right = [(0, 1, 0), (127, 2, 0)];
    for (segments, status) in [
        (&[(0, 1, 1)][..], UNSUPP),
        (&[(0, 1, 4)], UNSUPP),
        (&first_is_right, IOERR),
        (&[(0, MOST_DISCARD_SECTORS + 1, 0)], IOERR),
        (&[(u64::MAX, 1, 0)], IOERR),
        (&[], IOERR),
        (&too_many, IOERR),
    ] {
        assert_eq!(release(&mut guest, VIRTIO_BLK_T_DISCARD, segments), status, "{segments:?}");
    }
    assert_eq!(release(&mut guest, VIRTIO_BLK_T_WRITE_ZEROES, &[(0, 1, 2)]), UNSUPP);
    assert_eq!(request(&mut guest, VIRTIO_BLK_T_DISCARD, 0, 15, 0).0, IOERR);
    let mut found = Vec::new();
    file.reopen().unwrap().read_to_end(&mut found).unwrap();
    assert!(found == pattern(3, 64 << 10));
}

#[test]
fn a_guest_that_asks_for_few_notifications_gets_few() {
    let (disk, _) = image();
    let mut guest = Guest::new(disk);
    guest.set_event_index();
    // The driver's used event stays at 0: the first completion is to be told, and no other.
    for _ in 0..5 {
        assert_eq!(read(&mut guest, 0, 512), (OK, 513));
        assert_eq!(guest.notified(), 1);
    }
}

#[test]
fn rings_of_every_size_go_round_with_requests_in_tables() {
    for entries in (0..=10).map(|power| 1 << power) {
        let (disk, expected) = image();
        let mut guest = Guest::with_entries(disk, entries);
        guest.put_header(HEADER, VIRTIO_BLK_T_IN, 3);
        guest.put_indirect(FREE + 0x8000, &[(HEADER, 16, 0), (DATA, 512, WRITE), (STATUS, 1, WRITE)]);
        for _ in 0..entries * 2 + 1 {
            guest.put(DATA, &[0xee; 512]);
            assert_eq!(guest.used(), 513, "{entries}");
            assert!(guest.get(DATA, 512) == expected[1536..2048]);
        }
    }
}
