//! Thousands of connections to one export, one after the other. A program of its own, because it counts what the
//! process has.

// Helpers of tests may fail as tests do.
#![allow(clippy::unwrap_used, clippy::expect_used)]
// The other tests need more of the helpers.
#![allow(dead_code)]

#[path = "../helpers/vhost_driver.rs"]
mod driver;
#[path = "../helpers/vhost_export.rs"]
mod export;

use std::fs;

use driver::Driver;
use export::{Exported, image};

/// Connections where nobody says how many.
const FEW: u32 = 300;

/// Descriptors, threads and mappings of this process.
fn holdings() -> [usize; 3] {
    let entries = |path| fs::read_dir(path).unwrap().count();
    let mappings = fs::read_to_string("/proc/self/maps").unwrap().lines().count();
    [entries("/proc/self/fd"), entries("/proc/self/task"), mappings]
}

/// Connects, reads, and goes, sometimes without waiting for the answer.
fn visit(exported: &Exported, number: u32) {
    let mut driver = Driver::connect(&exported.socket(), 2, 64);
    driver.submit_read(0, 0, &[(0, 4096)], 0);
    if number.is_multiple_of(2) {
        // Enough for several threads.
        (1..4).for_each(|read| driver.submit_read(0, 0, &[(read << 20, 1 << 20)], read));
    }
    driver.kick(0);
    if !number.is_multiple_of(5) {
        assert_eq!(driver.wait(0), (0, 0));
    }
}

/// An export that so many drivers visit, and its end.
fn serve(connections: u32) {
    let (disk, _) = image(2, 1 << 20);
    let exported = Exported::new(disk, 2);
    (0..connections).for_each(|number| visit(&exported, number));
    assert_eq!(exported.counters.counts().connections, u64::from(connections));
    exported.end().unwrap();
}

#[test]
fn connections_leave_nothing_behind() {
    let connections = std::env::var("NEXUSEROFS_VHOST_CONNECTIONS").map_or(FEW, |text| text.parse().unwrap());
    // What is needed once stays: the arenas of the allocator, for example.
    serve(100);
    let before = holdings();
    serve(connections);
    let after = holdings();
    assert_eq!((after[0], after[1]), (before[0], before[1]), "descriptors and threads");
    // An arena or two may have come.
    assert!(after[2] <= before[2] + 16, "mappings: {before:?} {after:?}");
}
