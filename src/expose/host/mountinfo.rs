//! The mounts that this process sees, from `/proc/self/mountinfo`.
//!
//! Format: proc_pid_mountinfo(5). Lines that do not have it are passed over, and paths are bytes:
//! what others mount must not keep the daemon from starting, whatever its name.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use crate::store::Error;

const MOUNTINFO: &str = "/proc/self/mountinfo";

/// A mount.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::expose) struct Entry {
    /// Where it is mounted.
    pub(in crate::expose) point: PathBuf,
    /// Whether mounts below it appear in other mount namespaces too.
    pub(in crate::expose) is_shared: bool,
    /// File system type.
    pub(in crate::expose) fstype: String,
    /// What is mounted: a device, or a file.
    pub(in crate::expose) source: PathBuf,
}

/// All mounts, in the order in which they lie on each other.
pub(in crate::expose) fn read() -> Result<Vec<Entry>, Error> {
    let text = fs::read(MOUNTINFO).map_err(Error::io("read", Path::new(MOUNTINFO)))?;
    Ok(text.split(|byte| *byte == b'\n').filter_map(parse).collect())
}

fn parse(line: &[u8]) -> Option<Entry> {
    let mut fields = line.split(|byte| *byte == b' ');
    let point = path(fields.nth(4)?);
    // Options, then any number of optional fields. All are taken out, so that the type comes next.
    let optional = fields.by_ref().skip(1).take_while(|field| *field != b"-");
    let is_shared = optional.filter(|field| field.starts_with(b"shared:")).count() > 0;
    let fstype = String::from_utf8(fields.next()?.to_vec()).ok()?;
    Some(Entry { point, is_shared, fstype, source: path(fields.next()?) })
}

/// A path in which blanks and backslashes are written as three octal digits.
fn path(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|_| *first == b'\\').and_then(octal);
        bytes.push(octal.unwrap_or(*first));
        rest = match octal {
            Some(_) => after.get(3..).unwrap_or_default(),
            None => after,
        };
    }
    PathBuf::from(OsString::from_vec(bytes))
}

fn octal(digits: &[u8]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_with_any_number_of_optional_fields() {
        let entry = |point: &str, is_shared, fstype: &str, source: &str| Entry {
            point: point.into(),
            is_shared,
            fstype: fstype.to_owned(),
            source: source.into(),
        };
        for (line, expected) in [
            ("36 35 98:0 / /mnt rw,noatime - ext4 /dev/root rw", entry("/mnt", false, "ext4", "/dev/root")),
            (
                r"36 35 98:0 / /a\040b\134c ro shared:1 master:2 - erofs /r/layer.erofs ro",
                entry(r"/a b\c", true, "erofs", "/r/layer.erofs"),
            ),
            ("36 35 0:1 / /m rw master:2 - tmpfs tmpfs rw", entry("/m", false, "tmpfs", "tmpfs")),
        ] {
            assert_eq!(parse(line.as_bytes()), Some(expected));
        }
        for line in ["", "36 35 98:0 / /mnt", "36 35 98:0 / /mnt rw -", "36 35 98:0 / /mnt rw shared:1"] {
            assert_eq!(parse(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn the_root_is_mounted() {
        assert!(read().unwrap().iter().any(|entry| entry.point == Path::new("/")));
    }
}
