//! Random samples, for properties.

use std::collections::BTreeMap;

use nexuserofs::image::tree::{BLOCK_SIZE, DeviceNumber, InodeId, Metadata, Node, Timestamp, Tree};
use proptest::prelude::*;
use proptest::sample::Index;

use crate::sample::{Run, Sample, bytes};

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
        .prop_filter("dots and whiteouts are no names", |name: &Vec<u8>| {
            !matches!(name.as_slice(), b"." | b"..") && !name.starts_with(b".wh.")
        })
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
