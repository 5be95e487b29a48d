//! Samples as tar archives, written in ways that must not matter.

use std::collections::BTreeMap;

use nexuserofs::image::tar::{XATTR_IMPLICIT, XATTR_OPAQUE};
use nexuserofs::image::tree::{BLOCK_SIZE, DeviceNumber, InodeId, Metadata, Node, Tree};
use proptest::prelude::*;
use proptest::sample::select;

use crate::archive::{Entry, archive};
use crate::listing::join;
use crate::random::any_sample;
use crate::sample::{Sample, metadata};
use crate::sparse_file::Sparse;

/// An archive and what it describes.
#[derive(Clone, Debug)]
pub(crate) struct Archived {
    pub(crate) sample: Sample,
    pub(crate) entries: Vec<Entry>,
}

impl Archived {
    /// The tar stream.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        archive(&self.entries)
    }
}

/// Random trees with all that an archive can express, whiteouts and opaque directories too.
pub(crate) fn any_archive() -> impl Strategy<Value = Archived> {
    (any_sample(), prop::collection::vec(any_style(), 1..20)).prop_map(|(mut sample, styles)| {
        let styles = Styles(styles);
        for index in 0..sample.tree.inodes.len() {
            settle(&mut sample.tree, InodeId(index as u32), &styles);
        }
        let entries = Writing::of(&sample, &styles);
        Archived { sample, entries }
    })
}

/// How an inode is written.
#[derive(Clone, Copy, Debug)]
struct Style {
    decoy: Decoy,
    naming: Naming,
    hiding: Hiding,
    data: DataFormat,
}

/// What an archive has at a path before what stays there.
#[derive(Clone, Copy, Debug)]
enum Decoy {
    Nothing,
    File,
    Symlink,
    Device,
    Directory,
}

/// Where the entry of a directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Naming {
    BeforeItsEntries,
    AfterItsEntries,
    /// There is none, if the directory has entries by which it is known.
    Nowhere,
}

/// By what an archive hides what the layers below have in a directory, or under any other name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hiding {
    Nothing,
    MarkBefore,
    MarkAfter,
    WhiteoutBefore,
    WhiteoutAfter,
}

/// How the data of a file is stored.
#[derive(Clone, Copy, Debug)]
enum DataFormat {
    Dense,
    OldGnu,
    Pax00,
    Pax01,
    Pax10,
}

fn any_style() -> impl Strategy<Value = Style> {
    let decoy = select(vec![Decoy::Nothing, Decoy::File, Decoy::Symlink, Decoy::Device, Decoy::Directory]);
    let naming = select(vec![Naming::BeforeItsEntries, Naming::AfterItsEntries, Naming::Nowhere]);
    let data =
        [DataFormat::Dense, DataFormat::OldGnu, DataFormat::Pax00, DataFormat::Pax01, DataFormat::Pax10];
    let hiding = [Hiding::MarkBefore, Hiding::MarkAfter, Hiding::WhiteoutBefore, Hiding::WhiteoutAfter];
    let hiding = prop_oneof![Just(Hiding::Nothing), select(hiding.to_vec())];
    (decoy, naming, hiding, select(data.to_vec())).prop_map(|(decoy, naming, hiding, data)| Style {
        decoy,
        naming,
        hiding,
        data,
    })
}

/// A style for each inode.
struct Styles(Vec<Style>);

impl Styles {
    fn of(&self, tree: &Tree, id: InodeId) -> Style {
        let mut style = self.0[id.0 as usize % self.0.len()];
        let has_entries =
            matches!(&tree.inode(id).node, Node::Directory(directory) if !directory.entries.is_empty());
        if id == Tree::ROOT {
            // Nothing can take the root's place or hide it.
            style.decoy = Decoy::Nothing;
            style.hiding = match style.hiding {
                Hiding::WhiteoutBefore => Hiding::MarkBefore,
                Hiding::WhiteoutAfter => Hiding::MarkAfter,
                other => other,
            };
        } else if style.naming == Naming::Nowhere && !has_entries {
            style.naming = Naming::BeforeItsEntries;
        }
        style
    }
}

const WHITEOUT: Node = Node::CharacterDevice(DeviceNumber { major: 0, minor: 0 });

/// Makes of an inode what an archive in these styles says of it.
fn settle(tree: &mut Tree, id: InodeId, styles: &Styles) {
    let style = styles.of(tree, id);
    let inode = &mut tree.inodes[id.0 as usize];
    // -1 is no owner.
    inode.metadata.uid = inode.metadata.uid.min(u32::MAX - 1);
    inode.metadata.gid = inode.metadata.gid.min(u32::MAX - 1);
    match &inode.node {
        Node::Symlink(_) => inode.metadata.mode = 0o777,
        // Tar has no sockets. In their place there are whiteouts, of which it says owner and time.
        Node::Socket => {
            inode.node = WHITEOUT;
            inode.metadata.mode = 0;
            inode.metadata.xattrs.clear();
        }
        Node::Directory(_) => {
            if style.naming == Naming::Nowhere {
                inode.metadata = metadata(0o755);
                inode.metadata.xattrs.insert(XATTR_IMPLICIT.to_vec(), b"y".to_vec());
            }
            if style.hiding != Hiding::Nothing {
                inode.metadata.xattrs.insert(XATTR_OPAQUE.to_vec(), b"y".to_vec());
            }
        }
        _ => {}
    }
}

/// An archive on its way.
struct Writing<'s> {
    sample: &'s Sample,
    styles: &'s Styles,
    entries: Vec<Entry>,
    /// The first path of each inode that is written, for hard links.
    written: BTreeMap<InodeId, Vec<u8>>,
}

impl<'s> Writing<'s> {
    /// The entries of an archive that describes `sample`.
    fn of(sample: &'s Sample, styles: &'s Styles) -> Vec<Entry> {
        let mut writing = Self { sample, styles, entries: Vec::new(), written: BTreeMap::new() };
        writing.directory(b".", b"", Tree::ROOT);
        writing.entries
    }

    /// Writes what has this name in the directory with this path.
    fn write(&mut self, parent: &[u8], name: &[u8], id: InodeId) {
        let path = join(parent, name);
        let node = &self.sample.tree.inode(id).node;
        if let Some(first) = self.written.get(&id) {
            let link = Entry::hard_link("", "").pax("linkpath", first);
            self.push(link, &path, id);
            return;
        }
        match node {
            Node::Directory(_) => self.directory(parent, name, id),
            node if *node == WHITEOUT => self.push(Entry::file("", ""), &join(parent, &whiteout(name)), id),
            _ => self.other(parent, name, id),
        }
        self.written.insert(id, path);
    }

    fn directory(&mut self, parent: &[u8], name: &[u8], id: InodeId) {
        let path = join(parent, name);
        let Style { decoy, naming, hiding, .. } = self.styles.of(&self.sample.tree, id);
        if hiding == Hiding::WhiteoutBefore {
            self.white_out(parent, name);
        }
        if naming == Naming::BeforeItsEntries {
            self.decoy(decoy, &path);
            self.push(Entry::directory(""), &path, id);
        }
        if hiding == Hiding::MarkBefore {
            self.entries.push(Entry::file("", "").pax("path", join(&path, b".wh..wh..opq")));
        }
        if let Node::Directory(directory) = &self.sample.tree.inode(id).node {
            for (name, &child) in &directory.entries {
                self.write(&path, name, child);
            }
        }
        match hiding {
            Hiding::MarkAfter => {
                self.entries.push(Entry::file("", "").pax("path", join(&path, b".wh..wh..opq")));
            }
            Hiding::WhiteoutAfter => self.white_out(parent, name),
            _ => {}
        }
        if naming == Naming::AfterItsEntries {
            self.push(Entry::directory(""), &path, id);
        }
    }

    fn other(&mut self, parent: &[u8], name: &[u8], id: InodeId) {
        let path = join(parent, name);
        let Style { decoy, hiding, data, .. } = self.styles.of(&self.sample.tree, id);
        if hiding == Hiding::WhiteoutBefore {
            self.white_out(parent, name);
        }
        self.decoy(decoy, &path);
        if matches!(decoy, Decoy::Directory) {
            self.entries.push(Entry::file("", "gone too").pax("path", join(&path, b"inside")));
        }
        let entry = match &self.sample.tree.inode(id).node {
            Node::Regular(file) => self.file(&path, id, file.size, data),
            Node::Symlink(target) => Entry::symlink("", "").pax("linkpath", target),
            Node::CharacterDevice(number) => Entry::device(b'3', "", number.major, number.minor),
            Node::BlockDevice(number) => Entry::device(b'4', "", number.major, number.minor),
            Node::Fifo => Entry::new(b'6', ""),
            Node::Directory(_) | Node::Socket => panic!("written otherwise"),
        };
        self.push(entry, &path, id);
        if hiding == Hiding::WhiteoutAfter {
            self.white_out(parent, name);
        }
    }

    fn file(&self, path: &[u8], id: InodeId, size: u64, format: DataFormat) -> Entry {
        let runs = &self.sample.data[&id];
        let runs = runs.iter().map(|run| (run.file_block * BLOCK_SIZE, run.bytes.clone())).collect();
        let sparse = Sparse { path: path.to_vec(), size, runs };
        match format {
            DataFormat::Dense => Entry::file("", self.sample.expected(id, 0, size as usize)),
            DataFormat::OldGnu => sparse.old_gnu(),
            DataFormat::Pax00 if !sparse.runs.is_empty() => sparse.pax_0_0(),
            DataFormat::Pax00 | DataFormat::Pax01 => sparse.pax_0_1(),
            DataFormat::Pax10 => sparse.pax_1_0(),
        }
    }

    fn decoy(&mut self, decoy: Decoy, path: &[u8]) {
        let entry = match decoy {
            Decoy::Nothing => return,
            Decoy::File => Entry::file("", "gone").xattr("user.gone", "y"),
            Decoy::Symlink => Entry::symlink("", "/gone"),
            Decoy::Device => Entry::device(b'3', "", 1, 3),
            Decoy::Directory => Entry::directory(""),
        };
        self.entries.push(entry.pax("path", path));
    }

    fn white_out(&mut self, parent: &[u8], name: &[u8]) {
        self.entries.push(Entry::file("", "").pax("path", join(parent, &whiteout(name))));
    }

    /// Adds an entry with the inode's metadata, all but the marks, which an archive has other words for.
    fn push(&mut self, entry: Entry, path: &[u8], id: InodeId) {
        let mut metadata: Metadata = self.sample.tree.inode(id).metadata.clone();
        metadata.xattrs.retain(|name, _| name != XATTR_IMPLICIT && name != XATTR_OPAQUE);
        self.entries.push(entry.metadata(&metadata).pax("path", path));
    }
}

/// The name that says that `name` is gone.
fn whiteout(name: &[u8]) -> Vec<u8> {
    [b".wh.", name].concat()
}
