//! A device as a VMDK descriptor. What no layer has gets files of its own, since not every monitor reads a line that
//! names none: the head, with the zeros behind it as a hole, and one file of zeros for all gaps.

use std::fs::{File, OpenOptions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use super::blueprint::Blueprint;
use super::{Error, FILE_MODE};
use crate::image::extent::{Data, Extent, SECTOR};
use crate::image::vmdk::{self, Descriptor, ExtentPath};
use crate::store;

/// The files of a VMDK disk that are to be written.
#[derive(Debug)]
pub(super) struct Plan<'b> {
    parts: Vec<Part<'b>>,
    descriptor: Descriptor,
}

/// A file for what no layer has: bytes, and zeros behind them.
#[derive(Debug)]
struct Part<'b> {
    name: String,
    bytes: &'b [u8],
    length: u64,
}

impl<'b> Plan<'b> {
    /// The files of the disk whose descriptor is called `name`, in `home`.
    pub(super) fn of(name: &str, home: &Path, blueprint: &'b Blueprint) -> Result<Self, Error> {
        let (head, pad) = (sibling(name, "head"), sibling(name, "pad"));
        let mut lines = Vec::new();
        let mut parts = Vec::new();
        let mut gap = 0;
        let mut extents = blueprint.map.extents().iter().peekable();
        while let Some(extent) = extents.next() {
            let line = match extent.data() {
                Data::File { file, offset: 0 } => {
                    let source = blueprint.files.get(*file).ok_or_else(|| inexpressible(extent))?;
                    line(&source.place, extent.length())?
                }
                Data::Bytes(bytes) if extent.offset() == 0 => {
                    let zeros = extents.next_if(|next| *next.data() == Data::Zeros);
                    let length = extent.length() + zeros.map_or(0, Extent::length);
                    parts.push(Part { name: head.clone(), bytes, length });
                    line(&home.join(&head), length)?
                }
                Data::Zeros => {
                    gap = gap.max(extent.length());
                    line(&home.join(&pad), extent.length())?
                }
                Data::File { .. } | Data::Bytes(_) => return Err(inexpressible(extent)),
            };
            lines.push(line);
        }
        if gap > 0 {
            parts.push(Part { name: pad, bytes: &[], length: gap });
        }
        Ok(Self { parts, descriptor: Descriptor::new(lines)? })
    }

    /// What the descriptor says.
    pub(super) fn text(&self) -> String {
        self.descriptor.to_string()
    }

    /// Writes the files besides the descriptor into `directory`, and returns their names.
    pub(super) fn write_parts(&self, directory: &Path) -> Result<Vec<String>, Error> {
        self.parts.iter().map(|part| part.write(directory).map(|()| part.name.clone())).collect()
    }
}

impl Part<'_> {
    fn write(&self, directory: &Path) -> Result<(), Error> {
        let path = directory.join(&self.name);
        let file: File = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(FILE_MODE)
            .open(&path)
            .map_err(store::Error::io("create", &path))?;
        file.set_len(self.length).map_err(store::Error::io("extend", &path))?;
        file.write_all_at(self.bytes, 0).map_err(store::Error::io("write", &path))?;
        file.sync_all().map_err(store::Error::io("sync", &path))?;
        Ok(())
    }
}

fn line(path: &Path, length: u64) -> Result<vmdk::Extent, Error> {
    let path = ExtentPath::new(path.as_os_str().as_bytes()).map_err(vmdk::Error::Path)?;
    Ok(vmdk::Extent { path, sectors: length / SECTOR })
}

/// `merged.head` beside `merged.vmdk`.
fn sibling(descriptor: &str, extension: &str) -> String {
    Path::new(descriptor).with_extension(extension).to_string_lossy().into_owned()
}

const fn inexpressible(extent: &Extent) -> Error {
    Error::Inexpressible { offset: extent.offset() }
}
