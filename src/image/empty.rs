//! The layer that holds nothing: what image layout v1 makes of an empty tar, with its dm-verity tree.
//!
//! Its bytes are a part of the layout, as those of every layer: plans name it, and policies its root hash.

use super::digest::Digest;
use super::erofs::{self, Writer};
use super::tar::{self, Limits};
use super::verity::{self, Geometry, Leaves};

/// The archive that the layer is made of: the two blocks of zeros that end each.
const TAR: [u8; 1024] = [0; 1024];

/// The file of the layer that holds nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmptyLayer {
    /// Image, superblock and tree.
    pub file: Vec<u8>,
    /// Where the tree lies.
    pub geometry: Geometry,
    /// The root hash.
    pub root: Digest,
    /// The UUID in the superblock of the tree.
    pub uuid: [u8; 16],
}

/// Why it cannot be made. Never in practice: nothing in it depends on anything.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The archive is refused.
    #[error("the empty archive cannot be read")]
    Tar(#[from] tar::Error),
    /// The image cannot be written.
    #[error("the layer that holds nothing cannot be written")]
    Image(#[from] erofs::Error),
    /// Its tree cannot be made.
    #[error("the layer that holds nothing cannot be hashed")]
    Tree(#[from] verity::leaves::Error),
    /// Its tree cannot be written.
    #[error("the tree of the layer that holds nothing cannot be written")]
    Write(#[from] std::io::Error),
}

/// The digest of the archive, which the layer's UUIDs are made of.
#[must_use]
pub fn diff_id() -> Digest {
    Digest::of(&TAR)
}

/// Makes the layer.
///
/// # Errors
/// Never in practice.
pub fn layer() -> Result<EmptyLayer, Error> {
    let (mut file, uuid) = (Vec::new(), verity::uuid(&diff_id()));
    let mut writer = Writer::new(&mut file);
    let layer = tar::read_layer(&mut &TAR[..], &mut writer, &Limits::default())?;
    let summary = writer.finish(&layer.tree, erofs::uuid(&diff_id()))?;
    let tree = Leaves::of(&mut &file[..])?.into_tree(summary.blocks.into())?;
    tree.write(uuid, &mut file)?;
    Ok(EmptyLayer { file, geometry: tree.geometry(), root: tree.root(), uuid })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A change of these is another layout.
    #[test]
    fn its_bytes_are_fixed() {
        let layer = layer().unwrap();
        assert_eq!(diff_id().hex(), "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef");
        assert_eq!(layer.root.hex(), "df11eb5615d08167b1eaf25d8d7c63a0424e6ff1ec2bee76a8233c19efb1f72c");
        assert_eq!(
            Digest::of(&layer.file).hex(),
            "4e4d401430db8e6f1ff8404cf5f4432c22e6f1dd8cb00fc7c2b529645a975b63"
        );
        assert_eq!(layer.geometry.hash_offset(), 8192);
        assert_eq!(layer.file.len() as u64, layer.geometry.file_size());
    }
}
