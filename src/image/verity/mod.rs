//! dm-verity hash trees, as functions over bytes.
//!
//! An image of whole blocks gets a tree of SHA-256 digests: one for each block of data, 128 of them in a
//! block, one for each of those blocks, and so on up to a single block, whose digest is the *root hash*.
//! Whoever knows the root hash can tell of any block whether it is the one that was hashed.
//!
//! There is one form, which Kata's and containerd's readers take: SHA-256, 4096-byte blocks of data and of
//! hashes, hash type 1, a salt of 32 zero bytes, and a superblock. What a file holds then:
//!
//! ```text
//! 0            the image, a multiple of 4096 bytes
//! hash offset  the superblock, in a block of its own
//!              the levels of the tree, that of the root hash first
//! ```
//!
//! The format of superblock and tree is cryptsetup's (`veritysetup(8)`, its wiki page "DMVerity") and the
//! kernel's (`Documentation/admin-guide/device-mapper/verity.rst`).
//!
//! * [`leaves`]: digests of the data, taken while it is written. * [`tree`]: the levels above them.
//! * [`geometry`]: where the levels lie. * [`superblock`]: the superblock, both ways.
//! * [`verify`](mod@verify): what is wrong with a file. * [`lookup`]: what one block has to be.

pub mod geometry;
pub mod leaves;
pub mod lookup;
pub mod superblock;
pub mod tree;
pub mod verify;

#[cfg(test)]
mod tests;

pub use geometry::Geometry;
pub use leaves::Leaves;
pub use lookup::{Lookup, LookupError, block_digest};
pub use superblock::{InvalidSuperblock, Superblock};
pub use tree::Tree;
pub use verify::{Damage, verify};

use sha2::{Digest as _, Sha256};

use crate::image::digest::Digest;
use crate::image::erofs::LAYOUT_VERSION;
use crate::image::identity;
use crate::image::tree::BLOCK_SIZE;

/// Digests in a block of the tree.
const PER_BLOCK: usize = 128;

/// Size of a digest in bytes.
const DIGEST_SIZE: usize = 32;

/// What is hashed before each block: containerd's default.
pub const SALT: [u8; 32] = [0; 32];

/// The name of the hash, as the kernel and the superblock have it.
pub const ALGORITHM: &str = "sha256";

/// The version of the hash format: the salt comes before the block.
pub const HASH_TYPE: u32 = 1;

/// Blocks that are hashed at once: a multiple of what any processor takes at a time.
const AT_ONCE: usize = 64;

/// Digest of one block of data or of the tree.
type BlockDigest = [u8; DIGEST_SIZE];

/// The UUID in the superblock of the layer with this diffID: a version 5 UUID (RFC 9562) in the URL name
/// space, of `urn:nexuserofs:verity:v1:sha256:` and the 64 hex digits of the diffID.
#[must_use]
pub fn uuid(diff_id: &Digest) -> [u8; 16] {
    named_uuid(&diff_id.to_string())
}

/// The same for a layer that was made of what a snapshot wrote: with `written:` and the 32 hex digits of
/// the layer's random name in place of the diffID.
#[must_use]
pub fn written_uuid(unique: [u8; 16]) -> [u8; 16] {
    named_uuid(&identity::written(unique))
}

fn named_uuid(layer: &str) -> [u8; 16] {
    identity::uuid(&format!("verity:v{LAYOUT_VERSION}:{layer}")).into_bytes()
}

/// Hashes blocks, each behind the salt.
#[derive(Clone, Debug)]
struct BlockHash {
    salted: Sha256,
}

impl BlockHash {
    fn new() -> Self {
        Self { salted: Sha256::new_with_prefix(SALT) }
    }

    fn digest(&self, block: &[u8]) -> BlockDigest {
        self.salted.clone().chain_update(block).finalize().into()
    }

    /// Puts the digests of `blocks` into `digests`, as many as there are of both.
    ///
    /// One block's hash cannot be sped up, since each round waits for the one before it. Those of several blocks
    /// can go through the processor at the same time.
    fn digest_all(blocks: &[[u8; BLOCK_SIZE as usize]], digests: &mut [BlockDigest]) {
        for (blocks, digests) in blocks.chunks(AT_ONCE).zip(digests.chunks_mut(AT_ONCE)) {
            let mut bodies = [[].as_slice(); AT_ONCE];
            let number = blocks.len().min(digests.len());
            bodies.iter_mut().zip(blocks).for_each(|(body, block)| *body = block);
            if let (Some(bodies), Some(digests)) = (bodies.get(..number), digests.get_mut(..number)) {
                tape_sha256::hash_many_prefixed(&SALT, bodies, digests);
            }
        }
    }
}
