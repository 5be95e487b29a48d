//! Members of the archive: a header with the extended headers before it.
//!
//! The order of precedence is that of Go's `archive/tar`: PAX records beat the header, a GNU long
//! name beats both, `GNU.sparse.name` beats all; of two extended headers of one kind the later one
//! counts; global PAX headers are read and ignored.

use std::collections::BTreeMap;
use std::io::BufRead;

use super::error::{EntryRef, Error, Fault, Malformed, Part, Quantity, Refusal};
use super::header::{BLOCK, Header};
use super::limits::{Limits, MAX_FILE_SIZE, MAX_ID};
use super::pax::{self, Overrides};
use super::problem::Problem;
use super::sparse::{self, Map, Run};
use super::stream::{BlockRead, Stop, Stream};
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

/// The data of a regular file, which comes next in the stream.
#[derive(Debug)]
pub(super) struct Body {
    /// Size of the file in bytes, holes included.
    pub(super) size: u64,
    /// Bytes in the archive, padding not included.
    pub(super) stored: u64,
    /// Where these bytes belong.
    pub(super) layout: Layout,
}

/// Where stored bytes belong in a file.
#[derive(Debug)]
pub(super) enum Layout {
    /// They are the file.
    Dense,
    /// In these runs, one after the other; they add up to what is stored.
    Sparse(Vec<Run>),
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

/// The extended headers before a header.
#[derive(Debug, Default)]
struct Extensions {
    /// Whether there was one since the last header.
    present: bool,
    pax: Vec<u8>,
    long_name: Vec<u8>,
    long_link: Vec<u8>,
}

impl Extensions {
    fn clear(&mut self) {
        self.present = false;
        self.pax.clear();
        self.long_name.clear();
        self.long_link.clear();
    }
}

/// What a block is where a header is due.
enum Found {
    /// A block that is not all zeros.
    Block,
    /// Two blocks of zeros, or the end of the stream.
    End,
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
            if matches!(self.find_header(stream, &mut block)?, Found::End) {
                return Ok(false);
            }
            let header = Header::new(&block)?;
            match header.type_flag() {
                flag @ (b'x' | b'g' | b'L' | b'K') => self.read_extension(flag, header, stream, member)?,
                _ => {
                    self.complete(header, stream, member)?;
                    return Ok(true);
                }
            }
        }
    }

    fn find_header<R: BufRead>(
        &self,
        stream: &mut Stream<'_, R>,
        block: &mut [u8; BLOCK],
    ) -> Result<Found, Problem> {
        if stream.block(block).map_err(Part::Header.stopped())? == BlockRead::Nothing {
            return match self.extensions.present {
                true => Err(Problem::Stopped(Part::ExtendedHeader, Stop::End)),
                false => Ok(Found::End),
            };
        }
        if *block != [0; BLOCK] {
            return Ok(Found::Block);
        }
        match stream.block(block).map_err(Part::Header.stopped())? {
            BlockRead::Whole if *block != [0; BLOCK] => Err(Malformed::LoneZeroBlock.into()),
            BlockRead::Whole | BlockRead::Nothing => Ok(Found::End),
        }
    }

    fn read_extension<R: BufRead>(
        &mut self,
        flag: u8,
        header: Header<'_>,
        stream: &mut Stream<'_, R>,
        member: &mut Member,
    ) -> Result<(), Problem> {
        if member.path.is_empty() {
            header.write_path(&mut member.path);
        }
        let size = u64::try_from(header.size()?).map_err(|_| Malformed::NegativeSize)?;
        Quantity::ExtendedHeaderBytes.check(size, self.limits.max_extended_header_bytes)?;
        let extensions = &mut self.extensions;
        let buffer = match flag {
            b'L' => &mut extensions.long_name,
            b'K' => &mut extensions.long_link,
            _ => &mut extensions.pax,
        };
        buffer.clear();
        stream.append_to(size, buffer).map_err(Part::ExtendedHeader.stopped())?;
        match flag {
            b'L' | b'K' => buffer.truncate(buffer.iter().position(|&byte| byte == 0).unwrap_or(buffer.len())),
            _ => pax::validate(buffer)?,
        }
        extensions.present = flag != b'g';
        if flag == b'g' {
            // Go hands a global header out as an entry of its own: what came before it is gone.
            extensions.clear();
            member.path.clear();
        }
        stream.skip_padding(size).map_err(Part::ExtendedHeader.stopped())
    }

    fn complete<R: BufRead>(
        &self,
        header: Header<'_>,
        stream: &mut Stream<'_, R>,
        member: &mut Member,
    ) -> Result<(), Problem> {
        let Extensions { pax, long_name, long_link, .. } = &self.extensions;
        let overrides = Overrides::read(pax)?;
        header.write_path(&mut member.path);
        for path in overrides.path().into_iter().chain(given(long_name)) {
            path.clone_into(&mut member.path);
        }
        member.link_target.clear();
        let link_target = given(long_link).or(overrides.link_target());
        member.link_target.extend_from_slice(link_target.unwrap_or(header.link_name()));
        take_metadata(header, &overrides, member)?;
        member.kind = self.kind(header, &overrides, stream, &mut member.path)?;
        Ok(())
    }

    fn kind<R: BufRead>(
        &self,
        header: Header<'_>,
        overrides: &Overrides<'_>,
        stream: &mut Stream<'_, R>,
        path: &mut Vec<u8>,
    ) -> Result<Kind, Problem> {
        let kind = match header.type_flag() {
            // Before POSIX a slash at the end was what made a directory.
            0 if path.ends_with(b"/") => Kind::Directory,
            0 | b'0' | b'7' | b'S' => {
                return Ok(Kind::Regular(self.body(header, overrides, stream, path)?));
            }
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'3' => Kind::CharacterDevice(header.device()?),
            b'4' => Kind::BlockDevice(header.device()?),
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            other => return Err(Refusal::Type(other).into()),
        };
        Ok(kind)
    }

    fn body<R: BufRead>(
        &self,
        header: Header<'_>,
        overrides: &Overrides<'_>,
        stream: &mut Stream<'_, R>,
        path: &mut Vec<u8>,
    ) -> Result<Body, Problem> {
        let field = overrides.size()?.map_or_else(|| header.size(), Ok)?;
        let stored = u64::try_from(field).map_err(|_| Malformed::NegativeSize)?;
        let (map, map_length) = match self.sparse_map(header, overrides, stream, field)? {
            None => (Map { size: stored, runs: Vec::new() }, None),
            Some((map, length)) => (map, Some(length)),
        };
        Quantity::FileSize.check(map.size, self.limits.max_file_size.min(MAX_FILE_SIZE))?;
        let Some(map_length) = map_length else {
            return Ok(Body { size: stored, stored, layout: Layout::Dense });
        };
        if let Some(name) = given(overrides.sparse.name).filter(|_| header.type_flag() != b'S') {
            name.clone_into(path);
        }
        let stored = stored - map_length;
        if map.runs.iter().map(|run| run.length).sum::<u64>() != stored {
            return Err(Malformed::SparseMap("does not account for the data").into());
        }
        Ok(Body { size: map.size, stored, layout: Layout::Sparse(map.runs) })
    }

    /// The sparse map, if there is one, and the bytes of the data that it takes.
    fn sparse_map<R: BufRead>(
        &self,
        header: Header<'_>,
        overrides: &Overrides<'_>,
        stream: &mut Stream<'_, R>,
        stored: i64,
    ) -> Result<Option<(Map, u64)>, Problem> {
        if header.type_flag() == b'S' {
            let fields = header.sparse().ok_or(Malformed::SparseMap("not in a GNU header"))?;
            return Ok(Some((sparse::read_old(&fields, stream, self.limits)?, 0)));
        }
        if sparse::is_in_data(&overrides.sparse) {
            return sparse::read_data(&overrides.sparse, stored, stream, self.limits).map(Some);
        }
        Ok(sparse::read_records(&overrides.sparse, stored, self.limits)?.map(|map| (map, 0)))
    }
}

fn given(bytes: &[u8]) -> Option<&[u8]> {
    (!bytes.is_empty()).then_some(bytes)
}

fn take_metadata(header: Header<'_>, overrides: &Overrides<'_>, member: &mut Member) -> Result<(), Fault> {
    member.mode = (header.mode()? & 0o7777) as u16;
    member.uid = id(Quantity::Owner, overrides.uid()?.map_or_else(|| header.uid(), Ok)?)?;
    member.gid = id(Quantity::Group, overrides.gid()?.map_or_else(|| header.gid(), Ok)?)?;
    member.mtime = match overrides.mtime()? {
        Some(mtime) => mtime,
        None => Timestamp { seconds: header.mtime()?, nanoseconds: 0 },
    };
    member.xattrs.clear();
    let xattrs = overrides.xattrs.iter().map(|(name, value)| (name.to_vec(), value.to_vec()));
    member.xattrs.extend(xattrs);
    Ok(())
}

fn id(what: Quantity, value: i64) -> Result<u32, Fault> {
    let breach = super::error::Breach { what, value: value.cast_unsigned(), limit: MAX_ID.cast_unsigned() };
    match u32::try_from(value) {
        Ok(id) if value <= MAX_ID => Ok(id),
        _ => Err(breach.into()),
    }
}
