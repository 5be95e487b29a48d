//! Layers over one another: small trees with few names, so that they meet.

use nexuserofs::image::erofs::read::{Image, Limits};
use nexuserofs::image::merged::{self, Layer};
use nexuserofs::image::tar::XATTR_OPAQUE;
use nexuserofs::image::tree::{DeviceNumber, InodeId, Node, Timestamp, Tree};
use proptest::prelude::*;
use proptest::sample::Index;

use crate::sample::{Run, Sample, bytes, metadata};

/// Images of layers, the oldest first.
pub(crate) type Stack = Vec<Vec<u8>>;

/// The merged image of layers.
pub(crate) fn merge(stack: &[Vec<u8>]) -> Result<Vec<u8>, merged::Error> {
    let images: Vec<_> =
        stack.iter().map(|bytes| Image::open(bytes.as_slice(), &Limits::default()).unwrap()).collect();
    let layers: Result<Vec<_>, _> =
        images.iter().zip(stack).map(|(image, bytes)| Layer::new(image, bytes.len() as u64)).collect();
    let mut merged = Vec::new();
    let summary = merged::write(&layers?, &mut merged)?;
    assert_eq!(u64::from(summary.blocks) * 4096, merged.len() as u64);
    Ok(merged)
}

/// What a layer does.
#[derive(Clone, Debug)]
enum Step {
    Directory {
        opaque: bool,
    },
    File {
        size: usize,
    },
    /// Data in the blocks that are set, of so many.
    Sparse {
        blocks: u64,
        data: Vec<u64>,
    },
    Symlink {
        length: usize,
    },
    Fifo,
    Device,
    Whiteout,
    HardLink(Index),
}

#[derive(Clone, Debug)]
struct Placed {
    parent: Index,
    name: u8,
    mode: u16,
    seconds: i64,
    xattr: Option<(u8, usize)>,
    step: Step,
}

/// Stacks of one to six layers.
pub(crate) fn any_stack() -> impl Strategy<Value = Stack> {
    prop::collection::vec(any_layer(), 1..7)
}

fn any_layer() -> impl Strategy<Value = Vec<u8>> {
    (prop::collection::vec(any_placed(), 0..25), any::<bool>()).prop_map(|(steps, opaque_root)| {
        let mut sample = Sample::new();
        // Overlayfs pays no heed to it.
        if opaque_root {
            set_opaque(&mut sample, Tree::ROOT);
        }
        let (mut directories, mut others) = (vec![Tree::ROOT], Vec::new());
        for placed in &steps {
            apply(&mut sample, placed, &mut directories, &mut others);
        }
        sample.image()
    })
}

fn any_placed() -> impl Strategy<Value = Placed> {
    let xattr = prop::option::weighted(0.2, (b'a'..b'c', prop_oneof![0..9_usize, Just(3000)]));
    (any::<Index>(), b'a'..b'f', 0..=0o7777_u16, 0..1_i64 << 33, xattr, any_step()).prop_map(
        |(parent, name, mode, seconds, xattr, step)| Placed { parent, name, mode, seconds, xattr, step },
    )
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop::bool::weighted(0.2).prop_map(|opaque| Step::Directory { opaque }),
        4 => prop_oneof![Just(0_usize), 1..9000_usize].prop_map(|size| Step::File { size }),
        2 => (1..40_u64, prop::collection::vec(0..40_u64, 0..6))
            .prop_map(|(blocks, data)| Step::Sparse { blocks, data }),
        1 => prop_oneof![1..20_usize, Just(4090)].prop_map(|length| Step::Symlink { length }),
        1 => Just(Step::Fifo),
        1 => Just(Step::Device),
        3 => Just(Step::Whiteout),
        2 => any::<Index>().prop_map(Step::HardLink),
    ]
}

fn apply(sample: &mut Sample, placed: &Placed, directories: &mut Vec<InodeId>, others: &mut Vec<InodeId>) {
    let parent = *placed.parent.get(directories);
    let name = [placed.name];
    let Node::Directory(listed) = &sample.tree.inode(parent).node else { return };
    if listed.entries.contains_key(name.as_slice()) {
        return;
    }
    let mut metadata = metadata(placed.mode);
    metadata.mtime = Timestamp { seconds: placed.seconds, nanoseconds: 7 };
    let id = match &placed.step {
        Step::Directory { opaque } => {
            let id = sample.directory(parent, &name, metadata);
            directories.push(id);
            if *opaque {
                set_opaque(sample, id);
            }
            id
        }
        Step::File { size } => sample.file(parent, &name, metadata, &bytes(*size, *size)),
        Step::Sparse { blocks, data } => {
            let mut data: Vec<u64> = data.iter().map(|block| block % blocks).collect();
            data.sort_unstable();
            data.dedup();
            let run = |&file_block: &u64| Run { file_block, bytes: bytes(file_block as usize, 4096) };
            sample.sparse(parent, &name, metadata, blocks * 4096, data.iter().map(run).collect())
        }
        Step::Symlink { length } => sample.add(parent, &name, metadata, Node::Symlink(vec![b't'; *length])),
        Step::Fifo => sample.add(parent, &name, metadata, Node::Fifo),
        Step::Device => {
            let node = Node::BlockDevice(DeviceNumber { major: 7, minor: 300 });
            sample.add(parent, &name, metadata, node)
        }
        Step::Whiteout => {
            let node = Node::CharacterDevice(DeviceNumber::default());
            sample.add(parent, &name, crate::sample::metadata(0), node);
            return;
        }
        Step::HardLink(index) if !others.is_empty() => {
            return sample.link(parent, &name, *index.get(others));
        }
        Step::HardLink(_) => return,
    };
    if !directories.contains(&id) {
        others.push(id);
    }
    if let Some((letter, size)) = placed.xattr {
        sample.set_xattr(id, &format!("trusted.{}", char::from(letter)), &bytes(1, size));
    }
}

pub(crate) fn set_opaque(sample: &mut Sample, directory: InodeId) {
    sample.set_xattr(directory, std::str::from_utf8(XATTR_OPAQUE).unwrap(), b"y");
}

/// A layer of a long chain: it adds, replaces and removes, in a directory of its own and in one that all
/// have.
pub(crate) fn layer_of_chain(number: usize) -> Vec<u8> {
    let mut sample = Sample::new();
    let common = sample.directory(Tree::ROOT, b"common", metadata(0o755));
    let own = sample.directory(Tree::ROOT, format!("layer{number}").as_bytes(), metadata(0o700));
    let name = |what: &str| format!("{what}{}", number % 10).into_bytes();
    sample.file(common, &name("replaced"), metadata(0o644), &bytes(number, 5000));
    sample.file(own, b"file", metadata(0o600), &bytes(number, 12_345));
    let linked = sample.file(common, &format!("added{number}").into_bytes(), metadata(0o640), b"linked");
    sample.link(own, b"link", linked);
    if number % 3 == 2 {
        let node = Node::CharacterDevice(DeviceNumber::default());
        sample.add(common, format!("added{}", number - 1).as_bytes(), metadata(0), node);
    }
    sample.image()
}
