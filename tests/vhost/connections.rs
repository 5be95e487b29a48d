//! Monitors that go, and come back.

use std::io::Write as _;
use std::os::unix::net::UnixStream;

use nexuserofs::expose::block;

use crate::driver::Driver;
use crate::export::{self, Exported, file, image, pattern};

#[test]
fn a_monitor_that_goes_in_the_middle_of_requests_leaves_the_disk_to_the_next() {
    let (disk, expected) = image(4, 65_536);
    let exported = Exported::new(disk, 2);
    for round in 0..50 {
        let mut driver = Driver::connect(&exported.socket(), 2, 256);
        for request in 0..60 {
            driver.submit_read(request % 2, request as u64 * 4096, &[(request * 4096, 4096)], request);
        }
        driver.kick(0);
        driver.kick(1);
        if round % 2 == 0 {
            assert_eq!(driver.wait(0), (0, 0));
        }
    }
    let mut driver = Driver::connect(&exported.socket(), 1, 256);
    assert_eq!(driver.read(0, 4096, 8192), 0);
    assert!(driver.get(0, 8192) == expected[4096..12_288]);
}

#[test]
fn what_is_no_monitor_ends_its_own_connection_only() {
    let (disk, _) = image(1, 4096);
    let exported = Exported::new(disk, 1);
    drop(UnixStream::connect(exported.socket()).unwrap());
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0; 12],
        &[0xff; 4096],
        &[1, 0, 0, 0, 1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff],
    ] {
        let mut stream = UnixStream::connect(exported.socket()).unwrap();
        // It may be cut while we write.
        let _ = stream.write_all(bytes);
    }
    let mut driver = Driver::connect(&exported.socket(), 1, 64);
    assert_eq!(driver.read(0, 0, 4096), 0);
}

#[test]
fn an_export_ends_when_it_is_asked_to_whether_a_monitor_is_there_or_not() {
    let (disk, _) = image(1, 4096);
    Exported::new(disk, 1).end().unwrap();
    let (disk, _) = image(1, 4096);
    let exported = Exported::new(disk, 3);
    let mut driver = Driver::connect(&exported.socket(), 3, 64);
    assert_eq!(driver.read(2, 0, 4096), 0);
    exported.end().unwrap();
}

#[test]
fn a_block_is_known_to_be_in_use_as_long_as_it_is_exported() {
    let written = file(&pattern(0, 8192));
    let exported = Exported::new(export::block(&written), 1);
    assert!(block::is_held(written.path()).unwrap());
    drop(Driver::connect(&exported.socket(), 1, 64));
    assert!(block::is_held(written.path()).unwrap());
    exported.end().unwrap();
    assert!(!block::is_held(written.path()).unwrap());
}
