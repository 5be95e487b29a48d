//! Trees that no reader of ours makes: refused with a path, or stored so that they can be read.

use std::collections::BTreeMap;

use erofs_rs::EroFS;
use erofs_rs::backend::SliceImage;
use nexuserofs::image::erofs::{Error, Writer};
use nexuserofs::image::tree::{
    BlockSink as _, DeviceNumber, Directory, Extent, FileData, Inode, InodeId, Metadata, Node, Timestamp,
    Tree,
};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_weird_tree_is_refused_or_readable(tree in any_tree()) {
        let mut image = Vec::new();
        let mut writer = Writer::new(&mut image);
        writer.append(&[7; 10 * 4096]).unwrap();
        match writer.finish(&tree, [0; 16]) {
            Ok(summary) => {
                let fs = EroFS::new(SliceImage::new(&image)).unwrap();
                let entries = fs.walk_dir("/").unwrap().map(Result::unwrap).count() as u64;
                prop_assert!(entries + 1 >= summary.inodes);
            }
            Err(Error::Unrepresentable { path, .. }) => prop_assert!(path.to_string().starts_with('/')),
            Err(other) => prop_assert!(false, "{other}"),
        }
    }
}

fn any_tree() -> impl Strategy<Value = Tree> {
    prop::collection::vec(any_inode(), 0..6).prop_map(|inodes| Tree { inodes })
}

fn any_inode() -> impl Strategy<Value = Inode> {
    let seconds = prop_oneof![Just(i64::MIN), Just(i64::MAX), any::<i64>()];
    let nanoseconds = prop_oneof![50 => 0..1_000_000_000_u32, 1 => any::<u32>()];
    let mtime = (seconds, nanoseconds).prop_map(|(seconds, nanoseconds)| Timestamp { seconds, nanoseconds });
    let mode = prop_oneof![50 => 0..=0o7777_u16, 1 => any::<u16>()];
    let metadata = (mode, mtime, any_xattrs()).prop_map(|(mode, mtime, xattrs)| Metadata {
        mode,
        uid: u32::MAX,
        gid: u32::MAX,
        mtime,
        xattrs,
    });
    (metadata, any_node()).prop_map(|(metadata, node)| Inode { metadata, node })
}

fn any_xattrs() -> impl Strategy<Value = BTreeMap<Vec<u8>, Vec<u8>>> {
    let name = prop_oneof![
        20 => Just(b"user.x".to_vec()),
        20 => prop::collection::vec(b'a'..b'd', 1..240).prop_map(|suffix| [b"trusted.".as_slice(), &suffix].concat()),
        1 => prop::collection::vec(any::<u8>(), 0..300),
        1 => Just(b"security.".to_vec()),
    ];
    let value = prop_oneof![10 => 0..3000_usize, 1 => 65_000..66_000_usize].prop_map(|size| vec![3; size]);
    prop::collection::btree_map(name, value, 0..3)
}

fn any_node() -> impl Strategy<Value = Node> {
    let device = (prop_oneof![0..5000_u32, any::<u32>()], 0..1_100_000_u32)
        .prop_map(|(major, minor)| Node::CharacterDevice(DeviceNumber { major, minor }));
    prop_oneof![
        6 => any_directory(),
        4 => any_file(),
        1 => prop::collection::vec(0..3_u8, 0..3).prop_map(Node::Symlink),
        1 => (4000..4200_usize).prop_map(|size| Node::Symlink(vec![b'l'; size])),
        1 => device,
        1 => Just(Node::Fifo),
    ]
}

fn any_directory() -> impl Strategy<Value = Node> {
    let name = prop_oneof![
        30 => prop::collection::vec(b'a'..b'f', 1..3),
        5 => (250..258_usize).prop_map(|size| vec![b'n'; size]),
        1 => prop_oneof![Just(b"".to_vec()), Just(b".".to_vec()), Just(b"..".to_vec()), Just(b"a/b".to_vec())],
    ];
    prop::collection::btree_map(name, (0..7_u32).prop_map(InodeId), 0..4)
        .prop_map(|entries| Node::Directory(Directory { entries }))
}

fn any_file() -> impl Strategy<Value = Node> {
    let number = || prop_oneof![20 => 0..12_u64, 1 => any::<u64>()];
    let extent = (number(), 0..12_u32, 0..5_u32).prop_map(|(file_block, image_block, blocks)| Extent {
        file_block,
        image_block,
        blocks,
    });
    let size = prop_oneof![10 => 0..50_000_u64, 1 => any::<u64>()];
    (size, prop::collection::vec(extent, 0..3)).prop_map(|(size, mut extents)| {
        if size % 2 == 0 {
            extents.sort_by_key(|extent| extent.file_block);
        }
        Node::Regular(FileData { size, extents })
    })
}
