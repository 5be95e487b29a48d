//! A whole table of dm-verity as a manifest has it, and how long a device with it is.

use crate::canonical::Json;
use crate::verity::{Fields, Parameters};

/// The table as an object.
pub(super) fn json(verity: &Parameters) -> Json {
    let Fields { root_digest, salt, data_block_size, hash_block_size, data_blocks, hash_start_block } =
        verity.fields();
    Json::object([
        ("data_block_size", Some(Json::Number(data_block_size.bytes().into()))),
        ("data_blocks", Some(Json::Number(data_blocks.get()))),
        ("hash_block_size", Some(Json::Number(hash_block_size.bytes().into()))),
        ("hash_start_block", Some(Json::Number(*hash_start_block))),
        ("root_digest", Some(Json::text(root_digest))),
        ("salt", Some(Json::text(salt.hex()))),
    ])
}

/// Where the hash tree of this table ends, in bytes. The kernel lays it out level by level, the root's first
/// (`verity_ctr` in Linux); each level has a hash for each block of the one below. A size that no number
/// holds comes out as the largest, which nothing has.
pub(super) fn bytes(verity: &Parameters) -> u64 {
    let fields = verity.fields();
    let block = u64::from(fields.hash_block_size.bytes());
    let digest = (fields.root_digest.as_bytes().len() as u64).next_power_of_two();
    let levels = std::iter::successors(Some(fields.data_blocks.get()), |blocks| {
        (*blocks > 1).then(|| blocks.div_ceil(block / digest))
    });
    let tree = levels.skip(1).fold(0_u64, u64::saturating_add);
    fields.hash_start_block.saturating_add(tree).saturating_mul(block)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;

    #[test]
    fn sizes_of_trees_are_those_that_veritysetup_writes() {
        // Measured, with the superblock's block: `veritysetup format` on so many blocks of 4096 bytes.
        for (blocks, tree) in
            [(1, 4096), (2, 8192), (128, 8192), (129, 16384), (16384, 532_480), (16385, 544_768)]
        {
            assert_eq!(bytes(&fixtures::verity(blocks, 7)), blocks * 4096 + tree, "{blocks}");
        }
    }
}
