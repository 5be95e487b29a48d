//! One layer of a comparison, opened: a sealed layer, or what was written to a snapshot.

use std::collections::BTreeMap;
use std::path::Path;

use super::error::Error;
use crate::expose::block::MountedBlock;
use crate::image::erofs::read::{self, Limits};
use crate::image::overlay::Layer;
use crate::image::tar::XATTR_IMPLICIT;
use crate::image::tree::{Metadata, Tree};
use crate::layer::RootAttributes;
use crate::layer::open::{self, LayerImage};
use crate::layer::upper::{self, Scanned};
use crate::snapshot::{OpenUpper, Snapshotter, Written, unshift};

/// A layer that can be read.
pub(super) enum Part {
    /// The file of a layer.
    Sealed(LayerImage),
    /// What was written.
    Written {
        /// Its tree, and the data of its files.
        scanned: Scanned,
        /// The mount that the data is read from, if it is in a writable block.
        _block: Option<MountedBlock>,
    },
}

impl Part {
    /// Opens the file of a layer. Its metadata is taken out of `left`: that of all layers is in memory at the same time.
    pub(super) fn sealed(path: &Path, left: &mut Limits) -> Result<Self, Error> {
        match open::open_foreign_within(path, left) {
            Ok(image) => {
                *left = image.left();
                Ok(Self::Sealed(image))
            }
            Err(open::Error::Image { source: read::Error::TooMuch { what, .. }, .. }) => {
                Err(Error::TooMuch { what })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Reads the tree of what was written to a snapshot; the data is read later.
    pub(super) fn written(
        snapshots: &Snapshotter,
        written: &Written,
        stop: &dyn Fn() -> bool,
    ) -> Result<Self, Error> {
        let OpenUpper { directory, block, mapping } = snapshots.open_written(written)?;
        let mut scanned = upper::scan(directory, stop)?;
        if let Some(mapping) = mapping {
            unshift(&mut scanned.tree, &mapping);
        }
        Ok(Self::Written { scanned, _block: block })
    }

    pub(super) fn layer(&self) -> Layer<'_> {
        match self {
            Self::Sealed(image) => Layer { tree: image.tree(), contents: image },
            Self::Written { scanned, .. } => Layer { tree: &scanned.tree, contents: &scanned.contents },
        }
    }
}

/// Takes the root out of a difference that does not change it. An upper directory always has one, with
/// the attributes of the image's, and a layer that only names it would say that something changed.
pub(super) fn forget_unchanged_root(tree: &mut Tree, below: &RootAttributes) {
    let Some(root) = tree.inodes.first_mut() else { return };
    let Metadata { mode, uid, gid, xattrs, .. } = &mut root.metadata;
    let is_own = |name: &[u8]| name.starts_with(b"trusted.overlay.");
    let shown: BTreeMap<_, _> = xattrs.iter().filter(|(name, _)| !is_own(name)).collect();
    let same =
        (*mode, *uid, *gid) == (below.mode, below.uid, below.gid) && shown.into_iter().eq(&below.xattrs);
    if same {
        xattrs.insert(XATTR_IMPLICIT.to_vec(), b"y".to_vec());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::empty;

    #[test]
    fn layers_are_held_to_the_limits_of_one_together() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("layer.erofs");
        std::fs::write(&path, empty::layer().unwrap().file).unwrap();
        let mut left = Limits { max_inodes: 2, ..Limits::default() };
        Part::sealed(&path, &mut left).unwrap();
        Part::sealed(&path, &mut left).unwrap();
        assert!(matches!(Part::sealed(&path, &mut left), Err(Error::TooMuch { what: "inodes" })));
    }
}
