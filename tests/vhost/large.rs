//! Reads that are cut into parts, which several threads carry out.

use crate::driver::{Driver, ROOM};
use crate::export::{Exported, image};

const MIB: usize = 1 << 20;

#[test]
fn large_reads_in_flight_are_all_answered_in_their_order() {
    let (disk, expected) = image(7, 700 << 10);
    let exported = Exported::new(disk, 2);
    let mut driver = Driver::connect(&exported.socket(), 2, 128);
    let last = expected.len() - MIB;
    for round in 0..40 {
        let offset = |request: usize| (round * 37 + request * 1471) * 512 % last / 512 * 512;
        for request in 0..3 {
            // Two pieces that do not meet where a part ends, and a small read behind it.
            let pieces = [(request * MIB + MIB / 3, MIB - MIB / 3), (request * MIB, MIB / 3)];
            driver.submit_read(round % 2, offset(request) as u64, &pieces, request);
        }
        driver.submit_read(round % 2, offset(3) as u64, &[(3 * MIB, 4096)], 3);
        driver.kick(round % 2);
        for request in 0..4 {
            assert_eq!(driver.wait(round % 2), (request, 0));
        }
        for request in 0..3 {
            let read =
                [driver.get(request * MIB + MIB / 3, MIB - MIB / 3), driver.get(request * MIB, MIB / 3)];
            assert!(read.concat() == expected[offset(request)..][..MIB], "{round} {request}");
        }
        assert!(driver.get(3 * MIB, 4096) == expected[offset(3)..][..4096]);
    }
    const { assert!(4 * MIB <= ROOM) };
    let reads = exported.counters.counts().reads;
    assert_eq!((reads.requests, reads.errors), (160, 0));
    assert_eq!(reads.bytes, 40 * (3 * MIB as u64 + 4096));
}

#[test]
fn a_monitor_that_goes_in_the_middle_of_large_reads_leaves_the_disk_to_the_next() {
    let (disk, expected) = image(7, 700 << 10);
    let exported = Exported::new(disk, 2);
    for round in 0..30 {
        let mut driver = Driver::connect(&exported.socket(), 2, 128);
        for request in 0..8 {
            driver.submit_read(request % 2, request as u64 * 4096, &[(request % 4 * MIB, MIB)], request);
        }
        driver.kick(0);
        driver.kick(1);
        if round % 2 == 0 {
            assert_eq!(driver.wait(0), (0, 0));
        }
    }
    let mut driver = Driver::connect(&exported.socket(), 1, 128);
    assert_eq!(driver.read(0, 512, ROOM), 0);
    assert!(driver.get(0, ROOM) == expected[512..][..ROOM]);
}
