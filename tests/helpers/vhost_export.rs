//! A disk that is being exported.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use nexuserofs::expose::vhost_user::{Counters, Disk, Error, Export, Part, Stop};
use nexuserofs::image::extent::ExtentMap;
use tempfile::{NamedTempFile, TempDir};

/// An export on a thread of its own. Dropping it ends it.
pub(crate) struct Exported {
    directory: TempDir,
    stop: Stop,
    serving: Option<JoinHandle<Result<(), Error>>>,
    pub(crate) counters: Arc<Counters>,
}

impl Exported {
    pub(crate) fn new(disk: Disk, queues: u16) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("socket")).unwrap();
        let export = Export::new(disk, "export".parse().unwrap(), queues).unwrap();
        let (counters, stop) = (export.counters(), Stop::new().unwrap());
        let serving = thread::spawn({
            let stop = stop.clone();
            move || export.serve(listener, &stop)
        });
        Self { directory, stop, serving: Some(serving), counters }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    /// Ends it, and says how it ended.
    pub(crate) fn end(mut self) -> Result<(), Error> {
        self.stop.request();
        self.serving.take().unwrap().join().unwrap()
    }
}

impl Drop for Exported {
    fn drop(&mut self) {
        self.stop.request();
        if let Some(serving) = self.serving.take() {
            let _ = serving.join();
        }
    }
}

/// Bytes that tell where they are.
pub(crate) fn pattern(seed: u64, length: u64) -> Vec<u8> {
    (0..length).map(|at| (at * 7 / 3 + at / 4096 * 13 + seed * 101) as u8).collect()
}

/// A file with these bytes.
pub(crate) fn file(bytes: &[u8]) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// A file as a part of an image, with nothing to check it against.
pub(crate) fn part(path: &Path) -> Part {
    Part { file: File::open(path).unwrap(), path: path.to_owned(), tree: None }
}

/// A disk of `files` files of `size` bytes each with a run of zeros behind it, and what it holds.
pub(crate) fn image(files: u64, size: u64) -> (Disk, Vec<u8>) {
    let (mut map, mut expected, mut parts) = (ExtentMap::new(), Vec::new(), Vec::new());
    for number in 0..files {
        let bytes = pattern(number, size);
        map.push_file(number as usize, 0, size).unwrap();
        map.push_zeros(4096).unwrap();
        parts.push(part(file(&bytes).path()));
        expected.extend(bytes);
        expected.extend([0; 4096]);
    }
    (Disk::image(map, parts, |_| panic!("nothing is checked")).unwrap(), expected)
}

/// A writable block in a file.
pub(crate) fn block(file: &NamedTempFile) -> Disk {
    let opened = File::options().read(true).write(true).open(file.path()).unwrap();
    Disk::block(opened, file.path().to_owned()).unwrap()
}
