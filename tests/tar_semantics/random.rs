//! Random trees written as archives and read back, and random archives that no one would write.

use std::collections::BTreeMap;

use nexuserofs::image::tar::{Limits, read_layer};
use nexuserofs::image::tree::{Metadata, Node, Timestamp, Tree};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;

use crate::archive::{Entry, archive};
use crate::listing::{Blocks, Image, read};

/// A node of a random tree.
#[derive(Clone, Debug)]
enum Content {
    Directory(BTreeMap<Vec<u8>, RandomTree>),
    File(Vec<u8>),
    Symlink(Vec<u8>),
    Device { type_flag: u8, major: u32, minor: u32 },
    Fifo,
}

#[derive(Clone, Debug)]
struct RandomTree {
    metadata: Metadata,
    content: Content,
}

fn metadata() -> impl Strategy<Value = Metadata> {
    let value = vec(any::<u8>(), 0..40);
    let xattrs = btree_map(name().prop_map(|name| [b"user.", name.as_slice()].concat()), value, 0..3);
    let mtime = (any::<i32>(), 0..1_000_000_000u32)
        .prop_map(|(seconds, nanoseconds)| Timestamp { seconds: seconds.into(), nanoseconds });
    (0..0o10000u16, 0..u32::MAX, 0..u32::MAX, mtime, xattrs)
        .prop_map(|(mode, uid, gid, mtime, xattrs)| Metadata { mode, uid, gid, mtime, xattrs })
}

/// Names of any bytes that are neither special to paths nor to tar.
fn name() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 1..30).prop_filter("special", |name| is_plain(name) && !name.contains(&b'='))
}

/// Whether a name can be in a directory and means only itself.
fn is_plain(name: &[u8]) -> bool {
    let is_special = matches!(name, b"" | b"." | b"..") || name.starts_with(b".wh.");
    !is_special && !name.iter().any(|byte| b"\0/".contains(byte))
}

fn tree() -> impl Strategy<Value = RandomTree> {
    let content = prop_oneof![
        vec(any::<u8>(), 0..20_000).prop_map(Content::File),
        vec(1..=255u8, 1..200).prop_map(Content::Symlink),
        (select(vec![b'3', b'4']), 1..4096u32, 0..1_048_576u32)
            .prop_map(|(type_flag, major, minor)| Content::Device { type_flag, major, minor }),
        Just(Content::Fifo),
    ];
    let leaf = (metadata(), content).prop_map(|(metadata, content)| RandomTree { metadata, content });
    leaf.prop_recursive(4, 40, 8, |inner| {
        (metadata(), btree_map(name(), inner, 0..8))
            .prop_map(|(metadata, entries)| RandomTree { metadata, content: Content::Directory(entries) })
    })
}

impl RandomTree {
    /// Entries for this node and those below, each path in a PAX record.
    fn write(&self, path: &[u8], entries: &mut Vec<Entry>) {
        let entry = match &self.content {
            Content::Directory(_) => Entry::directory(""),
            Content::File(data) => Entry::file("", data),
            Content::Symlink(target) => Entry::symlink("", "").pax("linkpath", target),
            Content::Device { type_flag, major, minor } => Entry::device(*type_flag, "", *major, *minor),
            Content::Fifo => Entry::new(b'6', ""),
        };
        entries.push(entry.metadata(&self.metadata).pax("path", [b"/".as_slice(), path].concat()));
        if let Content::Directory(children) = &self.content {
            for (name, child) in children {
                child.write(&[path, b"/", name].concat(), entries);
            }
        }
    }

    /// Fails unless the node at `path` of the image is this one.
    fn compare(&self, path: &[u8], image: &Image) -> Result<(), TestCaseError> {
        let id = image.paths().get(path).copied();
        let inode =
            image.inode(id.ok_or_else(|| TestCaseError::fail(format!("no {}", path.escape_ascii())))?);
        prop_assert_eq!(&inode.metadata, &self.expected_metadata());
        match (&self.content, &inode.node) {
            (Content::Directory(children), Node::Directory(directory)) => {
                prop_assert!(children.keys().eq(directory.entries.keys()));
                let base = if path == b"/" { b"" } else { path };
                for (name, child) in children {
                    child.compare(&[base, b"/", name].concat(), image)?;
                }
            }
            (Content::File(data), Node::Regular(file)) => prop_assert!(&image.content(file) == data),
            (Content::Symlink(target), Node::Symlink(found)) => prop_assert_eq!(target, found),
            (Content::Device { type_flag: b'3', major, minor }, Node::CharacterDevice(number))
            | (Content::Device { type_flag: b'4', major, minor }, Node::BlockDevice(number)) => {
                prop_assert_eq!((*major, *minor), (number.major, number.minor));
            }
            (Content::Fifo, Node::Fifo) => {}
            (expected, found) => prop_assert!(false, "{expected:?} became {found:?}"),
        }
        Ok(())
    }

    /// Links always have mode 0777, and only files and directories have `user.` attributes.
    fn expected_metadata(&self) -> Metadata {
        let mut metadata = self.metadata.clone();
        if matches!(self.content, Content::Symlink(_)) {
            metadata.mode = 0o777;
        }
        if !matches!(self.content, Content::File(_) | Content::Directory(_)) {
            metadata.xattrs.clear();
        }
        metadata
    }
}

/// Paths and targets that meet each other often.
fn short_path() -> impl Strategy<Value = String> {
    let name = select(vec!["a", "b", "c", "a", "b", "c", "..", ".", ""]);
    (select(vec!["", "", "", "/", "./", "../"]), vec(name, 1..4))
        .prop_map(|(start, names)| format!("{start}{}", names.join("/")))
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let last = select(vec![".wh.a", ".wh.b", ".wh..wh..opq", ".wh..wh.plnk"]);
    let whiteout = (short_path(), last).prop_map(|(path, last)| Entry::file(format!("{path}/{last}"), ""));
    let kind = prop_oneof![
        3 => short_path().prop_map(Entry::directory),
        3 => (short_path(), vec(any::<u8>(), 0..5)).prop_map(|(path, data)| Entry::file(path, data)),
        3 => (short_path(), short_path()).prop_map(|(path, target)| Entry::symlink(path, target)),
        2 => (short_path(), short_path()).prop_map(|(path, target)| Entry::hard_link(path, target)),
        1 => whiteout,
        1 => short_path().prop_map(|path| Entry::device(b'3', path, 0, 0)),
        1 => short_path().prop_map(|path| Entry::new(b'6', path)),
    ];
    let xattr = select(vec!["user.a", "security.capability", "trusted.overlay.opaque"]);
    (kind, 0..0o10000u16, 0..3u32, proptest::option::of(xattr)).prop_map(|(entry, mode, owner, xattr)| {
        let entry = entry.mode(mode).owner(owner, owner);
        match xattr {
            Some(name) => {
                entry.xattr(name, [owner as u8 % 2, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
            }
            None => entry,
        }
    })
}

/// Fails unless every directory is reached by exactly one name and every file by at least one.
fn check_shape(tree: &Tree) -> Result<(), TestCaseError> {
    let mut seen = vec![0; tree.inodes.len()];
    let mut todo = vec![Tree::ROOT];
    while let Some(id) = todo.pop() {
        let count = &mut seen[id.0 as usize];
        *count += 1;
        if let Node::Directory(directory) = &tree.inode(id).node {
            prop_assert_eq!(*count, 1, "a directory with two names");
            prop_assert!(directory.entries.keys().all(|name| is_plain(name)), "a name that is none");
            todo.extend(directory.entries.values());
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_written_is_read(tree in tree()) {
        let metadata = Metadata { mode: 0o700, uid: 1, gid: 2, ..Metadata::default() };
        let root = RandomTree { metadata, content: Content::Directory([(b"top".to_vec(), tree)].into()) };
        let mut entries = Vec::new();
        root.write(b"", &mut entries);
        let image = read(&archive(&entries)).map_err(|error| TestCaseError::fail(error.to_string()))?;
        root.compare(b"/", &image)?;
        prop_assert_eq!(image.layer.entries, entries.len() as u64);
    }

    #[test]
    fn any_sequence_of_entries_gives_one_tree_or_an_error(entries in vec(any_entry(), 1..12)) {
        let bytes = archive(&entries);
        let first = read_layer(&mut bytes.as_slice(), &mut Blocks::default(), &Limits::default());
        let mut slow = std::io::BufReader::with_capacity(37, bytes.as_slice());
        let second = read_layer(&mut slow, &mut Blocks::default(), &Limits::default());
        match (first, second) {
            (Ok(first), Ok(second)) => {
                prop_assert_eq!(&first, &second);
                check_shape(&first.tree)?;
            }
            (Err(first), Err(second)) => prop_assert_eq!(first.to_string(), second.to_string()),
            (first, second) => prop_assert!(false, "{first:?} {second:?}"),
        }
    }
}
