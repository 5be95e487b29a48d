//! The extended attributes of what was written: which of them are the layer's.

use std::collections::BTreeMap;
use std::io;

use rustix::fs::{getxattr, listxattr};
use rustix::io::Errno;

/// Attributes by full name.
pub(super) type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

/// Marks a directory that hides the one below it (`y`), or that may hold whiteouts in the form of
/// attributes (`x`, since Linux 6.8).
const OPAQUE: &[u8] = b"trusted.overlay.opaque";
/// Marks an empty file as a whiteout, if its directory says that it may hold such.
const WHITEOUT: &[u8] = b"trusted.overlay.whiteout";

/// What holds for the place only where a file lies: notes of overlay, what the host's security module says of
/// every file that is written there (a label with one container's categories), and EVM's seal, which names the inode.
/// Overlay's `opaque`, `redirect` and `metacopy` say what a layer hides or continues, and
/// `trusted.overlay.overlay.*` is a container's own: they stay.
const OF_THE_PLACE: [&[u8]; 8] = [
    b"security.selinux",
    b"security.evm",
    b"trusted.overlay.origin",
    b"trusted.overlay.impure",
    b"trusted.overlay.nlink",
    b"trusted.overlay.upper",
    b"trusted.overlay.uuid",
    b"trusted.overlay.protattr",
];

/// Name spaces that a layer can hold, and the two attributes that it can of another. Others belong to
/// the file system that the directory lies on, as `btrfs.compression` does.
const NAME_SPACES: [&[u8]; 3] = [b"user.", b"trusted.", b"security."];
const ACLS: [&[u8]; 2] = [b"system.posix_acl_access", b"system.posix_acl_default"];

/// Longest list of names and longest value in bytes that Linux gives (`XATTR_LIST_MAX`, `XATTR_SIZE_MAX`).
const LONGEST: usize = 1 << 16;

/// Reads the attributes of what `path` names that a layer can hold.
pub(super) fn read(path: &str) -> io::Result<Xattrs> {
    let mut names = vec![0; LONGEST];
    let length = match listxattr(path, &mut names[..]) {
        // A file system without any.
        Err(Errno::OPNOTSUPP) => 0,
        length => length?,
    };
    names.truncate(length);
    let mut xattrs = Xattrs::new();
    for name in names.split(|&byte| byte == 0).filter(|name| is_kept(name)) {
        if let Some(value) = value(path, name)? {
            xattrs.insert(name.to_vec(), value);
        }
    }
    Ok(xattrs)
}

/// The value of an attribute; None if it went away since its name was listed.
fn value(path: &str, name: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let mut value = vec![0; LONGEST];
    match getxattr(path, name, &mut value[..]) {
        Ok(length) => {
            value.truncate(length);
            value.shrink_to_fit();
            Ok(Some(value))
        }
        Err(Errno::NODATA) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn is_kept(name: &[u8]) -> bool {
    let in_space = NAME_SPACES.iter().any(|space| name.len() > space.len() && name.starts_with(space));
    (in_space || ACLS.contains(&name)) && !OF_THE_PLACE.contains(&name)
}

/// Takes the mark from a directory that it may hold whiteouts in the form of attributes. Our layers have
/// devices instead, which every kernel understands.
pub(super) fn take_whiteouts_mark(xattrs: &mut Xattrs) -> bool {
    let marked = xattrs.get(OPAQUE).is_some_and(|value| value == b"x");
    if marked {
        xattrs.remove(OPAQUE);
    }
    marked
}

/// Takes the mark of a whiteout from a file; where the directory has no mark it means nothing.
pub(super) fn take_whiteout(xattrs: &mut Xattrs) -> bool {
    xattrs.remove(WHITEOUT).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_layer_means_is_kept_and_what_a_place_means_is_not() {
        for name in [
            "user.x",
            "security.capability",
            "system.posix_acl_access",
            "system.posix_acl_default",
            "trusted.mine",
            "trusted.overlay.opaque",
            "trusted.overlay.redirect",
            "trusted.overlay.metacopy",
            "trusted.overlay.overlay.origin",
        ] {
            assert!(is_kept(name.as_bytes()), "{name}");
        }
        for name in [
            "",
            "user.",
            "btrfs.compression",
            "security.evm",
            "security.selinux",
            "system.nfs4_acl",
            "trusted.overlay.origin",
            "trusted.overlay.impure",
            "trusted.overlay.nlink",
            "trusted.overlay.upper",
            "trusted.overlay.uuid",
            "trusted.overlay.protattr",
        ] {
            assert!(!is_kept(name.as_bytes()), "{name}");
        }
    }
}
