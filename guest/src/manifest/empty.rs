//! The layer that holds nothing.
//!
//! Hosts give it to guests although no manifest lists it ([`crate::padding`]). Its bytes are a part of the image layout, so
//! its table is known here and nobody has to be believed about it.

use std::num::NonZeroU64;
use std::sync::LazyLock;

use super::{Layer, LayoutVersion};
use crate::verity::{BlockSize, Fields, Parameters, RootDigest, Salt};

/// Digest of the tar that it is made of: the two blocks of zeros that end each.
const DIFF_ID: &str = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";

/// The root of its hash tree in layout version 1.
const ROOT: &str = "sha256:df11eb5615d08167b1eaf25d8d7c63a0424e6ff1ec2bee76a8233c19efb1f72c";

/// Length of its image in blocks.
const BLOCKS: NonZeroU64 = NonZeroU64::MIN.saturating_add(1);

/// Where its hash tree begins, in blocks: behind the image and the superblock of dm-verity.
const TREE: u64 = BLOCKS.get() + 1;

static V1: LazyLock<Option<Layer>> = LazyLock::new(v1);

fn v1() -> Option<Layer> {
    let fields = Fields {
        root_digest: ROOT.parse::<RootDigest>().ok()?,
        salt: Salt::zeros(),
        data_block_size: BlockSize::PAGE,
        hash_block_size: BlockSize::PAGE,
        data_blocks: BLOCKS,
        hash_start_block: TREE,
    };
    Layer::of(DIFF_ID.parse().ok()?, Parameters::new(fields).ok()?).ok()
}

impl LayoutVersion {
    /// What this layout makes of a tar with nothing in it. There always is one: none would be a mistake in the constants
    /// of this module, and whoever gets it takes no such layer.
    #[must_use]
    pub fn empty_layer(self) -> Option<&'static Layer> {
        match self {
            Self::V1 => V1.as_ref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    /// That these are the parameters of what our builder makes is tested where both can be seen, in `src/trust`.
    #[test]
    fn there_is_one_and_it_is_of_an_empty_tar() {
        let layer = LayoutVersion::V1.empty_layer().unwrap().fields();
        assert_eq!(layer.diff_id, Digest::of(&[0; 1024]));
        assert_eq!((layer.size, layer.verity.data_bytes()), (16384, 8192));
    }
}
