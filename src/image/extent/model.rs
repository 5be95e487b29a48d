//! Random devices beside what they are: a vector of bytes.

use proptest::collection::vec;
use proptest::prelude::*;

use super::{ExtentMap, PieceData, ReadError, SECTOR};

/// Number of files that random maps name, and the length of each in sectors.
const FILES: usize = 3;
const FILE_SECTORS: u64 = 8;

/// One step of making a device.
#[derive(Clone, Debug)]
enum Step {
    File { file: usize, sector: u64, sectors: u64 },
    Bytes(u8, u64),
    Zeros(u64),
    Pad(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let file = (0..FILES, 0..FILE_SECTORS).prop_flat_map(|(file, sector)| {
        (1..=FILE_SECTORS - sector).prop_map(move |sectors| Step::File { file, sector, sectors })
    });
    prop_oneof![
        3 => file,
        1 => (any::<u8>(), 1..4_u64).prop_map(|(byte, sectors)| Step::Bytes(byte, sectors)),
        1 => (0..4_u64).prop_map(Step::Zeros),
        1 => (1..9_u64).prop_map(Step::Pad),
    ]
}

/// No two sectors of all files are alike.
fn files() -> Vec<Vec<u8>> {
    let byte = |file: usize, at: u64| ((file as u64 * 89 + at / SECTOR * 31 + at * 7) % 251) as u8 | 1;
    (0..FILES).map(|file| (0..FILE_SECTORS * SECTOR).map(|at| byte(file, at)).collect()).collect()
}

/// The device as a map, and as bytes.
fn device(steps: &[Step], files: &[Vec<u8>]) -> (ExtentMap, Vec<u8>) {
    let (mut map, mut model) = (ExtentMap::new(), Vec::new());
    for step in steps {
        match *step {
            Step::File { file, sector, sectors } => {
                let (offset, length) = (sector * SECTOR, sectors * SECTOR);
                map.push_file(file, offset, length).unwrap();
                model.extend_from_slice(&files[file][offset as usize..(offset + length) as usize]);
            }
            Step::Bytes(byte, sectors) => {
                let bytes = vec![byte; (sectors * SECTOR) as usize];
                map.push_bytes(bytes.clone()).unwrap();
                model.extend(bytes);
            }
            Step::Zeros(sectors) => {
                map.push_zeros(sectors * SECTOR).unwrap();
                model.resize(model.len() + (sectors * SECTOR) as usize, 0);
            }
            Step::Pad(sectors) => {
                map.pad_to(sectors * SECTOR).unwrap();
                model.resize(model.len().next_multiple_of((sectors * SECTOR) as usize), 0);
            }
        }
    }
    (map, model)
}

/// The first `length` bytes of it.
fn clamped(data: PieceData<'_>, length: u64) -> PieceData<'_> {
    match data {
        PieceData::Bytes(bytes) => PieceData::Bytes(&bytes[..bytes.len().min(length as usize)]),
        PieceData::File { .. } | PieceData::Zeros => data,
    }
}

proptest! {
    #[test]
    fn a_device_reads_as_its_bytes(
        steps in vec(step(), 0..12),
        ranges in vec((0..30_000_u64, 0..9000_usize), 1..20),
    ) {
        let files = files();
        let (map, model) = device(&steps, &files);
        prop_assert_eq!(map.length(), model.len() as u64);
        for (offset, length) in ranges {
            let mut buffer = vec![0xee; length];
            let read = map.read_at(&files, offset, &mut buffer);
            match model.get(offset as usize..offset as usize + length) {
                Some(expected) => {
                    read.unwrap();
                    prop_assert_eq!(buffer, expected);
                }
                None => {
                    let refused = matches!(read, Err(ReadError::OutOfRange { .. }));
                    prop_assert!(refused);
                }
            }
        }
    }

    #[test]
    fn pieces_cover_a_range_once_and_are_its_bytes(
        steps in vec(step(), 1..12),
        (start, end) in (0..30_000_u64, 0..30_000_u64),
    ) {
        let files = files();
        let (map, model) = device(&steps, &files);
        let mut position = start;
        for piece in map.pieces(start..end) {
            prop_assert_eq!(piece.offset, position);
            prop_assert!(piece.length > 0);
            // What is found at a position reaches to the end of its extent, a piece no further than the range.
            let found = map.lookup(position).unwrap();
            prop_assert_eq!((found.offset, clamped(found.data, piece.length)), (position, piece.data));
            position += piece.length;
            let expected = &model[piece.offset as usize..position as usize];
            let length = piece.length as usize;
            match piece.data {
                PieceData::File { file, offset } => {
                    prop_assert_eq!(&files[file][offset as usize..offset as usize + length], expected);
                }
                PieceData::Bytes(bytes) => prop_assert_eq!(bytes, expected),
                PieceData::Zeros => prop_assert!(expected.iter().all(|byte| *byte == 0)),
            }
        }
        prop_assert_eq!(position, end.min(model.len() as u64).max(start));
    }
}

#[test]
fn files_that_are_missing_or_short_are_named() {
    let mut map = ExtentMap::new();
    map.push_file(0, 0, SECTOR).unwrap();
    map.push_file(2, 0, SECTOR).unwrap();
    let mut buffer = [0; 1024];
    let files = [vec![1; 512], vec![1; 512]];
    assert!(matches!(map.read_at(&files, 0, &mut buffer), Err(ReadError::NoSuchFile { file: 2 })));
    let files = [vec![1; 511], vec![], vec![1; 512]];
    assert!(matches!(map.read_at(&files, 0, &mut buffer), Err(ReadError::File { file: 0, offset: 0, .. })));
}
