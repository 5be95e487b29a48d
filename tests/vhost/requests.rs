//! Every kind of request, in queues of all sizes.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::driver::{Driver, ROOM};
use crate::export::{Exported, block, file, image, pattern};

const EIO: i32 = -5;

/// Feature bits (VIRTIO 1.3, 5.2.3 and 6).
const READ_ONLY: u64 = 1 << 5;
const DISCARD: u64 = 1 << 13;

#[test]
fn an_image_reads_as_its_layers_in_queues_of_every_size() {
    let (disk, expected) = image(9, 40_960);
    let exported = Exported::new(disk, 2);
    // The driver needs three entries for a request.
    for size in [4, 8, 16, 64, 128, 256, 512, 1024] {
        let mut driver = Driver::connect(&exported.socket(), 2, size);
        for (number, start) in (0..expected.len()).step_by(30_720).enumerate() {
            let length = (expected.len() - start).min(65_536);
            assert_eq!(driver.read(number % 2, start as u64, length), 0);
            assert!(driver.get(0, length) == expected[start..start + length], "{size}: {start}");
        }
    }
    exported.end().unwrap();
}

#[test]
fn rings_are_taken_that_this_driver_cannot_use() {
    let (disk, _) = image(1, 4096);
    let exported = Exported::new(disk, 1);
    for size in [1, 2] {
        drop(Driver::connect(&exported.socket(), 1, size));
    }
    let mut driver = Driver::connect(&exported.socket(), 1, 4);
    assert_eq!(driver.read(0, 0, 512), 0);
}

#[test]
fn many_requests_at_a_time_are_all_answered_in_their_order() {
    let (disk, expected) = image(40, 16_384);
    let exported = Exported::new(disk, 1);
    let mut driver = Driver::connect(&exported.socket(), 1, 512);
    let blocks = expected.len() / 4096;
    for round in 0..20 {
        for request in 0..32 {
            let offset = (round * 37 + request * 11) % (blocks - 1) * 4096 + 512;
            let at = request * 4096;
            driver.submit_read(0, offset as u64, &[(at + 3584, 512), (at, 3584)], request);
            if request % 5 == 0 {
                driver.kick(0);
            }
        }
        driver.kick(0);
        for request in 0..32 {
            assert_eq!(driver.wait(0), (request, 0));
        }
        for request in 0..32 {
            let offset = (round * 37 + request * 11) % (blocks - 1) * 4096 + 512;
            let read = [driver.get(request * 4096 + 3584, 512), driver.get(request * 4096, 3584)].concat();
            assert!(read == expected[offset..offset + 4096], "{round} {request}");
        }
    }
    let counts = exported.counters.counts();
    assert_eq!((counts.reads.requests, counts.reads.bytes, counts.reads.errors), (640, 640 * 4096, 0));
    assert_eq!(counts.reads.latencies.iter().sum::<u64>(), 640);
}

#[test]
fn the_driver_is_told_what_the_disk_is() {
    let (disk, expected) = image(3, 8192);
    let exported = Exported::new(disk, 4);
    let driver = Driver::connect(&exported.socket(), 1, 128);
    let config = driver.config();
    assert_eq!(u64::from(config.capacity), expected.len() as u64 / 512);
    assert_eq!((u32::from(config.blk_size), config.physical_block_exp), (512, 3));
    assert_eq!((u32::from(config.seg_max), u16::from(config.num_queues)), (126, 4));
    assert_eq!(u32::from(config.max_discard_sectors), 0);
    assert_eq!(driver.features() & (READ_ONLY | DISCARD), READ_ONLY);
    let written = file(&pattern(0, 1 << 20));
    let exported = Exported::new(block(&written), 1);
    let driver = Driver::connect(&exported.socket(), 1, 128);
    let config = driver.config();
    assert!(u32::from(config.max_discard_sectors) > 0 && u32::from(config.max_write_zeroes_sectors) > 0);
    assert_eq!(driver.features() & (READ_ONLY | DISCARD), DISCARD);
}

#[test]
fn what_cannot_be_is_an_error_for_the_guest_and_nothing_more() {
    let (disk, expected) = image(2, 8192);
    let end = expected.len() as u64;
    let exported = Exported::new(disk, 1);
    let mut driver = Driver::connect(&exported.socket(), 1, 64);
    for (offset, length) in [(end, 512), (end - 512, 1024), (0, 100), (0, 513), (u64::MAX - 511, 512)] {
        assert_eq!(driver.read(0, offset, length), EIO, "{offset} {length}");
    }
    assert_eq!(driver.write(0, 0, 512), EIO);
    assert_eq!(driver.discard(0, 0, 512), EIO);
    assert_eq!(driver.write_zeroes(0, 0, 512, true), EIO);
    assert_eq!(driver.flush(0), 0);
    assert_eq!(driver.read(0, 0, 8192), 0);
    assert!(driver.get(0, 8192) == expected[..8192]);
}

#[test]
fn a_block_is_written_flushed_trimmed_and_read_again() {
    let written = file(&pattern(7, 2 << 20));
    written.as_file().sync_all().unwrap();
    let mut expected = pattern(7, 2 << 20);
    {
        let exported = Exported::new(block(&written), 2);
        let mut driver = Driver::connect(&exported.socket(), 2, 128);
        let bytes = pattern(8, 1 << 20);
        driver.put(0, &bytes);
        assert_eq!(driver.write(1, 512, bytes.len()), 0);
        assert_eq!(driver.flush(1), 0);
        expected[512..512 + bytes.len()].copy_from_slice(&bytes);
        assert!(fs::read(written.path()).unwrap() == expected);
        let before = written.as_file().metadata().unwrap().blocks();
        assert_eq!(driver.discard(0, 1 << 20, 1 << 19), 0);
        assert_eq!(written.as_file().metadata().unwrap().blocks(), before - 1024);
        assert_eq!(driver.write_zeroes(0, 0, 4096, false), 0);
        assert_eq!(driver.write_zeroes(0, 1 << 16, 4096, true), 0);
        expected[1 << 20..3 << 19].fill(0);
        expected[..4096].fill(0);
        expected[1 << 16..][..4096].fill(0);
        assert_eq!(driver.read(0, 0, 1 << 21), 0);
        assert!(driver.get(0, 1 << 21) == expected);
        const { assert!((1 << 21) <= ROOM) };
    }
    assert!(fs::read(written.path()).unwrap() == expected);
}
