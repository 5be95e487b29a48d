//! EROFS images, image layout v1.
//!
//! A layer becomes an image in one pass: file data streams in through [`Writer`]'s
//! [`BlockSink`](crate::image::tree::BlockSink) half while the tar is read, and
//! [`Writer::finish`] appends the metadata of the [`Tree`](crate::image::tree::Tree) that the
//! reader made of it.
//!
//! ```text
//! block 0      superblock, written last
//! block 1 …    file data, in the order in which it came
//!              inodes with their xattrs, inline tails and chunk indexes
//!              shared xattrs
//!              blocks of directories and long symbolic links
//! ```
//!
//! The bytes are a pure function of tree, data and UUID. `docs/image-layout-v1.md` is the
//! specification; the format itself is the kernel's `fs/erofs/erofs_fs.h`.
//!
//! * `area`: bytes in, large positioned writes out.
//! * `walk`: the gate that a tree passes before anything of it is written.
//! * `mapping`, `xattr`, `directory`: how file data, extended attributes and entries are stored.
//! * `devices`: file data that stays in other images.
//! * `sparse`: how coarsely a reader stores the data of a sparse file.
//! * `plan`: where each inode and block goes. `writer`: puts it there.
//! * `format`: inodes as bytes. `superblock`: the superblock, both ways. [`header`]: all that one says.
//! * [`read`]: images back into trees, foreign ones too. [`owners`]: whose some bytes of one are.

mod area;
mod devices;
mod directory;
mod error;
mod format;
pub mod header;
mod mapping;
pub mod owners;
mod plan;
pub mod read;
mod sparse;
mod superblock;
mod walk;
mod writer;
mod xattr;

pub use area::ImageSink;
pub use devices::Device;
pub use error::{Error, Problem, TreePath};
pub use sparse::sparse_unit;
pub use superblock::{InvalidSuperblock, Superblock};
pub use writer::{Summary, Writer, write_metadata};

use crate::image::digest::Digest;
use crate::image::identity;

/// Version of the image layout. Any change of the bytes of any image is a new version.
pub const LAYOUT_VERSION: u32 = 1;

/// The UUID of the image of the layer with this diffID: a version 5 UUID (RFC 9562) in the URL
/// name space, of `urn:nexuserofs:layer:v1:sha256:` and the 64 hex digits of the diffID.
#[must_use]
pub fn uuid(diff_id: &Digest) -> [u8; 16] {
    named_uuid(&diff_id.to_string())
}

/// The UUID of the image of a layer that was made of what a snapshot wrote, and which has no diffID: as
/// [`uuid`], with `written:` and the 32 hex digits of the layer's random name in its place.
#[must_use]
pub fn written_uuid(unique: [u8; 16]) -> [u8; 16] {
    named_uuid(&identity::written(unique))
}

fn named_uuid(layer: &str) -> [u8; 16] {
    identity::uuid(&format!("layer:v{LAYOUT_VERSION}:{layer}")).into_bytes()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn uuid_is_derived_from_the_diff_id() {
        let text = Uuid::from_bytes(uuid(&Digest::of(b""))).to_string();
        // python3 -c 'import uuid; print(uuid.uuid5(uuid.NAMESPACE_URL, "urn:nexuserofs:layer:v1:sha256:e3b0…b855"))'
        assert_eq!(text, "1eb84710-5b21-5b1d-ba81-23e1cd0e386a");
    }

    #[test]
    fn uuid_of_a_written_layer_is_derived_from_its_name() {
        let mut unique = [0; 16];
        unique[15] = 0xab;
        let text = Uuid::from_bytes(written_uuid(unique)).to_string();
        // python3 -c 'import uuid; print(uuid.uuid5(uuid.NAMESPACE_URL, "urn:nexuserofs:layer:v1:written:" + "0" * 30 + "ab"))'
        assert_eq!(text, "93fc842b-719e-5221-8b17-3c1d39866d5b");
    }
}
