//! A disk that is made of files, and cannot be written.

use std::io;
use std::ops::Range;

use rustix::fs::{Advice, fadvise};
use vm_memory::VolatileSlice;

use super::Part;
use super::checked::{Checked, Report};
use super::fill::fill;
use crate::expose::vhost_user::Error;
use crate::expose::vhost_user::pieces::{Cursor, scatter, zero};
use crate::image::extent::{Data, ExtentMap, PieceData};

/// A disk that is made of files. It has no function that writes, and its files are not open for it.
#[derive(Debug)]
pub(in crate::expose::vhost_user) struct Image {
    map: ExtentMap,
    files: Vec<Source>,
    report: Report,
}

/// A file of it.
#[derive(Debug)]
struct Source {
    part: Part,
    /// Which of its blocks were found to be what the tree says; None without a tree.
    checked: Option<Checked>,
}

impl Image {
    pub(super) fn new(map: ExtentMap, parts: Vec<Part>, report: Report) -> Result<Self, Error> {
        for extent in map.extents() {
            let Data::File { file, offset } = *extent.data() else { continue };
            let part = parts.get(file).ok_or(Error::NoSuchFile { file })?;
            let found = part.file.metadata().map_err(crate::store::Error::io("look at", &part.path))?.len();
            let needed = offset + extent.length();
            if found < needed {
                return Err(Error::Short { path: part.path.clone(), found, needed });
            }
        }
        let files = parts.into_iter().map(Source::new).collect::<Result<_, _>>()?;
        Ok(Self { map, files, report })
    }

    /// Fills `data` with what lies in `range` of the disk, which is inside it and as long as the data is.
    pub(in crate::expose::vhost_user) fn read<'m>(
        &self,
        range: Range<u64>,
        data: &[VolatileSlice<'m>],
        scratch: &mut Vec<VolatileSlice<'m>>,
        waiting: &mut dyn FnMut(),
    ) -> io::Result<()> {
        let mut cursor = Cursor::new(data);
        for piece in self.map.pieces(range) {
            cursor.take(piece.length, scratch)?;
            match piece.data {
                PieceData::Zeros => zero(scratch),
                PieceData::Bytes(bytes) => scatter(bytes, scratch),
                PieceData::File { file, offset } => {
                    let source = self.files.get(file).ok_or(io::ErrorKind::NotFound)?;
                    match &source.checked {
                        None => fill(&source.part.file, offset, scratch, waiting)?,
                        Some(checked) => {
                            checked.read(
                                &source.part,
                                offset..offset + piece.length,
                                scratch,
                                &self.report,
                                waiting,
                            )?;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Asks the kernel to read what lies in `range` before it is needed.
    pub(in crate::expose::vhost_user) fn prefetch(&self, range: Range<u64>) {
        for piece in self.map.pieces(range) {
            if let PieceData::File { file, offset } = piece.data
                && let Some(source) = self.files.get(file)
            {
                // Advice only: whoever needs the bytes meets the error.
                let _ = fadvise(&source.part.file, offset, piece.length.try_into().ok(), Advice::WillNeed);
            }
        }
    }
}

impl Source {
    fn new(mut part: Part) -> Result<Self, Error> {
        let Some(tree) = part.tree.take() else { return Ok(Self { part, checked: None }) };
        let bytes = part.file.metadata().map_err(crate::store::Error::io("look at", &part.path))?.len();
        let checked = Some(Checked::new(tree, &part.path, bytes)?);
        Ok(Self { part, checked })
    }
}
