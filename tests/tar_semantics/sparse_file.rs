//! Sparse files as members, in each of the formats that GNU tar has had for them.

use crate::archive::{BLOCK, Entry, GNU, base256};

/// A sparse file: its size and the runs, offset and data.
pub(crate) struct Sparse {
    pub(crate) path: Vec<u8>,
    pub(crate) size: u64,
    pub(crate) runs: Vec<(u64, Vec<u8>)>,
}

impl Sparse {
    /// The old GNU format: four descriptors in the header, 21 in each block after it.
    pub(crate) fn old_gnu(&self) -> Entry {
        let descriptor =
            |(offset, data): &(u64, Vec<u8>)| [field(*offset), field(data.len() as u64)].concat();
        let descriptors: Vec<Vec<u8>> = self.runs.iter().map(descriptor).collect();
        let (first, rest) = descriptors.split_at(descriptors.len().min(4));
        let mut body = Vec::new();
        for (number, descriptors) in rest.chunks(21).enumerate() {
            let mut block = descriptors.concat();
            block.resize(BLOCK, 0);
            block[504] = u8::from((number + 1) * 21 < rest.len());
            body.extend(block);
        }
        body.extend(self.data());
        Entry::new(b'S', "")
            .format(GNU)
            .field(386, first.concat())
            .field(482, [u8::from(!rest.is_empty())])
            .field(483, field(self.size))
            .size(self.data().len() as u64)
            .body_without_size(body)
            .pax("path", &self.path)
    }

    /// PAX version 0.0. Nothing tells it from a plain file if there are no runs.
    pub(crate) fn pax_0_0(&self) -> Entry {
        let mut entry = Entry::file("GNUSparseFile.1/sparse", self.data())
            .pax("GNU.sparse.size", self.size.to_string())
            .pax("GNU.sparse.numblocks", self.runs.len().to_string());
        for pair in self.numbers().chunks(2) {
            entry = entry.pax("GNU.sparse.offset", &pair[0]).pax("GNU.sparse.numbytes", &pair[1]);
        }
        entry.pax("GNU.sparse.name", &self.path)
    }

    /// PAX version 0.1.
    pub(crate) fn pax_0_1(&self) -> Entry {
        Entry::file("GNUSparseFile.1/sparse", self.data())
            .pax("GNU.sparse.major", "0")
            .pax("GNU.sparse.minor", "1")
            .pax("GNU.sparse.size", self.size.to_string())
            .pax("GNU.sparse.numblocks", self.runs.len().to_string())
            .pax("GNU.sparse.map", self.numbers().join(","))
            .pax("GNU.sparse.name", &self.path)
    }

    /// PAX version 1.0: the map is in front of the data.
    pub(crate) fn pax_1_0(&self) -> Entry {
        let mut body = format!("{}\n", self.runs.len());
        for number in self.numbers() {
            body += &format!("{number}\n");
        }
        let mut body = body.into_bytes();
        body.resize(body.len().next_multiple_of(BLOCK), 0);
        body.extend(self.data());
        Entry::file("GNUSparseFile.1/sparse", body)
            .pax("GNU.sparse.major", "1")
            .pax("GNU.sparse.minor", "0")
            .pax("GNU.sparse.name", &self.path)
            .pax("GNU.sparse.realsize", self.size.to_string())
    }

    fn data(&self) -> Vec<u8> {
        self.runs.iter().flat_map(|(_, data)| data.clone()).collect()
    }

    fn numbers(&self) -> Vec<String> {
        self.runs.iter().flat_map(|(offset, data)| [offset.to_string(), data.len().to_string()]).collect()
    }
}

/// A numeric field of twelve bytes.
fn field(value: u64) -> Vec<u8> {
    match value >> 33 {
        0 => format!("{value:011o}\0").into_bytes(),
        _ => base256(i64::try_from(value).unwrap(), 12),
    }
}
