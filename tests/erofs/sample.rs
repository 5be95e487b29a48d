//! Trees with their data, from which images are made.

use std::collections::BTreeMap;

use nexuserofs::image::digest::Digest;
use nexuserofs::image::erofs::{self, Writer};
use nexuserofs::image::tree::{
    BLOCK_SIZE, BlockSink, DeviceNumber, Directory, Extent, FileData, Inode, InodeId, Metadata, Node,
    Timestamp, Tree,
};
use proptest::prelude::*;
use proptest::sample::Index;

/// Data of a file from a block of it on.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) file_block: u64,
    pub(crate) bytes: Vec<u8>,
}

/// A tree and the data of its files.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// Without extents: those depend on the image.
    pub(crate) tree: Tree,
    pub(crate) data: BTreeMap<InodeId, Vec<Run>>,
}

impl Sample {
    pub(crate) fn new() -> Self {
        let root = Inode { metadata: metadata(0o755), node: Node::Directory(Directory::default()) };
        Self { tree: Tree { inodes: vec![root] }, data: BTreeMap::new() }
    }

    pub(crate) fn add(&mut self, parent: InodeId, name: &[u8], metadata: Metadata, node: Node) -> InodeId {
        let id = InodeId(self.tree.inodes.len() as u32);
        self.tree.inodes.push(Inode { metadata, node });
        self.link(parent, name, id);
        id
    }

    pub(crate) fn link(&mut self, parent: InodeId, name: &[u8], id: InodeId) {
        let Node::Directory(directory) = &mut self.tree.inodes[parent.0 as usize].node else {
            panic!("{parent:?} is no directory");
        };
        directory.entries.insert(name.to_vec(), id);
    }

    pub(crate) fn directory(&mut self, parent: InodeId, name: &[u8], metadata: Metadata) -> InodeId {
        self.add(parent, name, metadata, Node::Directory(Directory::default()))
    }

    pub(crate) fn file(&mut self, parent: InodeId, name: &[u8], metadata: Metadata, bytes: &[u8]) -> InodeId {
        let run = Run { file_block: 0, bytes: bytes.to_vec() };
        self.sparse(parent, name, metadata, bytes.len() as u64, vec![run])
    }

    pub(crate) fn sparse(
        &mut self,
        parent: InodeId,
        name: &[u8],
        metadata: Metadata,
        size: u64,
        mut runs: Vec<Run>,
    ) -> InodeId {
        runs.retain(|run| !run.bytes.is_empty());
        let id = self.add(parent, name, metadata, Node::Regular(FileData { size, extents: Vec::new() }));
        self.data.insert(id, runs);
        id
    }

    pub(crate) fn device(&mut self, name: &[u8], major: u32, minor: u32) -> InodeId {
        let node = Node::CharacterDevice(DeviceNumber { major, minor });
        self.add(Tree::ROOT, name, metadata(0o600), node)
    }

    pub(crate) fn set_xattr(&mut self, id: InodeId, name: &str, value: &[u8]) {
        self.tree.inodes[id.0 as usize].metadata.xattrs.insert(name.into(), value.into());
    }

    /// The image of the tree, data in the order of inode ids.
    pub(crate) fn image(&self) -> Vec<u8> {
        let mut image = Vec::new();
        let mut writer = Writer::new(&mut image);
        let mut tree = self.tree.clone();
        for (id, runs) in &self.data {
            let Node::Regular(data) = &mut tree.inodes[id.0 as usize].node else {
                panic!("{id:?} is no file");
            };
            for run in runs {
                let image_block = writer.next_block();
                writer.append(&run.bytes).unwrap();
                writer.align().unwrap();
                let blocks = (run.bytes.len() as u64).div_ceil(BLOCK_SIZE) as u32;
                data.extents.push(Extent { file_block: run.file_block, image_block, blocks });
            }
        }
        let summary = writer.finish(&tree, erofs::uuid(&Digest::of(b"sample"))).unwrap();
        assert_eq!(u64::from(summary.blocks) * BLOCK_SIZE, image.len() as u64);
        image
    }

    /// What reading `length` bytes at `offset` of a file gives.
    pub(crate) fn expected(&self, id: InodeId, offset: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        for run in &self.data[&id] {
            let start = run.file_block * BLOCK_SIZE;
            for (position, byte) in (start..).zip(&run.bytes) {
                if let Some(place) = position.checked_sub(offset).filter(|&place| place < length as u64) {
                    bytes[place as usize] = *byte;
                }
            }
        }
        bytes
    }
}

/// Metadata with this mode and otherwise zeros.
pub(crate) fn metadata(mode: u16) -> Metadata {
    Metadata { mode, ..Metadata::default() }
}

/// `size` bytes that do not repeat with the block.
pub(crate) fn bytes(seed: usize, size: usize) -> Vec<u8> {
    (0..size).map(|i| ((seed + i) % 251) as u8).collect()
}

/// One of everything that a kernel lets through as it is. Its image has a golden digest, so that it
/// stays as it is.
pub(crate) fn everything() -> Sample {
    let mut sample = Sample::new();
    let root = Tree::ROOT;
    sample.tree.inodes[0].metadata =
        Metadata { mtime: Timestamp { seconds: 1_700_000_000, nanoseconds: 1 }, ..metadata(0o1777) };
    types(&mut sample);
    sparse_files(&mut sample);
    xattrs(&mut sample);
    let many = sample.directory(root, b"many", metadata(0o755));
    for i in 0..700 {
        sample.add(many, format!("{i:0255}").as_bytes(), metadata(0o644), Node::Fifo);
    }
    // 27 bytes of dots, 15 entries of 267 bytes and one of 64 fill a block.
    let full = sample.directory(root, b"full block", metadata(0o755));
    for i in 0..15 {
        sample.add(full, format!("{i:0255}").as_bytes(), metadata(0o644), Node::Fifo);
    }
    sample.add(full, &[b'x'; 52], metadata(0o644), Node::Fifo);
    let empty = sample.directory(root, b"-empty", metadata(0o000));
    sample.directory(empty, b"\xff\xfe\x01", metadata(0o755));
    sample
}

fn types(sample: &mut Sample) {
    let root = Tree::ROOT;
    let owner = Metadata {
        uid: 4_000_000_000,
        gid: 70_000,
        mtime: Timestamp { seconds: -86_400, nanoseconds: 999_999_999 },
        ..metadata(0o4755)
    };
    let hello = sample.file(root, b"hello", owner.clone(), b"hello, world\n");
    sample.file(root, b"nothing", metadata(0o000), b"");
    sample.file(root, b"block", metadata(0o644), &bytes(1, 4096));
    sample.file(root, b"blocks", metadata(0o644), &bytes(2, 3 * 4096 + 1));
    let directory = sample.directory(root, b"directory", metadata(0o2750));
    sample.link(directory, b"hello again", hello);
    sample.link(root, b"hello too", hello);
    sample.add(root, b"link", owner.clone(), Node::Symlink(b"directory/../hello".to_vec()));
    sample.add(directory, b"long link", metadata(0o777), Node::Symlink(vec![b'l'; 4095]));
    // With its inode, just a block, and one byte too much.
    for length in [4032, 4033] {
        let node = Node::Symlink(vec![b'm'; length]);
        sample.add(directory, length.to_string().as_bytes(), metadata(0o777), node);
    }
    sample.add(root, b"fifo", owner.clone(), Node::Fifo);
    sample.add(root, b"socket", owner, Node::Socket);
    sample.device(b"null", 1, 3);
    sample.device(b"whiteout", 0, 0);
    let large = DeviceNumber { major: 0xfff, minor: 0xf_ffff };
    sample.add(root, b"disk", metadata(0o660), Node::BlockDevice(large));
}

fn sparse_files(sample: &mut Sample) {
    let root = Tree::ROOT;
    let directory = sample.directory(root, b"sparse", metadata(0o755));
    let run = |file_block, size| Run { file_block, bytes: bytes(file_block as usize, size) };
    sample.sparse(directory, b"hole", metadata(0o644), 3 << 20, vec![]);
    sample.sparse(directory, b"front", metadata(0o644), 1_000_000, vec![run(0, 4096)]);
    sample.sparse(directory, b"back", metadata(0o644), 100 * 4096 + 17, vec![run(100, 17)]);
    sample.sparse(directory, b"holes", metadata(0o644), 64 * 4096, vec![run(8, 4 * 4096), run(32, 8 * 4096)]);
    sample.sparse(directory, b"tebibyte", metadata(0o644), 1 << 40, vec![run(1 << 20, 1 << 20)]);
}

fn xattrs(sample: &mut Sample) {
    let root = Tree::ROOT;
    let directory = sample.directory(root, b"xattrs", metadata(0o755));
    for i in 0..3 {
        let id = sample.file(directory, format!("shared{i}").as_bytes(), metadata(0o644), b"x");
        sample.set_xattr(id, "security.selinux", b"system_u:object_r:etc_t:s0\0");
        sample.set_xattr(id, "user.own", format!("value {i}").as_bytes());
        sample.set_xattr(id, "user.e", b"");
    }
    let id = sample.file(directory, b"capability", metadata(0o755), b"x");
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    sample.set_xattr(id, "security.capability", &capability);
    let id = sample.directory(directory, b"acl", metadata(0o775));
    sample.set_xattr(id, "system.posix_acl_access", &ACL);
    sample.set_xattr(id, "system.posix_acl_default", &ACL);
    let id = sample.file(directory, b"large", metadata(0o644), b"x");
    sample.set_xattr(id, "user.60k", &bytes(5, 60 << 10));
    sample.set_xattr(id, "trusted.64k", &bytes(6, 65535));
    sample.set_xattr(id, &format!("user.{}", "n".repeat(250)), b"long name");
    let id = sample.directory(directory, b"inline", metadata(0o755));
    for i in 0..12 {
        sample.set_xattr(id, &format!("trusted.inline{i}"), &bytes(i, 900));
    }
    let id = sample.directory(directory, b"opaque", metadata(0o755));
    sample.set_xattr(id, "trusted.overlay.opaque", b"y");
}

/// `user::rwx user:1000:rwx group::r-x mask::rwx other::r-x` as `system.posix_acl_*` has it.
const ACL: [u8; 44] = [
    2, 0, 0, 0, //
    1, 0, 7, 0, 255, 255, 255, 255, //
    2, 0, 7, 0, 232, 3, 0, 0, //
    4, 0, 5, 0, 255, 255, 255, 255, //
    16, 0, 7, 0, 255, 255, 255, 255, //
    32, 0, 5, 0, 255, 255, 255, 255,
];

/// Random trees, of what the kernel accepts.
pub(crate) fn any_sample() -> impl Strategy<Value = Sample> {
    prop::collection::vec(any_step(), 0..60).prop_map(|steps| {
        let mut sample = Sample::new();
        let mut directories = vec![Tree::ROOT];
        let mut others = Vec::new();
        for Step { parent, name, metadata, what } in steps {
            let parent = *parent.get(&directories);
            if is_taken(&sample.tree, parent, &name) {
                continue;
            }
            match what {
                What::Directory => directories.push(sample.directory(parent, &name, metadata)),
                What::File(size, runs) => others.push(sample.sparse(parent, &name, metadata, size, runs)),
                What::Other(node) => {
                    others.push(sample.add(parent, &name, without_user_xattrs(metadata), node))
                }
                What::Link(index) if !others.is_empty() => sample.link(parent, &name, *index.get(&others)),
                What::Link(_) => {}
            }
        }
        sample
    })
}

#[derive(Clone, Debug)]
struct Step {
    parent: Index,
    name: Vec<u8>,
    metadata: Metadata,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    Directory,
    File(u64, Vec<Run>),
    Other(Node),
    Link(Index),
}

fn is_taken(tree: &Tree, parent: InodeId, name: &[u8]) -> bool {
    matches!(&tree.inode(parent).node, Node::Directory(directory) if directory.entries.contains_key(name))
}

/// The kernel keeps `user.*` from all but files and directories.
fn without_user_xattrs(mut metadata: Metadata) -> Metadata {
    metadata.xattrs.retain(|name, _| !name.starts_with(b"user."));
    metadata
}

fn any_step() -> impl Strategy<Value = Step> {
    (any::<Index>(), any_name(), any_metadata(), any_what()).prop_map(|(parent, name, metadata, what)| Step {
        parent,
        name,
        metadata,
        what,
    })
}

fn any_name() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![4 => Just(b'.'), 4 => b'-'..=b'0', 8 => any::<u8>()];
    let length = prop_oneof![8 => 1..6usize, 1 => 200..=255usize];
    length
        .prop_flat_map(move |length| prop::collection::vec(byte.clone(), length))
        .prop_map(|name| {
            name.into_iter().map(|byte| if matches!(byte, 0 | b'/') { b'x' } else { byte }).collect()
        })
        .prop_filter("dots are no names", |name: &Vec<u8>| !matches!(name.as_slice(), b"." | b".."))
}

fn any_metadata() -> impl Strategy<Value = Metadata> {
    // Times within what every kernel keeps; the extremes have a test of their own.
    let mtime = (-(1_i64 << 33)..1 << 33, 0..1_000_000_000_u32)
        .prop_map(|(seconds, nanoseconds)| Timestamp { seconds, nanoseconds });
    (0..=0o7777_u16, any::<u32>(), any::<u32>(), mtime, any_xattrs())
        .prop_map(|(mode, uid, gid, mtime, xattrs)| Metadata { mode, uid, gid, mtime, xattrs })
}

fn any_xattrs() -> impl Strategy<Value = BTreeMap<Vec<u8>, Vec<u8>>> {
    let name = prop_oneof![
        Just("security.selinux".to_owned()),
        "(user|trusted)\\.[a-c]",
        "(user|trusted)\\.[a-z]{1,40}",
    ];
    let size = prop_oneof![8 => 0..3_usize, 2 => 0..2000_usize, 1 => 4000..20_000_usize];
    let value = (0..3_usize, size).prop_map(|(seed, size)| bytes(seed, size));
    prop_oneof![
        3 => Just(BTreeMap::new()),
        1 => prop::collection::btree_map(name.prop_map(String::into_bytes), value, 0..6),
    ]
}

fn any_what() -> impl Strategy<Value = What> {
    let device = (0..=0xfff_u32, 0..=0xf_ffff_u32).prop_map(|(major, minor)| DeviceNumber { major, minor });
    let target = prop_oneof![8 => 1..30usize, 1 => 3000..=4095usize].prop_map(|length| bytes(1, length));
    prop_oneof![
        4 => Just(What::Directory),
        4 => any_file(),
        2 => any::<Index>().prop_map(What::Link),
        1 => target.prop_map(|target| What::Other(Node::Symlink(target.into_iter().map(|b| b | 1).collect()))),
        1 => device.clone().prop_map(|number| What::Other(Node::CharacterDevice(number))),
        1 => device.prop_map(|number| What::Other(Node::BlockDevice(number))),
        1 => Just(What::Other(Node::Fifo)),
        1 => Just(What::Other(Node::Socket)),
    ]
}

/// A file of blocks that are data or hole, the last one cut short.
fn any_file() -> impl Strategy<Value = What> {
    let blocks = prop_oneof![
        Just(vec![]),
        prop::collection::vec(Just(true), 1..6),
        prop::collection::vec(any::<bool>(), 1..40),
    ];
    (blocks, 1..=BLOCK_SIZE as usize, any::<u8>()).prop_map(|(blocks, last, seed)| {
        let size = (blocks.len() * BLOCK_SIZE as usize).saturating_sub(BLOCK_SIZE as usize - last);
        let mut runs: Vec<Run> = Vec::new();
        for (index, _) in blocks.iter().enumerate().filter(|(_, is_data)| **is_data) {
            let start = index * BLOCK_SIZE as usize;
            let bytes = bytes(usize::from(seed) + start, (size - start).min(BLOCK_SIZE as usize));
            runs.push(Run { file_block: index as u64, bytes });
        }
        What::File(size as u64, runs)
    })
}
