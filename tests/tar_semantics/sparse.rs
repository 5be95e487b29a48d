//! Sparse files: which blocks get into the image, and maps that lie.

use nexuserofs::image::tar::{Breach, Fault, Limits, MAX_FILE_SIZE, Malformed, Quantity, Refusal};
use nexuserofs::image::tree::{Extent, FileData, Node};

use crate::archive::{Entry, GNU, archive, base256};
use crate::listing::{Image, fault, read, read_within};
use crate::sparse_file::Sparse;

impl Sparse {
    /// Runs of letters, by offset and length.
    fn of(size: u64, runs: &[(u64, usize)]) -> Self {
        let fill = |number: usize, length: usize| vec![b'a' + u8::try_from(number % 26).unwrap(); length];
        let runs = runs.iter().enumerate().map(|(number, &(offset, length))| (offset, fill(number, length)));
        Self { path: b"sparse".to_vec(), size, runs: runs.collect() }
    }

    fn content(&self) -> Vec<u8> {
        let mut content = vec![0; usize::try_from(self.size).unwrap()];
        for (offset, data) in &self.runs {
            let offset = usize::try_from(*offset).unwrap();
            content[offset..offset + data.len()].copy_from_slice(data);
        }
        content
    }

    /// The file in all four formats, each followed by a member that shows where reading went on.
    fn images(&self) -> Vec<Image> {
        let mut formats = vec![self.old_gnu(), self.pax_0_1(), self.pax_1_0()];
        if !self.runs.is_empty() {
            // Nothing else tells version 0.0 from a plain file.
            formats.push(self.pax_0_0());
        }
        let read_one = |sparse: Entry| {
            let image = read(&archive(&[sparse, Entry::file("after", "x")])).unwrap();
            assert_eq!(image.content(data(&image, "/after")), b"x");
            image
        };
        formats.into_iter().map(read_one).collect()
    }
}

/// Runs as offset and length.
type Runs = &'static [(u64, usize)];

/// Extents as first block of the file, first block of the image, blocks.
type Extents = &'static [(u64, u32, u32)];

fn data<'i>(image: &'i Image, path: &str) -> &'i FileData {
    match &image.at(path).node {
        Node::Regular(data) => data,
        other => panic!("{other:?}"),
    }
}

/// The extents of a file as [`Extents`].
fn extents(data: &FileData) -> Vec<(u64, u32, u32)> {
    data.extents
        .iter()
        .map(|&Extent { file_block, image_block, blocks }| (file_block, image_block, blocks))
        .collect()
}

#[test]
fn only_blocks_with_data_get_into_the_image() {
    let cases: [(u64, Runs, Extents); 10] = [
        (0, &[], &[]),
        (1 << 20, &[], &[]),
        (8192, &[(0, 8192)], &[(0, 7, 2)]),
        // Holes inside a block are filled with zeros.
        (4096, &[(100, 10), (200, 10)], &[(0, 7, 1)]),
        (20_000, &[(10_000, 1)], &[(2, 7, 1)]),
        // A hole that leaves no whole block out leaves one extent.
        (12_288, &[(0, 5000), (8190, 10)], &[(0, 7, 3)]),
        (16_384, &[(0, 4096), (4096, 4096), (12_288, 4096)], &[(0, 7, 2), (3, 9, 1)]),
        (1 << 20, &[(4095, 2), (65_536, 4096), (1_048_575, 1)], &[(0, 7, 2), (16, 9, 1), (255, 10, 1)]),
        (9000, &[(0, 1), (8999, 1)], &[(0, 7, 1), (2, 8, 1)]),
        // Empty runs, as GNU tar ends maps with, are nothing.
        (9000, &[(0, 1), (9000, 0)], &[(0, 7, 1)]),
    ];
    for (size, runs, expected) in cases {
        let sparse = Sparse::of(size, runs);
        for image in sparse.images() {
            let data = data(&image, "/sparse");
            assert_eq!(data.size, size);
            assert_eq!(extents(data), expected, "{size} {runs:?}");
            assert!(image.content(data) == sparse.content(), "{size} {runs:?}");
        }
    }
}

#[test]
fn ten_thousand_runs() {
    let runs: Vec<(u64, usize)> = (0..10_000).map(|number| (number * 8192, 10)).collect();
    let sparse = Sparse::of(10_000 * 8192, &runs);
    for image in sparse.images() {
        let data = data(&image, "/sparse");
        assert_eq!(data.extents.len(), 10_000);
        assert!(image.content(data) == sparse.content());
    }
}

#[test]
fn a_hole_takes_no_memory() {
    let sparse = Sparse::of(MAX_FILE_SIZE, &[(MAX_FILE_SIZE - 1, 1)]);
    // The largest file has 2^32 - 1 blocks and an index at most 2^21 chunks: units of 2048 blocks.
    let last_unit = u64::from(u32::MAX) / 2048 * 2048;
    for image in sparse.images() {
        assert_eq!(data(&image, "/sparse").size, MAX_FILE_SIZE);
        assert_eq!(extents(data(&image, "/sparse")), [(last_unit, 7, 2047)]);
    }
}

#[test]
fn data_scattered_over_a_vast_file_is_refused() {
    let runs: Vec<(u64, usize)> = (0..10_000).map(|number| (number << 30, 1)).collect();
    let sparse = Sparse::of(10_000 << 30, &runs);
    for entry in [sparse.old_gnu(), sparse.pax_0_1(), sparse.pax_1_0()] {
        assert_eq!(fault(&entry.bytes()), Fault::Refused(Refusal::ScatteredData { runs: 10_000 }));
    }
}

#[test]
fn files_beyond_the_limit_are_refused() {
    let limits = Limits { max_file_size: 1 << 20, ..Limits::default() };
    let refused =
        |archive: &[u8], limits: &Limits| read_within(archive, limits).map(drop).unwrap_err().to_string();
    let sparse = Sparse::of((1 << 20) + 1, &[]);
    for entry in [sparse.old_gnu(), sparse.pax_0_1(), sparse.pax_1_0()] {
        assert!(refused(&entry.bytes(), &limits).ends_with("file size 1048577 is more than 1048576"));
    }
    let dense = Entry::new(b'0', "dense").field(124, base256(i64::MAX, 12)).bytes();
    let breach = Breach { what: Quantity::FileSize, value: i64::MAX as u64, limit: MAX_FILE_SIZE };
    assert_eq!(fault(&dense), Fault::Exceeded(breach));
}

#[test]
fn runs_beyond_the_limit_are_refused() {
    let limits = Limits { max_sparse_runs: 30, ..Limits::default() };
    let runs: Vec<(u64, usize)> = (0..31).map(|number| (number * 10, 1)).collect();
    let sparse = Sparse::of(1000, &runs);
    for entry in [sparse.old_gnu(), sparse.pax_0_0(), sparse.pax_0_1(), sparse.pax_1_0()] {
        let text = read_within(&entry.bytes(), &limits).map(drop).unwrap_err().to_string();
        assert!(text.ends_with("number of data runs of the sparse file 31 is more than 30"), "{text}");
    }
    let claim = Entry::file("f", format!("{:0<512}", "999999999999\n")).pax("GNU.sparse.major", "1");
    let claim = fault(&archive(&[claim.pax("GNU.sparse.minor", "0")]));
    assert!(matches!(claim, Fault::Exceeded(Breach { what: Quantity::SparseRuns, .. })), "{claim}");
}

#[test]
fn maps_that_lie_are_refused() {
    let cases: [(u64, &[(u64, usize)]); 5] = [
        (100, &[(0, 101)]),
        (100, &[(101, 0)]),
        (100, &[(50, 10), (40, 10)]),
        (100, &[(0, 20), (19, 10)]),
        (100, &[(0, 20), (0, 20)]),
    ];
    for (size, runs) in cases {
        let sparse = Sparse::of(size, runs);
        for entry in [sparse.old_gnu(), sparse.pax_0_0(), sparse.pax_0_1(), sparse.pax_1_0()] {
            assert!(
                matches!(fault(&entry.bytes()), Fault::Malformed(Malformed::SparseMap(_))),
                "{size} {runs:?}"
            );
        }
    }
}

#[test]
fn maps_that_do_not_match_the_data_are_refused() {
    let entry = |map: &str, count: &str, body: usize| {
        Entry::file("f", vec![b'x'; body])
            .pax("GNU.sparse.size", "100")
            .pax("GNU.sparse.numblocks", count)
            .pax("GNU.sparse.map", map)
    };
    assert!(read(&archive(&[entry("0,10,20,5", "2", 15)])).is_ok());
    for (map, count, body) in [
        ("0,10,20,5", "2", 14),
        ("0,10,20,5", "2", 16),
        ("0,10,20,5", "1", 15),
        ("0,10,20", "1", 10),
        ("0,10,20,x", "2", 15),
        ("0,10,-1,5", "2", 15),
        ("0,9223372036854775807,9223372036854775807,1", "2", 0),
    ] {
        let fault = fault(&archive(&[entry(map, count, body)]));
        assert!(matches!(fault, Fault::Malformed(Malformed::SparseMap(_))), "{map} {count} {body}: {fault}");
    }
    let uncounted = Entry::file("f", "").pax("GNU.sparse.map", "0,0");
    assert_eq!(fault(&archive(&[uncounted])), Fault::Malformed(Malformed::PaxNumber("GNU.sparse.numblocks")));
    let turned = Entry::file("f", "").pax("GNU.sparse.numbytes", "0").pax("GNU.sparse.offset", "0");
    assert!(matches!(fault(&archive(&[turned])), Fault::Malformed(Malformed::SparseMap(_))));
    for body in ["", "1", "x\n", "1\n0\n-5\n", "2\n0\n0\n"] {
        let body = if body.is_empty() { Vec::new() } else { format!("{body:\0<512}").into_bytes() };
        let entry = Entry::file("f", body).pax("GNU.sparse.major", "1").pax("GNU.sparse.minor", "0");
        assert!(matches!(fault(&archive(&[entry])), Fault::Malformed(Malformed::SparseMap(_))));
    }
    let not_gnu = Entry::new(b'S', "f");
    assert!(matches!(fault(&archive(&[not_gnu])), Fault::Malformed(Malformed::SparseMap(_))));
}

#[test]
fn only_files_are_sparse() {
    for entry in [Entry::directory("d"), Entry::symlink("l", "t"), Entry::hard_link("h", "f")] {
        let declared = entry.pax("GNU.sparse.map", "0,0").pax("GNU.sparse.numblocks", "1");
        let fault = fault(&archive(&[declared]));
        assert!(matches!(fault, Fault::Malformed(Malformed::SparseMap(_))), "{fault}");
    }
}

#[test]
fn a_name_with_a_nul_is_refused() {
    let path = b"a\0b".to_vec();
    let sparse = Sparse { path: path.clone(), ..Sparse::of(100, &[(0, 1)]) };
    for entry in [sparse.pax_0_0(), sparse.pax_0_1(), sparse.pax_1_0()] {
        assert_eq!(fault(&archive(&[entry])), Fault::Malformed(Malformed::PaxRecord));
    }
    let dense = Entry::file("f", "data").pax("GNU.sparse.name", path);
    assert_eq!(read(&archive(&[dense])).unwrap().list()[1], "/f f0644 \"data\"");
}

#[test]
fn sparse_records_of_an_unknown_version_mean_nothing() {
    let entry = Entry::file("f", "data")
        .pax("GNU.sparse.major", "2")
        .pax("GNU.sparse.minor", "0")
        .pax("GNU.sparse.realsize", "100")
        .pax("GNU.sparse.name", "other");
    assert_eq!(read(&archive(&[entry])).unwrap().list()[1], "/f f0644 \"data\"");
    let old = Entry::new(b'S', "f").format(GNU).pax("GNU.sparse.name", "other");
    assert_eq!(read(&archive(&[old])).unwrap().list()[1], "/f f0644 \"\"");
}
