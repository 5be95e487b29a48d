//! Directories as blocks of entries.
//!
//! Each block has an array of `struct erofs_dirent`, 12 bytes each, and the names behind it, in
//! byte order across all blocks, `.` and `..` among them. The last block ends with its last name.

use std::iter;

use crate::image::tree::{BLOCK_SIZE, Directory, InodeId, Node};

const ENTRY_SIZE: usize = 12;

/// What an entry of a directory names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// The directory itself: `.`
    This,
    /// The directory above: `..`
    Parent,
    /// Any other inode.
    Child(InodeId),
}

/// An entry before its nid is known.
pub(super) type Name<'t> = (&'t [u8], Target);

/// What the format stores of an entry's target.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    pub(super) nid: u64,
    /// See [`file_type`].
    pub(super) file_type: u8,
}

/// All entries of a directory, `.` and `..` at their places in byte order.
pub(super) fn names(directory: &Directory) -> Vec<Name<'_>> {
    let mut names = Vec::with_capacity(directory.entries.len() + 2);
    names.extend(directory.entries.iter().map(|(name, &id)| (name.as_slice(), Target::Child(id))));
    for (dot, target) in [(b".".as_slice(), Target::This), (b"..", Target::Parent)] {
        let place = names.partition_point(|&(name, _)| name < dot);
        names.insert(place, (dot, target));
    }
    names
}

/// Size in bytes of the directory with these entries.
pub(super) fn size(names: &[Name<'_>]) -> u64 {
    blocks(names).fold(0, |size, block| {
        let used: usize = block.iter().map(|&(name, _)| ENTRY_SIZE + name.len()).sum();
        size.next_multiple_of(BLOCK_SIZE) + used as u64
    })
}

/// Appends the directory; `link` tells what an entry's target is.
pub(super) fn encode(names: &[Name<'_>], link: impl Fn(Target) -> Link, out: &mut Vec<u8>) {
    let start = out.len();
    for block in blocks(names) {
        let filled = (out.len() - start).next_multiple_of(BLOCK_SIZE as usize);
        out.resize(start + filled, 0);
        let mut name_offset = block.len() * ENTRY_SIZE;
        for &(name, target) in block {
            let Link { nid, file_type } = link(target);
            out.extend_from_slice(&nid.to_le_bytes());
            out.extend_from_slice(&(name_offset as u16).to_le_bytes());
            out.extend_from_slice(&[file_type, 0]);
            name_offset += name.len();
        }
        for (name, _) in block {
            out.extend_from_slice(name);
        }
    }
}

/// Entries by block: each takes as many as fit.
fn blocks<'n, 't>(names: &'n [Name<'t>]) -> impl Iterator<Item = &'n [Name<'t>]> {
    let mut rest = names;
    iter::from_fn(move || {
        let mut room = BLOCK_SIZE as usize;
        let fitting = rest
            .iter()
            .take_while(|(name, _)| match room.checked_sub(ENTRY_SIZE + name.len()) {
                Some(left) => {
                    room = left;
                    true
                }
                None => false,
            })
            .count();
        let (block, later) = rest.split_at(fitting);
        rest = later;
        (!block.is_empty()).then_some(block)
    })
}

/// The type that an entry notes of its target: `enum` of `EROFS_FT_*`, the kernel's `FT_*`.
pub(super) fn file_type(node: &Node) -> u8 {
    match node {
        Node::Regular(_) => 1,
        Node::Directory(_) => 2,
        Node::CharacterDevice(_) => 3,
        Node::BlockDevice(_) => 4,
        Node::Fifo => 5,
        Node::Socket => 6,
        Node::Symlink(_) => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(names: &[&[u8]]) -> Directory {
        Directory { entries: names.iter().map(|name| (name.to_vec(), InodeId(1))).collect() }
    }

    #[test]
    fn dots_are_sorted_among_the_names() {
        let directory = directory(&[b"a", b"-", b".x", b".-", b"...", b"\xff", b"\x01"]);
        let sorted: Vec<&[u8]> = names(&directory).iter().map(|&(name, _)| name).collect();
        let expected: [&[u8]; 9] = [b"\x01", b"-", b".", b".-", b"..", b"...", b".x", b"a", b"\xff"];
        assert_eq!(sorted, expected);
    }

    #[test]
    fn a_small_directory_is_as_specified() {
        let directory = directory(&[b"bin"]);
        let names = names(&directory);
        let mut out = Vec::new();
        encode(
            &names,
            |target| Link { nid: if target == Target::This { 1 } else { 2 }, file_type: 2 },
            &mut out,
        );
        let expected = [
            &[1, 0, 0, 0, 0, 0, 0, 0, 36, 0, 2, 0][..],
            &[2, 0, 0, 0, 0, 0, 0, 0, 37, 0, 2, 0],
            &[2, 0, 0, 0, 0, 0, 0, 0, 39, 0, 2, 0],
            b"...bin",
        ]
        .concat();
        assert_eq!(out, expected);
        assert_eq!(size(&names), out.len() as u64);
    }

    #[test]
    fn entries_never_straddle_blocks() {
        let long: Vec<Vec<u8>> = (0..64u8).map(|i| [vec![b'n'; 254], vec![i + 1]].concat()).collect();
        let directory = directory(&long.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let names = names(&directory);
        let mut out = vec![9; 3];
        encode(&names, |_| Link { nid: 1, file_type: 1 }, &mut out);
        // 27 bytes of "." and "..", then 15 entries of 267 bytes a block.
        assert_eq!(blocks(&names).map(<[_]>::len).collect::<Vec<_>>(), [17, 15, 15, 15, 4]);
        assert_eq!(size(&names), 4 * 4096 + 4 * 267);
        assert_eq!(out.len() as u64, 3 + size(&names));
    }
}
