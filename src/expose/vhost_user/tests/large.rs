//! Reads that are cut into parts.

use virtio_bindings::virtio_blk::{VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK, VIRTIO_BLK_T_IN};

use super::guest::{ENTRIES, FREE, Guest, SEAM, WRITE};
use super::{layer, pattern};
use crate::expose::vhost_user::{Disk, Part};
use crate::image::extent::ExtentMap;

const HEADER: u64 = FREE;
const STATUS: u64 = FREE + 64;
/// Data begins at an odd place, and goes over the seam of two regions.
const DATA: u64 = FREE + 4096 + 7;

/// Bytes of the disk: most of what the guest has room for.
const SIZE: u64 = 1 << 20;

/// How often the same read is asked for at once: enough to be cut.
const AT_ONCE: u16 = 5;

/// A disk of two files that meet in the middle of a part, with zeros and bytes behind them.
fn image() -> (Disk, Vec<u8>) {
    let files = [pattern(1, 300 << 10), pattern(2, 512 << 10)];
    let parts = files.iter().map(|bytes| Part { file: layer(bytes), path: "layer".into(), tree: None });
    let mut map = ExtentMap::new();
    map.push_file(0, 0, 300 << 10).unwrap();
    map.push_file(1, 0, 512 << 10).unwrap();
    map.push_zeros(100 << 10).unwrap();
    map.push_bytes(pattern(3, 112 << 10)).unwrap();
    let expected = [&files[0][..], &files[1], &[0; 100 << 10], &pattern(3, 112 << 10)].concat();
    (Disk::image(map, parts.collect(), |_| panic!("nothing is checked")).unwrap(), expected)
}

/// The pieces of memory from [`DATA`] on into which a read of this length goes: none ends where a part does.
fn pieces(length: u64) -> Vec<(u64, u32, u16)> {
    let cuts = [0, 1, 4096, 262_000, 262_145, 700_001, length].map(|cut| cut.min(length));
    let pieces = cuts.windows(2).filter(|cut| cut[0] < cut[1]);
    let data = pieces.map(|cut| (DATA + cut[0], (cut[1] - cut[0]) as u32, WRITE));
    [(HEADER, 16, 0)].into_iter().chain(data).chain([(STATUS, 1, WRITE)]).collect()
}

#[test]
fn a_read_is_right_wherever_it_begins_and_ends() {
    let (disk, expected) = image();
    let mut guest = Guest::new(disk);
    let near = |bytes: u64| [bytes - 512, bytes, bytes + 512];
    let lengths = near(512 << 10).into_iter().chain(near(768 << 10)).chain([SIZE - 512, SIZE]);
    for length in lengths {
        const { assert!(DATA + SIZE < 2 * SEAM) };
        for start in [0, 512, 256 << 10, (300 << 10) - 512].into_iter().filter(|start| start + length <= SIZE)
        {
            guest.put(DATA - 1, &vec![0xee; length as usize + 2]);
            guest.put(STATUS, &[0xff]);
            guest.put_header(HEADER, VIRTIO_BLK_T_IN, start / 512);
            guest.put_chain(&pieces(length));
            guest.offer_again(AT_ONCE).unwrap();
            assert_eq!(guest.get(STATUS, 1), [VIRTIO_BLK_S_OK as u8]);
            assert!(
                guest.get(DATA, length) == expected[start as usize..][..length as usize],
                "{start} {length}"
            );
            assert_eq!((guest.get(DATA - 1, 1), guest.get(DATA + length, 1)), (vec![0xee], vec![0xee]));
        }
    }
}

#[test]
fn many_reads_at_once_are_each_counted_once() {
    let (disk, expected) = image();
    let mut guest = Guest::new(disk);
    guest.put_header(HEADER, VIRTIO_BLK_T_IN, 0);
    guest.put_chain(&pieces(SIZE));
    for round in 1..=8 {
        guest.offer_again(ENTRIES).unwrap();
        let reads = guest.counts().reads;
        let requests = round * u64::from(ENTRIES);
        assert_eq!((reads.requests, reads.bytes, reads.errors), (requests, requests * SIZE, 0));
        assert_eq!(reads.latencies.iter().sum::<u64>(), requests);
    }
    assert!(guest.get(DATA, SIZE) == expected);
}

#[test]
fn a_file_that_became_shorter_is_one_error() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, &pattern(1, SIZE)).unwrap();
    let mut map = ExtentMap::new();
    map.push_file(0, 0, SIZE).unwrap();
    let opened = std::fs::File::open(file.path()).unwrap();
    let part = Part { file: opened, path: file.path().into(), tree: None };
    let disk = Disk::image(map, vec![part], |_| panic!("nothing is checked")).unwrap();
    // Three of four parts cannot be read.
    file.as_file().set_len(SIZE / 4).unwrap();
    let mut guest = Guest::new(disk);
    guest.put_header(HEADER, VIRTIO_BLK_T_IN, 0);
    guest.put_chain(&pieces(SIZE));
    guest.offer_again(AT_ONCE).unwrap();
    assert_eq!(guest.get(STATUS, 1), [VIRTIO_BLK_S_IOERR as u8]);
    let reads = guest.counts().reads;
    let requests = u64::from(AT_ONCE);
    assert_eq!((reads.requests, reads.bytes, reads.errors), (requests, 0, requests));
}
