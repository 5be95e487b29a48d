//! What is no disk.

use std::fs::File;

use nexuserofs::expose::vhost_user::{Disk, Error, Export, Part};
use nexuserofs::image::extent::ExtentMap;

use crate::export::{block, file, image, part, pattern};

fn map(length: u64) -> ExtentMap {
    let mut map = ExtentMap::new();
    map.push_file(0, 0, length).unwrap();
    map
}

fn refused(parts: Vec<Part>) -> Error {
    Disk::image(map(8192), parts, |_| ()).unwrap_err()
}

#[test]
fn an_image_is_made_of_whole_files_that_cannot_be_written() {
    let whole = file(&pattern(0, 8192));
    assert!(matches!(refused(Vec::new()), Error::NoSuchFile { file: 0 }));
    let writable = File::options().read(true).write(true).open(whole.path()).unwrap();
    let writable = Part { file: writable, ..part(whole.path()) };
    assert!(matches!(refused(vec![writable]), Error::Opened { wanted: "reading only", .. }));
    assert!(matches!(refused(vec![part("/dev/null".as_ref())]), Error::NotAFile { .. }));
    let short = file(&pattern(0, 8191));
    assert!(matches!(refused(vec![part(short.path())]), Error::Short { found: 8191, needed: 8192, .. }));
}

#[test]
fn a_block_is_a_file_in_sectors_that_nobody_else_has() {
    let odd = file(&pattern(0, 1000));
    let open =
        |file: &tempfile::NamedTempFile| File::options().read(true).write(true).open(file.path()).unwrap();
    let refused = Disk::block(open(&odd), odd.path().to_owned());
    assert!(matches!(refused, Err(Error::Size { bytes: 1000, .. })));
    let whole = file(&pattern(0, 8192));
    let only_read = Disk::block(File::open(whole.path()).unwrap(), whole.path().to_owned());
    assert!(matches!(only_read, Err(Error::Opened { .. })));
    let first = block(&whole);
    let second = Disk::block(open(&whole), whole.path().to_owned());
    assert!(matches!(second, Err(Error::InUse { .. })));
    drop(first);
    block(&whole);
}

#[test]
fn a_disk_has_some_queues_but_not_many() {
    for queues in [0, 33, u16::MAX] {
        let refused = Export::new(image(1, 512).0, "disk".parse().unwrap(), queues);
        assert!(matches!(refused, Err(Error::Queues { .. })));
    }
}
