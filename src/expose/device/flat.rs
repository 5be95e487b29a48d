//! A device as one file.
//!
//! The layers come in by copy_file_range(2). On file systems that can share blocks between files (XFS, Btrfs) the kernel
//! does that for it, so that the file takes no space of its own; elsewhere it copies without passing the data through
//! this process. Holes stay holes.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{SeekFrom, copy_file_range, seek};
use rustix::io::Errno;

use super::blueprint::Blueprint;
use super::{Error, FILE_MODE};
use crate::image::extent::Data;
use crate::store;

/// How much is copied between two reports, in bytes.
const STEP: u64 = 64 << 20;

/// Size of the buffer for file systems between which the kernel does not copy, in bytes.
const BUFFER: usize = 1 << 20;

/// Writes the device to `path`, where nothing is, and waits until it is on the disk.
pub(super) fn write(path: &Path, blueprint: &Blueprint, progress: &mut dyn FnMut(u64)) -> Result<(), Error> {
    let device = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path);
    let device = device.map_err(store::Error::io("create", path))?;
    device.set_len(blueprint.map.length()).map_err(store::Error::io("extend", path))?;
    for extent in blueprint.map.extents() {
        match extent.data() {
            Data::File { file, offset } => {
                let source =
                    blueprint.files.get(*file).ok_or(Error::Inexpressible { offset: extent.offset() })?;
                let name = &source.readable;
                let layer = File::open(name).map_err(store::Error::io("open", name))?;
                let copy = Copy { from: &layer, to: &device, shift: extent.offset() - offset };
                let copied = copy.range(*offset..offset + extent.length(), progress);
                copied.map_err(store::Error::io("copy to the flat file", name))?;
            }
            Data::Bytes(bytes) => {
                device.write_all_at(bytes, extent.offset()).map_err(store::Error::io("write", path))?;
            }
            Data::Zeros => {}
        }
        progress(extent.end());
    }
    device.sync_all().map_err(store::Error::io("sync", path))?;
    Ok(())
}

/// Whether the file at `path` was made of the same layers, as far as its size tells, and a table of partitions, which
/// is another for layers with other names or sizes.
pub(super) fn is_of(path: &Path, blueprint: &Blueprint) -> Result<bool, Error> {
    let device = File::open(path).map_err(store::Error::io("open", path))?;
    if device.metadata().map_err(store::Error::io("look at", path))?.len() != blueprint.map.length() {
        return Ok(false);
    }
    for extent in blueprint.map.extents() {
        if let Data::Bytes(expected) = extent.data() {
            let mut found = vec![0; expected.len()];
            device.read_exact_at(&mut found, extent.offset()).map_err(store::Error::io("read", path))?;
            if found[..] != expected[..] {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// A copy of a layer into a device.
#[derive(Clone, Copy)]
struct Copy<'f> {
    from: &'f File,
    to: &'f File,
    /// How much farther on something is on the device than in the layer, in bytes.
    shift: u64,
}

impl Copy<'_> {
    /// Copies what is not a hole in `range` of the layer.
    fn range(&self, range: Range<u64>, progress: &mut dyn FnMut(u64)) -> io::Result<()> {
        let mut position = range.start;
        while let Some(data) = next_data(self.from, position..range.end)? {
            position = data.start;
            while position < data.end {
                position += self.some(position, (data.end - position).min(STEP))?;
                progress(position + self.shift);
            }
        }
        // A layer that is shorter than the map says looks like one that ends with a hole.
        if self.from.metadata()?.len() < range.end {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }

    /// Copies at most `length` bytes, and returns how many.
    fn some(&self, position: u64, length: u64) -> io::Result<u64> {
        let (mut from, mut to) = (position, position + self.shift);
        let wanted = usize::try_from(length).unwrap_or(usize::MAX);
        match copy_file_range(self.from, Some(&mut from), self.to, Some(&mut to), wanted) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(copied) => Ok(copied as u64),
            // Not between these two file systems.
            Err(Errno::XDEV | Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => {
                self.by_buffer(position, wanted)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn by_buffer(&self, position: u64, wanted: usize) -> io::Result<u64> {
        let mut buffer = vec![0; wanted.min(BUFFER)];
        self.from.read_exact_at(&mut buffer, position)?;
        self.to.write_all_at(&buffer, position + self.shift)?;
        Ok(buffer.len() as u64)
    }
}

/// The first part of `range` that is not a hole.
fn next_data(file: &File, range: Range<u64>) -> io::Result<Option<Range<u64>>> {
    if range.is_empty() {
        return Ok(None);
    }
    let start = match seek(file, SeekFrom::Data(range.start)) {
        Ok(start) if start < range.end => start,
        // All the rest is a hole.
        Ok(_) | Err(Errno::NXIO) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let end = seek(file, SeekFrom::Hole(start))?.min(range.end);
    Ok(Some(start..end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_buffer_copies_what_the_kernel_would() {
        let bytes: Vec<u8> = (0..3 * BUFFER + 512).map(|i| (i % 253) as u8).collect();
        let (from, to) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        from.write_all_at(&bytes, 0).unwrap();
        let copy = Copy { from: &from, to: &to, shift: 4096 };
        let mut position = 0;
        while position < bytes.len() as u64 {
            position += copy.by_buffer(position, bytes.len() - position as usize).unwrap();
        }
        let mut found = vec![0; bytes.len()];
        to.read_exact_at(&mut found, 4096).unwrap();
        assert!(found == bytes);
    }

    #[test]
    fn a_layer_that_was_cut_short_is_an_error() {
        let (from, to) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        from.set_len(4096).unwrap();
        let copy = Copy { from: &from, to: &to, shift: 0 };
        copy.range(0..4096, &mut |_| {}).unwrap();
        let error = copy.range(0..8192, &mut |_| {}).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
