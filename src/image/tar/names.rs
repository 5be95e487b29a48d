//! What the path of a member names: an entry, a whiteout, an opaque mark, the root, or nothing.

use super::error::{Name, Refusal};

/// What a path stands for. `directory` is a path from the root in normal form; "" is the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target<'p> {
    /// The root directory.
    Root,
    /// An entry of a directory.
    Entry {
        /// Its directory.
        directory: &'p [u8],
        /// Its name there.
        name: &'p [u8],
    },
    /// `.wh.NAME`: NAME of the layers below is gone.
    Whiteout {
        /// The directory in which it is gone.
        directory: &'p [u8],
        /// What is gone.
        name: &'p [u8],
    },
    /// `.wh..wh..opq`: all that the layers below have in the directory is gone.
    Opaque {
        /// The directory.
        directory: &'p [u8],
    },
    /// Bookkeeping of aufs, without a meaning in an image.
    Aufs,
}

/// Prefix of a whiteout (OCI image specification, "Whiteouts").
const WHITEOUT: &[u8] = b".wh.";

/// Prefix of names that aufs keeps for itself; of these the specification knows only the next.
const AUFS: &[u8] = b".wh..wh.";

/// Name of the opaque mark.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Writes `path` in normal form: relative to the root, names separated by single slashes, without
/// `.` and `..`. As in Go's `filepath.Clean`, `..` takes the name before it away, and there is
/// nothing above the root.
pub(super) fn normalise(path: &[u8], normal: &mut Vec<u8>) {
    normal.clear();
    for name in path.split(|&byte| byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => normal.truncate(normal.iter().rposition(|&byte| byte == b'/').unwrap_or(0)),
            name => {
                if !normal.is_empty() {
                    normal.push(b'/');
                }
                normal.extend_from_slice(name);
            }
        }
    }
}

/// Splits off the last name. The directory of a single name is "".
pub(super) fn split_last(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        None => (b"", path),
        Some(slash) => {
            let (directory, name) = path.split_at(slash);
            (directory, name.get(1..).unwrap_or_default())
        }
    }
}

/// Takes slashes, and dots behind slashes, off the end.
pub(super) fn without_trailing_slashes(path: &[u8]) -> &[u8] {
    let mut path = path;
    while let Some(shorter) = path.strip_suffix(b"/").or_else(|| path.strip_suffix(b"/.")) {
        path = shorter;
    }
    path
}

/// Splits off the first name and leaves what follows its slash.
pub(super) fn split_first(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().position(|&byte| byte == b'/') {
        None => (path, b""),
        Some(slash) => {
            let (name, rest) = path.split_at(slash);
            (name, rest.get(1..).unwrap_or_default())
        }
    }
}

/// Says what a path in normal form stands for.
pub(super) fn classify(path: &[u8]) -> Result<Target<'_>, Refusal> {
    if path.is_empty() {
        return Ok(Target::Root);
    }
    let (directory, name) = split_last(path);
    if let Some(reserved) = directory.split(|&byte| byte == b'/').find(|name| name.starts_with(WHITEOUT)) {
        return match reserved.starts_with(AUFS) {
            true => Ok(Target::Aufs),
            false => Err(Refusal::ReservedName(Name::new(reserved))),
        };
    }
    match name.strip_prefix(WHITEOUT) {
        None => Ok(Target::Entry { directory, name }),
        Some(_) if name == OPAQUE => Ok(Target::Opaque { directory }),
        Some(_) if name.starts_with(AUFS) => Ok(Target::Aufs),
        Some(b"" | b"." | b"..") => Err(Refusal::WhiteoutName),
        Some(name) => Ok(Target::Whiteout { directory, name }),
    }
}
