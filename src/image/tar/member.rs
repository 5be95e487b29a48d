//! Members of the archive: a header with the extended headers before it.
//!
//! The order of precedence is that of Go's `archive/tar`: PAX records beat the header, a GNU long
//! name beats both, and the name in the records of a sparse file beats all.

use std::collections::BTreeMap;
use std::io::BufRead;

use super::body::{self, Body};
use super::error::{Breach, EntryRef, Error, Fault, Malformed, Part, Quantity, Refusal};
use super::extensions::Extensions;
use super::header::{BLOCK, Header};
use super::limits::{Limits, MAX_ID};
use super::pax::Overrides;
use super::problem::Problem;
use super::sparse;
use super::stream::{HeaderRead, Stop, Stream};
use crate::image::tree::{DeviceNumber, Timestamp};

/// A member of the archive without its data.
#[derive(Debug, Default)]
pub(super) struct Member {
    /// Position of its first header.
    pub(super) offset: u64,
    /// The path as written.
    pub(super) path: Vec<u8>,
    /// What it is.
    pub(super) kind: Kind,
    /// The target of a hard or symbolic link.
    pub(super) link_target: Vec<u8>,
    /// The low 12 bits of the mode.
    pub(super) mode: u16,
    /// Owner.
    pub(super) uid: u32,
    /// Group.
    pub(super) gid: u32,
    /// Time of last modification.
    pub(super) mtime: Timestamp,
    /// Extended attributes as written.
    pub(super) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// What a member is.
#[derive(Debug, Default)]
pub(super) enum Kind {
    /// A regular file, whose data follows.
    Regular(Body),
    /// One more name for a file.
    HardLink,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharacterDevice(DeviceNumber),
    /// A block device.
    BlockDevice(DeviceNumber),
    /// A directory.
    #[default]
    Directory,
    /// A named pipe.
    Fifo,
}

impl Member {
    /// The name of this entry for an error.
    pub(super) fn entry(&self) -> EntryRef {
        EntryRef::new(&self.path, self.offset)
    }
}

/// Reads members one after the other. Its buffers serve all of them.
#[derive(Debug)]
pub(super) struct MemberReader<'l> {
    limits: &'l Limits,
    extensions: Extensions,
}

impl<'l> MemberReader<'l> {
    /// A reader that keeps to `limits`.
    pub(super) fn new(limits: &'l Limits) -> Self {
        Self { limits, extensions: Extensions::default() }
    }

    /// Reads the next member up to its data. False at the end of the archive.
    pub(super) fn read<R: BufRead>(
        &mut self,
        stream: &mut Stream<'_, R>,
        member: &mut Member,
    ) -> Result<bool, Error> {
        member.offset = stream.position();
        member.path.clear();
        self.extensions.clear();
        self.read_headers(stream, member).map_err(|problem| problem.at(member.entry(), stream.position()))
    }

    fn read_headers<R: BufRead>(
        &mut self,
        stream: &mut Stream<'_, R>,
        member: &mut Member,
    ) -> Result<bool, Problem> {
        let mut block = [0; BLOCK];
        loop {
            match stream.header_block(&mut block)? {
                HeaderRead::Header => {}
                HeaderRead::Nothing if self.extensions.are_pending() => {
                    return Err(Problem::Stopped(Part::ExtendedHeader, Stop::End));
                }
                HeaderRead::EndMark | HeaderRead::Nothing => return Ok(false),
            }
            let header = Header::new(&block)?;
            // Known from here on, for messages.
            header.write_path(&mut member.path);
            if !self.extensions.take(&header, stream, self.limits)? {
                self.complete(&header, stream, member)?;
                return Ok(true);
            }
        }
    }

    /// Puts a member together from its header and what came before it.
    fn complete<R: BufRead>(
        &self,
        header: &Header<'_>,
        stream: &mut Stream<'_, R>,
        member: &mut Member,
    ) -> Result<(), Problem> {
        let overrides = Overrides::read(self.extensions.pax())?;
        if let Some(path) = self.extensions.long_name().or(overrides.path()) {
            path.clone_into(&mut member.path);
        }
        let link_target = self.extensions.long_link().or(overrides.link_target());
        link_target.unwrap_or(header.link_name()).clone_into(&mut member.link_target);
        take_metadata(header, &overrides, member)?;
        member.kind = kind(header, &overrides, &member.path, stream, self.limits)?;
        let is_pax_sparse = sparse::is_declared(&overrides.sparse) && header.type_flag() != b'S';
        if is_pax_sparse && let Some(path) = overrides.sparse.name()? {
            path.clone_into(&mut member.path);
        }
        Ok(())
    }
}

fn kind<R: BufRead>(
    header: &Header<'_>,
    overrides: &Overrides<'_>,
    path: &[u8],
    stream: &mut Stream<'_, R>,
    limits: &Limits,
) -> Result<Kind, Problem> {
    let kind = match header.type_flag() {
        // Before POSIX a slash at the end was what made a directory.
        0 if path.ends_with(b"/") => Kind::Directory,
        0 | b'0' | b'7' | b'S' => return Ok(Kind::Regular(body::read(header, overrides, stream, limits)?)),
        b'1' => Kind::HardLink,
        b'2' => Kind::Symlink,
        b'3' => Kind::CharacterDevice(header.device()?),
        b'4' => Kind::BlockDevice(header.device()?),
        b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        other => return Err(Refusal::Type(other).into()),
    };
    match sparse::is_declared(&overrides.sparse) {
        true => Err(Malformed::SparseMap("of something that is no file").into()),
        false => Ok(kind),
    }
}

fn take_metadata(header: &Header<'_>, overrides: &Overrides<'_>, member: &mut Member) -> Result<(), Fault> {
    member.mode = (header.numbers.mode & 0o7777) as u16;
    member.uid = id(Quantity::Owner, overrides.uid()?.unwrap_or(header.numbers.uid))?;
    member.gid = id(Quantity::Group, overrides.gid()?.unwrap_or(header.numbers.gid))?;
    let mtime = Timestamp { seconds: header.numbers.mtime, nanoseconds: 0 };
    member.mtime = overrides.mtime()?.unwrap_or(mtime);
    member.xattrs.clear();
    let xattrs = overrides.xattrs.iter().map(|(name, value)| (name.to_vec(), value.to_vec()));
    member.xattrs.extend(xattrs);
    Ok(())
}

fn id(what: Quantity, value: i64) -> Result<u32, Fault> {
    match u32::try_from(value) {
        Ok(id) if value <= MAX_ID => Ok(id),
        _ => Err(Breach { what, value: value.cast_unsigned(), limit: MAX_ID.cast_unsigned() }.into()),
    }
}
