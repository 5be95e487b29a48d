//! PAX extended headers: records of the form `LENGTH KEY=VALUE\n`, POSIX.1-2001 `pax`.
//!
//! As strict as Go's `archive/tar`. `tar-core`'s iterator ends without an error at a length that it
//! cannot read, so that one bad byte would take the path, the size and the attributes away.

use std::collections::BTreeMap;

use super::error::{Fault, Malformed};
use crate::image::tree::Timestamp;

/// What PAX records say about an entry. A record that is absent or empty leaves the header's
/// field as it is; of a key given twice the last value counts.
#[derive(Debug, Default)]
pub(super) struct Overrides<'a> {
    path: &'a [u8],
    link_target: &'a [u8],
    size: &'a [u8],
    uid: &'a [u8],
    gid: &'a [u8],
    mtime: &'a [u8],
    /// Extended attributes by name without the `SCHILY.xattr.` prefix. An empty value is a value.
    pub(super) xattrs: BTreeMap<&'a [u8], &'a [u8]>,
    /// The records of GNU sparse files.
    pub(super) sparse: SparseRecords<'a>,
}

/// The records `GNU.sparse.*`, which come in three versions.
#[derive(Debug, Default)]
pub(super) struct SparseRecords<'a> {
    /// Major version; empty in versions 0.0 and 0.1.
    pub(super) major: &'a [u8],
    /// Minor version; empty in versions 0.0 and 0.1.
    pub(super) minor: &'a [u8],
    name: &'a [u8],
    /// Size with holes, versions 0.0 and 0.1.
    pub(super) size: &'a [u8],
    /// Size with holes, version 1.0.
    pub(super) real_size: &'a [u8],
    /// Number of runs, versions 0.0 and 0.1.
    pub(super) run_count: &'a [u8],
    /// Version 0.1: offsets and lengths in turn, separated by commas.
    pub(super) map: &'a [u8],
    /// Version 0.0: offsets and lengths in turn, from records that repeat.
    pub(super) pairs: Vec<&'a [u8]>,
}

impl<'a> Overrides<'a> {
    /// Reads all records of an extended header.
    pub(super) fn read(data: &'a [u8]) -> Result<Self, Malformed> {
        let mut overrides = Self::default();
        for record in records(data) {
            let (key, value) = record?;
            overrides.take(key, value)?;
        }
        Ok(overrides)
    }

    fn take(&mut self, key: &'a [u8], value: &'a [u8]) -> Result<(), Malformed> {
        let field = match key {
            b"path" => &mut self.path,
            b"linkpath" => &mut self.link_target,
            b"size" => &mut self.size,
            b"uid" => &mut self.uid,
            b"gid" => &mut self.gid,
            b"mtime" => &mut self.mtime,
            b"GNU.sparse.major" => &mut self.sparse.major,
            b"GNU.sparse.minor" => &mut self.sparse.minor,
            b"GNU.sparse.name" => &mut self.sparse.name,
            b"GNU.sparse.size" => &mut self.sparse.size,
            b"GNU.sparse.realsize" => &mut self.sparse.real_size,
            b"GNU.sparse.numblocks" => &mut self.sparse.run_count,
            b"GNU.sparse.map" => &mut self.sparse.map,
            b"GNU.sparse.offset" => return self.sparse.pair(0, value),
            b"GNU.sparse.numbytes" => return self.sparse.pair(1, value),
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.xattrs.insert(name, value);
                }
                return Ok(());
            }
        };
        *field = value;
        Ok(())
    }

    /// The path, if given.
    pub(super) fn path(&self) -> Option<&'a [u8]> {
        given(self.path)
    }

    /// The link target, if given.
    pub(super) fn link_target(&self) -> Option<&'a [u8]> {
        given(self.link_target)
    }

    /// The size in bytes, if given.
    pub(super) fn size(&self) -> Result<Option<i64>, Malformed> {
        given(self.size).map(|value| integer("size", value)).transpose()
    }

    /// The owner, if given.
    pub(super) fn uid(&self) -> Result<Option<i64>, Malformed> {
        given(self.uid).map(|value| integer("uid", value)).transpose()
    }

    /// The group, if given.
    pub(super) fn gid(&self) -> Result<Option<i64>, Malformed> {
        given(self.gid).map(|value| integer("gid", value)).transpose()
    }

    /// The time of last modification, if given.
    pub(super) fn mtime(&self) -> Result<Option<Timestamp>, Malformed> {
        given(self.mtime).map(|value| time(value).ok_or(Malformed::PaxNumber("mtime"))).transpose()
    }
}

impl<'a> SparseRecords<'a> {
    /// Path of the file, if given. The path in the header is then an invented one. POSIX does not
    /// know this record, so that a NUL in it is found only where it counts.
    pub(super) fn name(&self) -> Result<Option<&'a [u8]>, Malformed> {
        match given(self.name) {
            Some(name) if name.contains(&0) => Err(Malformed::PaxRecord),
            name => Ok(name),
        }
    }

    fn pair(&mut self, place: usize, value: &'a [u8]) -> Result<(), Malformed> {
        if self.pairs.len() % 2 != place {
            return Err(Malformed::SparseMap("offsets and lengths do not alternate"));
        }
        self.pairs.push(value);
        Ok(())
    }
}

/// A decimal number, the value of the PAX record `key`.
pub(super) fn integer(key: &'static str, value: &[u8]) -> Result<i64, Malformed> {
    decimal(value).ok_or(Malformed::PaxNumber(key))
}

/// A decimal number, a sign allowed.
pub(super) fn decimal(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Checks that every record is well-formed.
pub(super) fn validate(data: &[u8]) -> Result<(), Fault> {
    Ok(records(data).try_for_each(|record| record.map(drop))?)
}

fn given(value: &[u8]) -> Option<&[u8]> {
    (!value.is_empty()).then_some(value)
}

/// A record's key and value.
type Record<'a> = (&'a [u8], &'a [u8]);

fn records(mut data: &[u8]) -> impl Iterator<Item = Result<Record<'_>, Malformed>> {
    std::iter::from_fn(move || {
        if data.is_empty() {
            return None;
        }
        let Some((key, value, rest)) = split_record(data) else {
            data = &[];
            return Some(Err(Malformed::PaxRecord));
        };
        data = rest;
        Some(Ok((key, value)))
    })
}

fn split_record(data: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = data.iter().position(|&byte| byte == b' ')?;
    let (record, rest) = data.split_at_checked(record_length(data.get(..space)?)?)?;
    let content = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = content.iter().position(|&byte| byte == b'=')?;
    let (key, value) = (content.get(..equals)?, content.get(equals + 1..)?);
    let text = match key {
        b"" => return None,
        b"path" | b"linkpath" | b"uname" | b"gname" => value,
        _ => key,
    };
    (!text.contains(&0)).then_some((key, value, rest))
}

fn record_length(digits: &[u8]) -> Option<usize> {
    let value = decimal(digits)?;
    usize::try_from(value).ok()
}

/// Seconds with an optional fraction, of which nine digits count: `-1.5` is half a second before
/// the last second but one of 1969.
fn time(text: &[u8]) -> Option<Timestamp> {
    let mut parts = text.splitn(2, |&byte| byte == b'.');
    let whole = parts.next()?;
    let seconds = decimal(whole)?;
    let nanoseconds = fraction(parts.next().unwrap_or_default())?;
    if nanoseconds == 0 || !whole.starts_with(b"-") {
        return Some(Timestamp { seconds, nanoseconds });
    }
    Some(Timestamp { seconds: seconds.checked_sub(1)?, nanoseconds: 1_000_000_000 - nanoseconds })
}

fn fraction(digits: &[u8]) -> Option<u32> {
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let padded = digits.iter().copied().chain(std::iter::repeat(b'0')).take(9);
    Some(padded.fold(0, |value, digit| value * 10 + u32::from(digit - b'0')))
}
