//! The headers of one member: POSIX ustar, with PAX records for what does not fit.
//!
//! The block comes from `tar-core`, which writes the fields that it is given and nothing of its own. PAX
//! records are made here: `tar-core` takes their keys as text, and the name of an extended attribute need
//! not be text.

use tar_core::EntryType;
use tar_core::builder::HeaderBuilder;

use crate::image::tree::{DeviceNumber, Timestamp};

/// Size in bytes of a tar block.
pub(super) const BLOCK: u64 = 512;

/// Longest path and link target in bytes that the header has room for.
const NAME_FIELD: usize = 100;
/// Name of the header of PAX records. No one unpacks it; GNU tar and Python use the same.
const PAX_NAME: &[u8] = b"././@PaxHeader";

/// Type of a member, with what only that type has.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind<'a> {
    /// Size in bytes.
    Regular(u64),
    /// Path of an earlier member.
    HardLink(&'a [u8]),
    /// Target.
    Symlink(&'a [u8]),
    CharacterDevice(DeviceNumber),
    BlockDevice(DeviceNumber),
    Directory,
    Fifo,
}

/// Name and value of an extended attribute.
pub(super) type Xattr<'a> = (&'a [u8], &'a [u8]);

/// A member whose headers are wanted. Its names fit PAX records, and its device numbers the header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member<'a> {
    pub(super) path: &'a [u8],
    pub(super) kind: Kind<'a>,
    /// The low 12 bits of `st_mode`.
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: Timestamp,
    pub(super) xattrs: &'a [Xattr<'a>],
}

impl Member<'_> {
    /// Appends the header blocks.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let mut fields = Fields { header: HeaderBuilder::new_ustar(), records: Vec::new() };
        fields.header.entry_type(self.kind.entry_type());
        let _ = fields.header.mode(u32::from(self.mode));
        fields.text(b"path", self.path, |header, text| header.path(text).is_ok());
        if let Kind::HardLink(target) | Kind::Symlink(target) = self.kind {
            fields.text(b"linkpath", target, |header, text| header.link_name(text).is_ok());
        }
        if let Kind::CharacterDevice(number) | Kind::BlockDevice(number) = self.kind {
            let _ = fields.header.device(number.major, number.minor);
        }
        let size = if let Kind::Regular(size) = self.kind { size } else { 0 };
        fields.number(b"size", size, |header, value| header.size(value).is_ok());
        fields.number(b"uid", u64::from(self.uid), |header, value| header.uid(value).is_ok());
        fields.number(b"gid", u64::from(self.gid), |header, value| header.gid(value).is_ok());
        fields.time(self.mtime);
        for (name, value) in self.xattrs {
            fields.record(&[b"SCHILY.xattr.", *name].concat(), value);
        }
        fields.finish(out);
    }
}

impl Kind<'_> {
    fn entry_type(self) -> EntryType {
        EntryType::from_byte(match self {
            Self::Regular(_) => b'0',
            Self::HardLink(_) => b'1',
            Self::Symlink(_) => b'2',
            Self::CharacterDevice(_) => b'3',
            Self::BlockDevice(_) => b'4',
            Self::Directory => b'5',
            Self::Fifo => b'6',
        })
    }
}

/// Fields of a header that is being made, and the records for those that did not fit.
struct Fields {
    header: HeaderBuilder,
    records: Vec<u8>,
}

impl Fields {
    /// Sets a name. POSIX leaves open what bytes beyond ASCII mean in the header.
    fn text(&mut self, key: &[u8], text: &[u8], set: impl Fn(&mut HeaderBuilder, &[u8]) -> bool) {
        if text.is_ascii() && text.len() <= NAME_FIELD && set(&mut self.header, text) {
            return;
        }
        self.record(key, text);
        // What readers see that know no records.
        let shown: Vec<u8> =
            text.iter().take(NAME_FIELD).map(|&byte| if byte.is_ascii() { byte } else { b'_' }).collect();
        set(&mut self.header, &shown);
    }

    fn number(&mut self, key: &[u8], value: u64, set: impl Fn(&mut HeaderBuilder, u64) -> bool) {
        if !set(&mut self.header, value) {
            self.record(key, value.to_string().as_bytes());
            set(&mut self.header, 0);
        }
    }

    fn time(&mut self, time: Timestamp) {
        let whole = u64::try_from(time.seconds).ok().filter(|_| time.nanoseconds == 0);
        let fits = |header: &mut HeaderBuilder, seconds| header.mtime(seconds).is_ok();
        if whole.is_some_and(|seconds| fits(&mut self.header, seconds)) {
            return;
        }
        self.record(b"mtime", decimal(time).as_bytes());
        let rounded = u64::try_from(time.seconds).unwrap_or(0);
        if !fits(&mut self.header, rounded) {
            fits(&mut self.header, 0);
        }
    }

    /// Appends a PAX record: its own length in decimal, a space, key, equals sign, value and newline.
    fn record(&mut self, key: &[u8], value: &[u8]) {
        let rest = key.len() + value.len() + 3;
        let mut length = rest;
        while length != rest + digits(length) {
            length = rest + digits(length);
        }
        self.records.extend_from_slice(length.to_string().as_bytes());
        for part in [b" ", key, b"=", value, b"\n"] {
            self.records.extend_from_slice(part);
        }
    }

    /// Appends the records, if there are any, and the header.
    fn finish(mut self, out: &mut Vec<u8>) {
        if !self.records.is_empty() {
            let mut header = HeaderBuilder::new_ustar();
            header.entry_type(EntryType::from_byte(b'x'));
            let _ = header.path(PAX_NAME);
            let _ = header.mode(0o644);
            for set in [HeaderBuilder::uid, HeaderBuilder::gid, HeaderBuilder::mtime] {
                let _ = set(&mut header, 0);
            }
            let _ = header.size(self.records.len() as u64);
            out.extend_from_slice(header.finish().as_bytes());
            out.append(&mut self.records);
            out.resize(out.len().next_multiple_of(BLOCK as usize), 0);
        }
        out.extend_from_slice(self.header.finish().as_bytes());
    }
}

fn digits(number: usize) -> usize {
    number.checked_ilog10().map_or(1, |log| log as usize + 1)
}

/// A time as PAX has it: seconds with a fraction that counts away from zero, without zeros at its end.
fn decimal(time: Timestamp) -> String {
    let (sign, seconds, nanoseconds) = match time {
        Timestamp { seconds, nanoseconds: 0 } => return seconds.to_string(),
        Timestamp { seconds: ..0, nanoseconds } => {
            ("-", (time.seconds + 1).unsigned_abs(), 1_000_000_000 - nanoseconds)
        }
        Timestamp { nanoseconds, .. } => ("", time.seconds.unsigned_abs(), nanoseconds),
    };
    let text = format!("{sign}{seconds}.{nanoseconds:09}");
    text.trim_end_matches('0').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(key: &[u8], value: &[u8]) -> String {
        let mut fields = Fields { header: HeaderBuilder::new_ustar(), records: Vec::new() };
        fields.record(key, value);
        String::from_utf8(fields.records).unwrap()
    }

    #[test]
    fn the_length_of_a_record_counts_its_own_digits() {
        assert_eq!(records(b"k", b""), "5 k=\n");
        assert_eq!(records(b"k", b"1234"), "9 k=1234\n");
        assert_eq!(records(b"k", b"12345"), "11 k=12345\n");
        assert_eq!(records(b"k", &[b'v'; 93])[..4], *"99 k");
        assert_eq!(records(b"k", &[b'v'; 94])[..5], *"101 k");
    }

    #[test]
    fn times_are_decimal_fractions() {
        for (seconds, nanoseconds, text) in [
            (0, 1, "0.000000001"),
            (1_700_000_000, 500_000_000, "1700000000.5"),
            (-1, 0, "-1"),
            (-1, 500_000_000, "-0.5"),
            (-2, 999_999_999, "-1.000000001"),
            (i64::MIN, 1, "-9223372036854775807.999999999"),
        ] {
            assert_eq!(decimal(Timestamp { seconds, nanoseconds }), text);
        }
    }

    #[test]
    fn what_fits_the_header_needs_no_records() {
        let mtime = Timestamp { seconds: 0o77_777_777_777, nanoseconds: 0 };
        let (path, kind) = (&[b'p'; NAME_FIELD], Kind::Directory);
        let member = Member { path, kind, mode: 0o755, uid: 0o7_777_777, gid: 5, mtime, xattrs: &[] };
        let mut out = Vec::new();
        member.encode(&mut out);
        assert_eq!(out.len(), 512);
        out.clear();
        Member { uid: 0o10_000_000, ..member }.encode(&mut out);
        assert_eq!(out.len(), 3 * 512);
        assert_eq!(out[512..512 + 15], *b"15 uid=2097152\n");
    }
}
