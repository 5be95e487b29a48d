use std::io;
use std::num::NonZeroU64;

use nexuserofs_guest::verity::{BlockSize, Fields, Parameters, RootDigest, Salt};
use proptest::prelude::*;
use uuid::Uuid;

use super::*;

const BLOCK: usize = 4096;
const UUID: [u8; 16] =
    [0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff];

/// Blocks of which each holds nothing but its own number, as 32-bit integers.
fn numbered(blocks: u32) -> Vec<u8> {
    (0..blocks).flat_map(|block| block.to_le_bytes().repeat(BLOCK / 4)).collect()
}

fn geometry(blocks: u64) -> Geometry {
    Geometry::new(NonZeroU64::new(blocks).unwrap()).unwrap()
}

fn tree(image: &[u8]) -> Tree {
    Leaves::of(&mut &*image).unwrap().into_tree((image.len() / BLOCK) as u64).unwrap()
}

/// The file of an image with its tree.
fn sealed(image: &[u8]) -> (Vec<u8>, Tree) {
    let (tree, mut file) = (tree(image), image.to_vec());
    tree.write(UUID, &mut file).unwrap();
    (file, tree)
}

fn fields(geometry: Geometry, root: Digest) -> Fields {
    Fields {
        root_digest: RootDigest::Sha256(*root.as_bytes()),
        salt: Salt::zeros(),
        data_block_size: BlockSize::PAGE,
        hash_block_size: BlockSize::PAGE,
        data_blocks: geometry.data_blocks(),
        hash_start_block: geometry.hash_start_block(),
    }
}

fn parameters(geometry: Geometry, root: Digest) -> Parameters {
    Parameters::new(fields(geometry, root)).unwrap()
}

fn damage(file: &[u8], tree: &Tree) -> Vec<Damage> {
    let mut found = Vec::new();
    verify(file, &parameters(tree.geometry(), tree.root()), &mut |damage| found.push(damage)).unwrap();
    found
}

/// Number of blocks, root hash, and digest of the file, as veritysetup 2.8 made them of these blocks:
/// `veritysetup format --salt=00…00 --uuid=00112233-4455-6677-8899-aabbccddeeff --data-blocks=N
/// --hash-offset=$((N * 4096)) FILE FILE`.
const GOLDEN: [(u32, &str, &str); 6] = [
    (
        1,
        "2e534ef0107d592d1706ac38ad58596b85ef3375d360a6d669f974792df5cb5a",
        "e52f71ccd1dd8444c003aa0383255eea8a015eb0e779e654c4a81681188ac758",
    ),
    (
        2,
        "1a5d1cdc4169b8fa5e57fbc4891ca3c1d90e5287014c42cc95609b6793900bf5",
        "a648b4bde57e3dc761493262c1d217aaee18189c6e665380b2823f237b682ce7",
    ),
    (
        128,
        "e05acccca9a8377c08df3c55ab647d4e25197ce6d1884f9b5a4c0583a60a74a0",
        "fe2a8eba385ee3f4e7de74985598d9880198da8ddaa7b553a5f9cb2c30163cda",
    ),
    (
        129,
        "666f334a35e4d664a25c98c8fa88102f2581df8860ab815413856a9381674dc0",
        "b604c734ccb68600c7a2ae851b372a6376b57f8d1dcbb4add41df3371305f231",
    ),
    (
        16384,
        "8aca9849aee2b79b83584f026801d927f5b6629df4c09a60953c31cf29a83a70",
        "9fca0352e55bd1f580b4a06fc7374324f69e1689baaa0cdaf013b413411ea0a2",
    ),
    (
        16385,
        "435d20a91266e80db405a3cb263455febd800f8eb3b8b835fb743f64e9b480e4",
        "01e69162b7dc9e8550ee0bb8c83bb7f2b2ee25b73c82b1fb0e63c9c1a090bd04",
    ),
];

#[test]
fn trees_are_those_of_veritysetup() {
    for (blocks, root, digest) in GOLDEN {
        let (file, tree) = sealed(&numbered(blocks));
        assert_eq!(tree.root().hex(), root, "{blocks} blocks");
        assert_eq!(Digest::of(&file).hex(), digest, "{blocks} blocks");
        assert_eq!(file.len() as u64, tree.geometry().file_size(), "{blocks} blocks");
    }
}

#[test]
fn blocks_hashed_together_have_the_digests_that_they_have_alone() {
    let image = numbered(200);
    let alone = BlockHash::new();
    let expected: Vec<_> = image.chunks(BLOCK).map(|block| alone.digest(block)).collect();
    for blocks in 0..=200 {
        let mut leaves = Leaves::default();
        leaves.write(0, &image[..blocks * BLOCK]).unwrap();
        assert_eq!(leaves.digests(), &expected[..blocks], "{blocks} blocks");
    }
}

#[test]
fn the_order_of_writes_makes_no_difference() {
    let image = numbered(300);
    let mut leaves = Leaves::default();
    for block in (0..300).rev() {
        leaves.write(block * 4096, &image[block as usize * BLOCK..][..BLOCK]).unwrap();
    }
    // What is written again counts as it was written last.
    leaves.write(0, &[1; 3 * BLOCK]).unwrap();
    leaves.write(0, &image[..3 * BLOCK]).unwrap();
    assert_eq!(leaves.into_tree(300).unwrap(), tree(&image));
}

#[test]
fn a_tree_of_known_digests_is_the_same() {
    let image = numbered(200);
    let digests = Leaves::of(&mut &*image).unwrap().digests().to_vec();
    assert_eq!(Leaves::from_digests(digests).into_tree(200).unwrap(), tree(&image));
}

#[test]
fn an_image_with_a_gap_has_no_tree() {
    let block = [1; BLOCK];
    let written = |blocks: &[u64]| {
        let mut leaves = Leaves::default();
        blocks.iter().for_each(|number| leaves.write(number * 4096, &block).unwrap());
        leaves
    };
    assert!(matches!(written(&[0, 2]).into_tree(3), Err(leaves::Error::Missing { block: 1 })));
    assert!(matches!(written(&[1]).into_tree(2), Err(leaves::Error::Missing { block: 0 })));
    assert!(matches!(written(&[0]).into_tree(2), Err(leaves::Error::Missing { block: 1 })));
    assert!(matches!(written(&[]).into_tree(0), Err(leaves::Error::Empty)));
    assert!(written(&[0, 1]).into_tree(1).is_err(), "more than the image has");
}

#[test]
fn what_is_not_whole_blocks_is_refused() {
    let mut leaves = Leaves::default();
    assert!(matches!(leaves.write(1, &[0; BLOCK]), Err(leaves::Error::Unaligned { offset: 1, .. })));
    assert!(matches!(leaves.write(0, &[0; 5]), Err(leaves::Error::Unaligned { length: 5, .. })));
    let cut = Leaves::of(&mut &[0; BLOCK + 7][..]);
    assert!(matches!(cut, Err(leaves::Error::Unaligned { .. })));
}

#[test]
fn a_failed_read_says_where() {
    struct Broken(u64);
    impl io::Read for Broken {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = buffer.len().min(self.0 as usize);
            self.0 -= length as u64;
            if length == 0 { Err(io::ErrorKind::Other.into()) } else { Ok(length) }
        }
    }
    let error = Leaves::of(&mut Broken(1 << 18)).unwrap_err();
    assert!(matches!(error, leaves::Error::Read { offset: 0x40000, .. }), "{error}");
}

#[test]
fn a_geometry_knows_its_place_and_size() {
    for (blocks, sizes) in
        [(1, vec![]), (2, vec![1]), (128, vec![1]), (129, vec![2, 1]), (16385, vec![129, 2, 1])]
    {
        let levels = geometry(blocks).levels();
        assert_eq!(levels.iter().map(|level| level.blocks).collect::<Vec<_>>(), sizes, "{blocks}");
        let top = levels.last().map_or((blocks + 1) * 4096, |level| level.offset);
        assert_eq!(top, geometry(blocks).hash_start_block() * 4096, "{blocks}");
    }
    assert_eq!(Geometry::new(NonZeroU64::MAX), None);
    let largest = geometry(u64::from(u32::MAX));
    assert_eq!(largest.levels().len(), 5);
}

#[test]
fn a_whole_file_has_no_damage() {
    for blocks in [1, 2, 129, 300] {
        let (file, tree) = sealed(&numbered(blocks));
        assert_eq!(damage(&file, &tree), []);
    }
}

#[test]
fn damage_is_told_by_what_it_hit() {
    let (whole, tree) = sealed(&numbered(16_500));
    let levels = tree.geometry().levels();
    let [lowest, middle, top] = [0, 1, 2].map(|level| levels[level].offset);
    let flipped = |offsets: &[u64]| {
        let mut file = whole.clone();
        offsets.iter().for_each(|&offset| file[offset as usize] ^= 1);
        damage(&file, &tree)
    };
    let data = |offset| Damage::Data { offset };
    let of_tree = |offset| Damage::Tree { offset };
    assert_eq!(flipped(&[5000 * 4096 + 9, 16_499 * 4096]), [data(5000 * 4096), data(16_499 * 4096)]);
    assert_eq!(flipped(&[top + 1]), [of_tree(top)]);
    assert_eq!(flipped(&[middle + 4096]), [of_tree(middle + 4096)]);
    assert_eq!(flipped(&[lowest + 2 * 4096 + 4000]), [of_tree(lowest + 2 * 4096)]);
    // Its own digest in the tree is damaged as well, so its neighbours cannot be told from it.
    let span = 128 * 4096;
    assert_eq!(
        flipped(&[300 * 4096, lowest + 2 * 4096]),
        [of_tree(lowest + 2 * 4096), Damage::Somewhere { offset: 2 * span, length: span }]
    );
    assert_eq!(
        flipped(&[16_499 * 4096, top]),
        [of_tree(top), Damage::Somewhere { offset: 0, length: 16_500 * 4096 }]
    );
    let superblock = flipped(&[tree.geometry().hash_offset() + 72]);
    assert!(matches!(superblock[..], [Damage::Superblock { offset, .. }] if offset == 16_500 * 4096));
}

#[test]
fn another_root_hash_and_a_cut_file_are_noticed() {
    let (file, tree) = sealed(&numbered(3));
    let mut found = Vec::new();
    let other = parameters(tree.geometry(), Digest::of(b"another"));
    verify(file.as_slice(), &other, &mut |damage| found.push(damage)).unwrap();
    assert_eq!(found.len(), 2, "{found:?}");
    let cut = &file[..file.len() - 1];
    let error = verify(cut, &parameters(tree.geometry(), tree.root()), &mut |_| ()).unwrap_err();
    assert!(matches!(error, leaves::Error::Read { .. }));
}

#[test]
fn trees_of_another_form_are_not_mistaken_for_ours() {
    let (file, tree) = sealed(&numbered(3));
    let ours = fields(tree.geometry(), tree.root());
    assert_eq!(Geometry::of(&Parameters::new(ours.clone()).unwrap()), Some((tree.geometry(), tree.root())));
    let others = [
        Fields { salt: Salt::new(&[]).unwrap(), ..ours.clone() },
        Fields { data_block_size: BlockSize::SECTOR, ..ours.clone() },
        Fields { hash_start_block: 3, ..ours.clone() },
        Fields { root_digest: RootDigest::Sha512([0; 64]), ..ours },
    ];
    for other in others {
        let refused = verify(file.as_slice(), &Parameters::new(other).unwrap(), &mut |_| ());
        assert!(matches!(refused, Err(leaves::Error::Form)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_flipped_bit_is_found(blocks in 1_u32..400, place: prop::sample::Index, bit in 0..8) {
        let (mut file, tree) = sealed(&numbered(blocks));
        let byte = place.index(file.len());
        file[byte] ^= 1_u8 << bit;
        let (hash_offset, start) = (tree.geometry().hash_offset(), byte as u64 / 4096 * 4096);
        let found = damage(&file, &tree);
        if start < hash_offset {
            prop_assert_eq!(found, [Damage::Data { offset: start }]);
        } else if start > hash_offset {
            prop_assert_eq!(found, [Damage::Tree { offset: start }]);
        } else if byte as u64 >= hash_offset + 512 {
            prop_assert_eq!(found, [], "what is behind the superblock means nothing");
        } else {
            let superblock = Superblock::parse(&file[hash_offset as usize..]);
            let same = superblock.is_ok_and(|found| found == Superblock::new(found.uuid, tree.geometry()));
            prop_assert_eq!(found.is_empty(), same);
        }
    }

    #[test]
    fn a_superblock_is_parsed_as_it_was_encoded(
        (hash_type, data_blocks) in any::<(u32, u64)>(),
        uuid in any::<[u8; 16]>(),
        algorithm in "[a-z0-9-]{0,32}",
        salt in prop::collection::vec(any::<u8>(), 0..=256),
    ) {
        let superblock = Superblock {
            hash_type, uuid, algorithm, data_block_size: 512, hash_block_size: 1024, data_blocks, salt,
        };
        prop_assert_eq!(Superblock::parse(&superblock.encode()), Ok(superblock));
    }

    #[test]
    fn arbitrary_bytes_are_no_superblock_or_one_that_can_be_written(
        bytes in prop::collection::vec(any::<u8>(), 512),
    ) {
        let mut bytes = bytes;
        bytes[..12].copy_from_slice(b"verity\0\0\x01\0\0\0");
        if let Ok(superblock) = Superblock::parse(&bytes) {
            prop_assert_eq!(Superblock::parse(&superblock.encode()), Ok(superblock));
        }
    }
}

#[test]
fn other_superblocks_are_refused() {
    let block = Superblock::new(UUID, geometry(7)).encode();
    assert_eq!(Superblock::parse(&block[..511]), Err(InvalidSuperblock::TooShort(511)));
    assert_eq!(Superblock::parse(&[0; BLOCK]), Err(InvalidSuperblock::Magic));
    let changed = |offset: usize, value: u8| {
        let mut block = block;
        block[offset] = value;
        Superblock::parse(&block)
    };
    assert_eq!(changed(8, 2), Err(InvalidSuperblock::Version(2)));
    assert_eq!(changed(32, 0xff), Err(InvalidSuperblock::Algorithm));
    assert_eq!(changed(81, 2), Err(InvalidSuperblock::Salt(544)));
}

#[test]
fn uuids_are_derived_as_those_of_images_are() {
    let text = |uuid: [u8; 16]| Uuid::from_bytes(uuid).to_string();
    // python3 -c 'import uuid; print(uuid.uuid5(uuid.NAMESPACE_URL, "urn:nexuserofs:verity:v1:sha256:e3b0…b855"))'
    assert_eq!(text(uuid(&Digest::of(b""))), "ff13e13e-c4fe-50f1-98bc-3ce76cf4a2da");
    let mut unique = [0; 16];
    unique[15] = 0xab;
    assert_eq!(text(written_uuid(unique)), "187e7df5-4f90-54ef-9c27-8e4e9271ca0e");
}

#[test]
fn a_tree_is_written_piece_by_piece() {
    struct Log(Vec<(u64, usize)>);
    impl crate::image::erofs::ImageSink for Log {
        fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
            self.0.push((offset, bytes.len()));
            Ok(())
        }
    }
    let tree = tree(&numbered(129));
    let mut log = Log(Vec::new());
    tree.write(UUID, &mut log).unwrap();
    let start = 129 * 4096;
    assert_eq!(log.0, [(start, 4096), (start + 4096, 4096), (start + 8192, 8192)]);
}
