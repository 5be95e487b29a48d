//! One 512-byte header block.
//!
//! The layout comes from `tar-core`. The values are read here, by the rules of Go's `archive/tar`,
//! which containerd uses: `tar-core` 0.1.0 drops the high bits and the sign of base-256 numbers, knows
//! no base-256 device numbers, asks for a version behind `ustar`, ignores the older layouts of the
//! prefix field and accepts `+7` as a number (`docs/tar-semantics.md`, "Why our own reader").

use tar_core::Header as Layout;

use super::error::{Breach, Malformed, Quantity};
use super::limits::{MAX_MAJOR, MAX_MINOR};
use crate::image::tree::DeviceNumber;

/// Size in bytes of a tar block.
pub(super) const BLOCK: usize = 512;

/// The families of headers that differ in where fields lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// Before POSIX: nothing behind the link name.
    V7,
    /// POSIX 1988 and PAX.
    Ustar,
    /// Schily's tar: a shorter prefix.
    Star,
    /// GNU tar: times and a sparse map in place of the prefix.
    Gnu,
}

/// A header block whose checksum is right and whose numbers are numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header<'a> {
    layout: &'a Layout,
    format: Format,
    /// The numeric fields.
    pub(super) numbers: Numbers,
}

/// The numeric fields of a header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numbers {
    /// Mode; only its low 12 bits mean something.
    pub(super) mode: i64,
    /// Owner.
    pub(super) uid: i64,
    /// Group.
    pub(super) gid: i64,
    /// Size of the data in bytes.
    pub(super) size: i64,
    /// Time of last modification in seconds since the epoch.
    pub(super) mtime: i64,
    device_major: i64,
    device_minor: i64,
}

impl Numbers {
    /// Reads all fields, whether the type of the entry uses them or not, as Go does.
    fn read(layout: &Layout, format: Format) -> Result<Self, Malformed> {
        let fields = layout.as_ustar();
        let device = |name, field| if format == Format::V7 { Ok(0) } else { number(name, field) };
        Ok(Self {
            mode: number("mode", &fields.mode)?,
            uid: number("uid", &fields.uid)?,
            gid: number("gid", &fields.gid)?,
            size: number("size", &fields.size)?,
            mtime: number("mtime", &fields.mtime)?,
            device_major: device("devmajor", &fields.dev_major)?,
            device_minor: device("devminor", &fields.dev_minor)?,
        })
    }
}

impl<'a> Header<'a> {
    /// Takes a block as a header if its checksum is right, computed over unsigned bytes as POSIX
    /// says or over signed bytes as old Sun tars did.
    pub(super) fn new(block: &'a [u8; BLOCK]) -> Result<Self, Malformed> {
        let layout = Layout::from_bytes(block);
        let stored = octal(&layout.as_ustar().cksum).ok_or(Malformed::Checksum)?;
        let unsigned = checksum(layout);
        if stored != unsigned && stored != signed_checksum(layout, unsigned) {
            return Err(Malformed::Checksum);
        }
        let format = format_of(layout);
        Ok(Self { layout, format, numbers: Numbers::read(layout, format)? })
    }

    /// The type flag as it stands.
    pub(super) fn type_flag(&self) -> u8 {
        self.layout.as_ustar().typeflag[0]
    }

    /// The device numbers; 0:0 in headers older than the fields.
    pub(super) fn device(&self) -> Result<DeviceNumber, Breach> {
        Ok(DeviceNumber {
            major: device_part(Quantity::Major, self.numbers.device_major, MAX_MAJOR)?,
            minor: device_part(Quantity::Minor, self.numbers.device_minor, MAX_MINOR)?,
        })
    }

    /// The link target.
    pub(super) fn link_name(&self) -> &'a [u8] {
        self.layout.link_name_bytes()
    }

    /// Writes the path, prefix included, into `path`.
    pub(super) fn write_path(&self, path: &mut Vec<u8>) {
        path.clear();
        let prefix = self.prefix();
        if !prefix.is_empty() {
            path.extend_from_slice(prefix);
            path.push(b'/');
        }
        path.extend_from_slice(self.layout.path_bytes());
    }

    fn prefix(&self) -> &'a [u8] {
        match self.format {
            Format::V7 => &[],
            Format::Ustar => until_nul(&self.layout.as_ustar().prefix),
            Format::Star => until_nul(self.layout.as_ustar().prefix.get(..STAR_PREFIX).unwrap_or_default()),
            Format::Gnu => self.prefix_of_old_go(),
        }
    }

    /// Go before 1.8 wrote a prefix into GNU headers, over the times that GNU tar keeps there. Such
    /// layers exist; Go still reads them, telling them by times that are no numbers.
    fn prefix_of_old_go(&self) -> &'a [u8] {
        let gnu = self.layout.as_gnu();
        let is_time = |field: &[u8; 12]| field[0] == 0 || number("time", field).is_ok();
        if is_time(&gnu.atime) && is_time(&gnu.ctime) {
            return &[];
        }
        let prefix = until_nul(&self.layout.as_ustar().prefix);
        if prefix.is_ascii() { prefix } else { &[] }
    }

    /// The sparse fields of an old GNU sparse file, `None` if this is no GNU header.
    pub(super) fn sparse(&self) -> Option<OldSparse<'a>> {
        let gnu = self.layout.as_gnu();
        (self.format == Format::Gnu).then(|| OldSparse {
            size: &gnu.realsize,
            descriptors: self.layout.as_bytes().get(GNU_SPARSE).unwrap_or_default(),
            extended: gnu.isextended[0] != 0,
        })
    }
}

/// The sparse fields of a GNU header.
#[derive(Debug)]
pub(super) struct OldSparse<'a> {
    /// Size of the file with its holes, as a numeric field.
    pub(super) size: &'a [u8],
    /// Four descriptors of 24 bytes: offset and length as numeric fields of twelve.
    pub(super) descriptors: &'a [u8],
    /// Whether a block with more descriptors follows.
    pub(super) extended: bool,
}

/// Where the descriptors lie in a GNU header.
const GNU_SPARSE: std::ops::Range<usize> = 386..482;

/// Length of the prefix field in Schily's format; two times follow it.
const STAR_PREFIX: usize = 131;

/// What tells Schily's format from POSIX: the last four bytes of the block.
const STAR_TRAILER: (std::ops::Range<usize>, &[u8]) = (508..512, b"tar\0");

fn format_of(layout: &Layout) -> Format {
    let magic = &layout.as_ustar().magic;
    if magic == tar_core::USTAR_MAGIC {
        let (place, trailer) = STAR_TRAILER;
        return if layout.as_bytes().get(place) == Some(trailer) { Format::Star } else { Format::Ustar };
    }
    if layout.is_gnu() { Format::Gnu } else { Format::V7 }
}

/// The sum of all bytes, the checksum field taken as spaces.
fn checksum(layout: &Layout) -> u64 {
    // One sum for each place in sixteen bytes: 32 bytes add up to less than 2^16, and the compiler
    // makes vector instructions of it. Every header pays for this.
    let mut sums = [0u16; 16];
    let (chunks, _) = layout.as_bytes().as_chunks::<16>();
    for chunk in chunks {
        for (sum, byte) in sums.iter_mut().zip(chunk) {
            *sum += u16::from(*byte);
        }
    }
    let field = &layout.as_ustar().cksum;
    let total: u64 = sums.into_iter().map(u64::from).sum();
    let written: u64 = field.iter().map(|&byte| u64::from(byte)).sum();
    total - written + field.len() as u64 * u64::from(b' ')
}

/// The same sum over signed bytes: 256 less for each byte above 127.
fn signed_checksum(layout: &Layout, unsigned: u64) -> u64 {
    let negative = |bytes: &[u8]| bytes.iter().filter(|&&byte| byte >= 0x80).count() as u64;
    unsigned.wrapping_sub(256 * (negative(layout.as_bytes()) - negative(&layout.as_ustar().cksum)))
}

fn until_nul(field: &[u8]) -> &[u8] {
    field.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// A numeric field: octal digits among spaces and NULs, or GNU's base-256, where the first bit
/// says so and the rest is a two's complement number, most significant byte first.
pub(super) fn number(name: &'static str, field: &[u8]) -> Result<i64, Malformed> {
    let value = match field.first() {
        Some(first) if first & 0x80 != 0 => base256(field),
        _ => octal(field).and_then(|value| i64::try_from(value).ok()),
    };
    value.ok_or(Malformed::Number(name))
}

fn base256(field: &[u8]) -> Option<i64> {
    let (first, rest) = field.split_first()?;
    let negative = first & 0x40 != 0;
    // The second bit is the sign; the first only marks the encoding.
    let top = i128::from(first & 0x3f) - if negative { 0x40 } else { 0 };
    let value =
        rest.iter().try_fold(top, |value, &byte| value.checked_mul(256)?.checked_add(i128::from(byte)))?;
    i64::try_from(value).ok()
}

fn octal(field: &[u8]) -> Option<u64> {
    let is_padding = |byte: &u8| matches!(byte, b' ' | 0);
    let start = field.iter().position(|byte| !is_padding(byte)).unwrap_or(field.len());
    let digits = until_nul(field.get(start..).unwrap_or_default());
    let end = digits.iter().rposition(|byte| !is_padding(byte)).map_or(0, |last| last + 1);
    digits.get(..end).unwrap_or_default().iter().try_fold(0u64, |value, &digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

fn device_part(what: Quantity, value: i64, limit: i64) -> Result<u32, Breach> {
    match u32::try_from(value) {
        Ok(part) if value <= limit => Ok(part),
        _ => Err(Breach { what, value: value.cast_unsigned(), limit: limit.cast_unsigned() }),
    }
}
