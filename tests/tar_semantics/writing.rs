//! Trees written as archives.

use std::collections::BTreeMap;
use std::io::{self, Read};

use nexuserofs::image::tar::write::{Error, Options, Summary, write};
use nexuserofs::image::tree::{
    Contents, DeviceNumber, Directory, FileData, Inode, InodeId, Metadata, Node, Timestamp, Tree,
};

use crate::listing::list;

/// A tree with the data of its files.
struct Made {
    tree: Tree,
    data: BTreeMap<InodeId, Vec<u8>>,
}

impl Contents for Made {
    fn open(&self, inode: InodeId) -> io::Result<Box<dyn Read + '_>> {
        Ok(Box::new(self.data.get(&inode).ok_or(io::ErrorKind::InvalidInput)?.as_slice()))
    }
}

impl Made {
    fn new() -> Self {
        let metadata = Metadata { mode: 0o755, ..Metadata::default() };
        let root = Inode { metadata, node: Node::Directory(Directory::default()) };
        Self { tree: Tree { inodes: vec![root] }, data: BTreeMap::new() }
    }

    fn add(&mut self, parent: InodeId, name: &[u8], node: Node) -> InodeId {
        let id = InodeId(self.tree.inodes.len() as u32);
        let metadata = Metadata { mode: 0o644, ..Metadata::default() };
        self.tree.inodes.push(Inode { metadata, node });
        self.link(parent, name, id);
        id
    }

    fn link(&mut self, parent: InodeId, name: &[u8], id: InodeId) {
        let Node::Directory(directory) = &mut self.tree.inodes[parent.0 as usize].node else {
            panic!("{parent:?} is no directory");
        };
        directory.entries.insert(name.to_vec(), id);
    }

    fn directory(&mut self, parent: InodeId, name: &[u8]) -> InodeId {
        self.add(parent, name, Node::Directory(Directory::default()))
    }

    fn file(&mut self, parent: InodeId, name: &[u8], data: &[u8]) -> InodeId {
        let file = FileData { size: data.len() as u64, extents: Vec::new() };
        let id = self.add(parent, name, Node::Regular(file));
        self.data.insert(id, data.to_vec());
        id
    }

    fn whiteout(&mut self, parent: InodeId, name: &[u8]) -> InodeId {
        self.add(parent, name, Node::CharacterDevice(DeviceNumber::default()))
    }

    fn metadata(&mut self, id: InodeId) -> &mut Metadata {
        &mut self.tree.inodes[id.0 as usize].metadata
    }

    fn xattr(&mut self, id: InodeId, name: &[u8], value: &[u8]) {
        self.metadata(id).xattrs.insert(name.to_vec(), value.to_vec());
    }

    fn write(&self, options: &Options) -> Result<(Vec<u8>, Summary), Error> {
        let mut out = Vec::new();
        let summary = write(&mut out, &self.tree, self, options)?;
        Ok((out, summary))
    }

    fn archive(&self) -> Vec<u8> {
        self.write(&Options::default()).unwrap().0
    }

    fn refusal(&self) -> String {
        self.write(&Options::default()).map(drop).unwrap_err().to_string()
    }
}

/// The names in the headers of an archive whose members are empty, in their order.
fn names(archive: &[u8]) -> Vec<String> {
    let headers = archive.chunks(512).filter(|block| block[257..262] == *b"ustar");
    let name = |block: &[u8]| block[..100].split(|&byte| byte == 0).next().unwrap().to_vec();
    headers.map(|block| String::from_utf8(name(block)).unwrap()).collect()
}

#[test]
fn entries_are_sorted_and_parents_come_first() {
    let mut made = Made::new();
    made.file(Tree::ROOT, b"b", b"");
    let directory = made.directory(Tree::ROOT, b"a");
    made.file(directory, b"z", b"");
    made.directory(directory, b"y");
    made.file(Tree::ROOT, b"a-", b"");
    assert_eq!(names(&made.archive()), ["./", "a/", "a/y/", "a/z", "a-", "b"]);
    let archive = made.archive();
    assert_eq!(archive.len(), 6 * 512 + 1024, "the end is two blocks of zeros, without more");
}

#[test]
fn directories_that_nothing_names_are_not_named() {
    let mut made = Made::new();
    let directory = made.directory(Tree::ROOT, b"d");
    made.file(directory, b"f", b"");
    for id in [Tree::ROOT, directory] {
        made.xattr(id, b"trusted.overlay.nexuserofs.implicit", b"y");
    }
    assert_eq!(names(&made.archive()), ["d/f"]);
}

#[test]
fn whiteouts_and_opaque_marks_are_those_of_oci() {
    let mut made = Made::new();
    let directory = made.directory(Tree::ROOT, b"d");
    made.xattr(directory, b"trusted.overlay.opaque", b"y");
    made.file(directory, b"!", b"");
    let gone = made.whiteout(Tree::ROOT, b"gone");
    // Overlayfs makes whiteouts that are one inode.
    made.link(Tree::ROOT, b"gone too", gone);
    *made.metadata(gone) = Metadata { mode: 0o600, uid: 5, gid: 6, ..Metadata::default() };
    made.metadata(gone).mtime.seconds = 7;
    let expected = ["./", "d/", "d/.wh..wh..opq", "d/!", ".wh.gone", ".wh.gone too"];
    assert_eq!(names(&made.archive()), expected);
    assert_eq!(
        list(&made.archive()),
        ["/ d0755", "/d d0644 opaque", "/d/! f0644 \"\"", "/gone c0000 0:0", "/gone too c0000 0:0"]
    );
}

#[test]
fn whiteouts_by_attribute_are_written_as_whiteouts() {
    let mut made = Made::new();
    let directory = made.directory(Tree::ROOT, b"d");
    made.xattr(directory, b"trusted.overlay.opaque", b"x");
    for parent in [directory, Tree::ROOT] {
        let file = made.file(parent, b"f", b"");
        made.xattr(file, b"trusted.overlay.whiteout", b"y");
    }
    // Without the directory's mark the attribute means nothing to overlayfs.
    assert_eq!(names(&made.archive()), ["./", "d/", "d/.wh.f", "f"]);
}

#[test]
fn marks_of_overlayfs_never_get_into_an_archive() {
    let mut made = Made::new();
    let file = made.file(Tree::ROOT, b"f", b"");
    for name in ["origin", "impure", "nlink", "overlay.opaque"] {
        made.xattr(file, format!("trusted.overlay.{name}").as_bytes(), b"value");
    }
    made.xattr(file, b"trusted.other", b"kept");
    let archive = made.archive();
    assert!(!archive.windows(8).any(|window| window == b".overlay"));
    assert_eq!(list(&archive), ["/ d0755", "/f f0644 \"\" trusted.other=kept"]);
}

#[test]
fn what_another_layer_completes_is_refused() {
    for (xattr, is_directory) in [
        ("trusted.overlay.redirect", true),
        ("trusted.overlay.redirect", false),
        ("trusted.overlay.metacopy", false),
    ] {
        let mut made = Made::new();
        let id =
            if is_directory { made.directory(Tree::ROOT, b"x") } else { made.file(Tree::ROOT, b"x", b"") };
        made.xattr(id, xattr.as_bytes(), b"/y");
        assert!(made.refusal().contains(xattr), "{}", made.refusal());
    }
}

#[test]
fn names_that_would_be_whiteouts_are_refused() {
    let mut made = Made::new();
    made.file(Tree::ROOT, b".wh.real", b"");
    assert!(made.refusal().contains("\".wh.real\""), "{}", made.refusal());
}

#[test]
fn links_share_the_inode_of_the_first_name() {
    let mut made = Made::new();
    let directory = made.directory(Tree::ROOT, b"a");
    let file = made.file(Tree::ROOT, b"z", b"data");
    made.link(directory, b"first", file);
    made.xattr(file, b"security.capability", &[1, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let fifo = made.add(directory, b"fifo", Node::Fifo);
    made.link(Tree::ROOT, b"fifo", fifo);
    let listing = list(&made.archive());
    assert_eq!(listing[1..3], ["/a d0644", "/a/fifo p0644"]);
    assert!(listing[3].starts_with("/a/first f0644 \"data\" security.capability="), "{listing:?}");
    assert_eq!(listing[4..], ["/fifo = /a/fifo", "/z = /a/first"]);
}

#[test]
fn what_a_header_cannot_say_goes_into_records() {
    let mut made = Made::new();
    let long = [b'n'; 255];
    let (mut directory, mut path) = (Tree::ROOT, String::new());
    for _ in 0..3 {
        directory = made.directory(directory, &long);
        path += &format!("/{}", "n".repeat(255));
    }
    let file = made.file(directory, b"\xff=\n\xc3\xa9", b"data");
    *made.metadata(file) = Metadata {
        mode: 0o6711,
        uid: 4_294_967_294,
        gid: 2_097_152,
        mtime: Timestamp { seconds: -2, nanoseconds: 500_000_000 },
        xattrs: [(b"user.\xff\n".to_vec(), b"a=b\n\0".to_vec()), (b"user.empty".to_vec(), Vec::new())].into(),
    };
    let listing = list(&made.archive());
    let expected = format!(
        "{path}/\\xff=\\n\\xc3\\xa9 f6711 4294967294:2097152 @-2.500000000 \"data\" user.empty= user.\\xff\\n=a=b\\n\\x00"
    );
    assert_eq!(listing.last(), Some(&expected));
}

#[test]
fn attributes_whose_names_no_record_holds_are_refused() {
    let mut made = Made::new();
    let file = made.file(Tree::ROOT, b"f", b"");
    made.xattr(file, b"user.a=b", b"");
    assert!(made.refusal().contains("user.a=b"), "{}", made.refusal());
}

#[test]
fn devices_beyond_linux_are_refused() {
    for (major, minor) in [(4096, 0), (0, 1_048_576)] {
        let mut made = Made::new();
        made.add(Tree::ROOT, b"d", Node::BlockDevice(DeviceNumber { major, minor }));
        assert!(made.refusal().contains(&format!("{major}:{minor}")), "{}", made.refusal());
    }
}

#[test]
fn sockets_are_left_out() {
    let mut made = Made::new();
    made.add(Tree::ROOT, b"socket", Node::Socket);
    let (archive, summary) = made.write(&Options::default()).unwrap();
    assert_eq!((names(&archive), summary), (vec!["./".to_owned()], Summary { entries: 1, sockets: 1 }));
}

#[test]
fn no_time_is_later_than_the_epoch_of_the_source() {
    let mut made = Made::new();
    for (name, seconds) in [("early", 999), ("late", 1001)] {
        let file = made.file(Tree::ROOT, name.as_bytes(), b"");
        made.metadata(file).mtime = Timestamp { seconds, nanoseconds: 1 };
    }
    made.whiteout(Tree::ROOT, b"gone");
    let epoch = Timestamp { seconds: 1000, nanoseconds: 0 };
    let (archive, _) = made.write(&Options { source_date_epoch: Some(epoch) }).unwrap();
    assert_eq!(
        list(&archive)[1..],
        [
            "/early f0644 @999.000000001 \"\"",
            "/gone c0000 @1000.000000000 0:0",
            "/late f0644 @1000.000000000 \"\"",
        ]
    );
}

#[test]
fn a_file_that_became_shorter_is_an_error() {
    let mut made = Made::new();
    let file = made.file(Tree::ROOT, b"f", b"data");
    made.data.insert(file, b"dat".to_vec());
    assert!(made.refusal().contains("shorter than 4 bytes"), "{}", made.refusal());
    // One that grew is taken as it was.
    made.data.insert(file, b"data and more".to_vec());
    assert_eq!(list(&made.archive())[1], "/f f0644 \"data\"");
}

#[test]
fn a_tree_can_be_deeper_than_a_stack() {
    let mut made = Made::new();
    let mut directory = Tree::ROOT;
    for _ in 0..2000 {
        directory = made.directory(directory, b"d");
    }
    made.file(directory, b"f", b"deep");
    let listing = list(&made.archive());
    assert_eq!(listing.len(), 2002);
    assert!(listing[2001].ends_with("/d/f f0644 \"deep\""));
}
