//! Inodes as records: the compact form of 32 bytes and the extended one of 64.

use super::compressed::IndexForm;
use super::error::{Damage, Error, Unsupported};
use super::geometry::{Geometry, Subset};
use super::source::{Fields, ReadAt, Window};
use crate::image::tree::{DeviceNumber, Timestamp};

/// `struct erofs_inode_compact` or `struct erofs_inode_extended`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    /// Where it starts in the image.
    pub(super) offset: u64,
    pub(super) kind: FileType,
    /// The low 12 bits of `st_mode`.
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: Timestamp,
    /// Size of the content in bytes, at most that of the largest file.
    pub(super) size: u64,
    pub(super) layout: DataLayout,
    /// `i_u`: a block address, a chunk format or a device number, as type and layout say.
    pub(super) data: u32,
    /// How many names it says that it has.
    pub(super) links: u32,
    /// `i_xattr_icount`.
    pub(super) xattr_icount: u16,
    /// Where the extended attributes start, behind the record.
    pub(super) xattrs: u64,
}

/// The file type in `i_mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileType {
    Fifo,
    CharacterDevice,
    Directory,
    BlockDevice,
    Regular,
    Symlink,
    Socket,
}

/// How the content is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DataLayout {
    /// Whole blocks.
    Plain,
    /// Whole blocks, and the rest behind the inode.
    Inline,
    /// An index of chunks behind the inode.
    Chunked,
    /// Compressed, with a map behind the inode.
    Compressed(IndexForm),
}

impl FileType {
    /// The type as a directory's entry has it.
    pub(super) const fn of_entry(self) -> u8 {
        match self {
            Self::Regular => 1,
            Self::Directory => 2,
            Self::CharacterDevice => 3,
            Self::BlockDevice => 4,
            Self::Fifo => 5,
            Self::Socket => 6,
            Self::Symlink => 7,
        }
    }
}

impl Record {
    /// Reads the inode with this number.
    pub(super) fn read<S: ReadAt>(
        window: &mut Window<'_, S>,
        geometry: &Geometry,
        nid: u64,
    ) -> Result<Self, Error> {
        let offset = geometry.inode_offset(nid)?;
        let compact: [u8; 32] = window.array(offset)?;
        let format = compact.u16_at(0);
        let layout = data_layout(format, geometry.subset)?;
        let (mode, xattr_icount) = (compact.u16_at(4), compact.u16_at(2));
        let kind = file_type(mode).ok_or(Error::damaged_at(offset, Damage::Mode(mode)))?;
        let common = Self {
            offset,
            kind,
            mode: mode & 0o7777,
            uid: u32::from(compact.u16_at(24)),
            gid: u32::from(compact.u16_at(26)),
            mtime: geometry.epoch,
            size: u64::from(compact.u32_at(8)),
            layout,
            data: compact.u32_at(16),
            xattr_icount,
            links: u32::from(compact.u16_at(6)),
            xattrs: offset + 32,
        };
        let time = Error::damaged_at(offset, Damage::Time);
        if format & 1 == 0 {
            let seconds = geometry.epoch.seconds.checked_add(i64::from(compact.u32_at(12))).ok_or(time)?;
            return Ok(Self { mtime: Timestamp { seconds, ..geometry.epoch }, ..common });
        }
        let extended: [u8; 64] = window.array(offset)?;
        let size = extended.u64_at(8);
        if i64::try_from(size).is_err() {
            return Err(Error::damaged_at(offset, Damage::Size(size)));
        }
        let mtime =
            Timestamp { seconds: extended.u64_at(32).cast_signed(), nanoseconds: extended.u32_at(40) };
        if mtime.nanoseconds >= 1_000_000_000 {
            return Err(time);
        }
        let (uid, gid) = (extended.u32_at(24), extended.u32_at(28));
        let links = extended.u32_at(44);
        Ok(Self { uid, gid, mtime, size, links, xattrs: offset + 64, ..common })
    }

    /// Bytes of the extended attributes: `struct erofs_xattr_ibody_header` and units of 4 bytes.
    pub(super) fn xattr_size(&self) -> u64 {
        match self.xattr_icount {
            0 => 0,
            count => 12 + 4 * u64::from(count - 1),
        }
    }

    /// Where what follows the extended attributes starts: an inline tail or a chunk index.
    pub(super) fn behind_xattrs(&self) -> u64 {
        self.xattrs + self.xattr_size()
    }

    /// `i_u` as a device number, in the kernel's `new_decode_dev` form.
    pub(super) fn device(&self) -> DeviceNumber {
        DeviceNumber { major: self.data >> 8 & 0xfff, minor: self.data & 0xff | self.data >> 12 & 0xf_ff00 }
    }
}

/// The data layout in `i_format`: bit 0 tells the two forms of an inode apart, three bits follow. The
/// others belong to features that are refused with the superblock.
fn data_layout(format: u16, subset: Subset) -> Result<DataLayout, Unsupported> {
    match format >> 1 {
        1 | 3 if subset == Subset::Plain => Err(Unsupported::Compression),
        1 => Ok(DataLayout::Compressed(IndexForm::Full)),
        3 => Ok(DataLayout::Compressed(IndexForm::Compact)),
        0 => Ok(DataLayout::Plain),
        2 => Ok(DataLayout::Inline),
        4 => Ok(DataLayout::Chunked),
        _ => Err(Unsupported::InodeFormat(format)),
    }
}

/// The `S_IFMT` part of a mode.
fn file_type(mode: u16) -> Option<FileType> {
    Some(match mode >> 12 {
        0o01 => FileType::Fifo,
        0o02 => FileType::CharacterDevice,
        0o04 => FileType::Directory,
        0o06 => FileType::BlockDevice,
        0o10 => FileType::Regular,
        0o12 => FileType::Symlink,
        0o14 => FileType::Socket,
        _ => return None,
    })
}
