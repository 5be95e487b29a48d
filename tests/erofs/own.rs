//! Our own reader.

use std::collections::BTreeMap;
use std::io::{self, Read as _};

use nexuserofs::image::erofs::read::{Image, Limits};
use nexuserofs::image::tree::{Contents as _, InodeId};

use crate::listing::{self, Listing, Probe};

/// Files are read from their start on: no test waits for what lies further back.
const FARTHEST: u64 = 64 << 20;

/// Fails unless the reader sees these facts and these bytes in the image.
pub(crate) fn assert_shows(image: &[u8], expected: &Listing, probes: &[Probe]) {
    assert_read(&Image::open(image, &Limits::default()).unwrap(), expected, probes);
}

/// The same of an image that was opened.
pub(crate) fn assert_read(read: &Image<&[u8]>, expected: &Listing, probes: &[Probe]) {
    listing::assert_same(&listing::expected(read.tree()), expected);
    let mut paths: BTreeMap<Vec<u8>, InodeId> = BTreeMap::new();
    listing::visit(read.tree(), &mut |path, id, _| {
        paths.insert(path, id);
    });
    for probe in probes.iter().filter(|probe| probe.offset < FARTHEST) {
        let mut file = read.open(paths[&probe.path]).unwrap();
        let skipped = io::copy(&mut (&mut file).take(probe.offset), &mut io::sink()).unwrap();
        assert_eq!(skipped, probe.offset, "{} ends early", probe.path.escape_ascii());
        let mut bytes = vec![0; probe.bytes.len()];
        file.read_exact(&mut bytes).unwrap();
        assert!(bytes == probe.bytes, "{} at {}", probe.path.escape_ascii(), probe.offset);
    }
}
