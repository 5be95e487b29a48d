//! The two sides of a comparison, and what the right one has more.

use std::fs;

use super::error::Error;
use crate::expose::mount::Mount;
use crate::layer::{LayerKey, RootAttributes};
use crate::snapshot::{Shown, Snapshotter, Written};

/// What the right side has more than the left one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Difference {
    /// What was written on the right side and is no layer yet.
    pub(super) written: Option<Written>,
    /// The layers that only the right side has, newest first, below what was written.
    pub(super) layers: Vec<LayerKey>,
    /// The layers of the left side, newest first, on which those stand.
    pub(super) below: Vec<LayerKey>,
    /// What the left side shows of `/`.
    pub(super) root_below: RootAttributes,
}

impl Difference {
    /// Finds out what two lists of mounts have to do with each other.
    ///
    /// The right side is asked first: only if it is ours is there anything to say about the left one.
    pub(super) fn of(snapshots: &Snapshotter, left: &[Mount], right: &[Mount]) -> Result<Self, Error> {
        let Shown { layers, written } = snapshots.shown(right)?.ok_or(Error::NotOurs { side: "right" })?;
        let below = left_layers(snapshots, left)?;
        let more = layers.strip_suffix(below.as_slice()).ok_or(Error::Unrelated)?.to_vec();
        let root_below = snapshots.root_attributes(&below);
        Ok(Self { written, layers: more, below, root_below })
    }
}

fn left_layers(snapshots: &Snapshotter, left: &[Mount]) -> Result<Vec<LayerKey>, Error> {
    if left.is_empty() {
        return Ok(Vec::new());
    }
    match snapshots.shown(left)? {
        Some(Shown { written: Some(_), .. }) => Err(Error::LeftIsWritable),
        Some(Shown { layers, written: None }) => Ok(layers),
        None if is_empty_directory(left) => Ok(Vec::new()),
        None => Err(Error::NotOurs { side: "left" }),
    }
}

/// Whether mounts show an empty directory, which clients use where there is no parent.
fn is_empty_directory(mounts: &[Mount]) -> bool {
    match mounts {
        [mount] if mount.fstype == "bind" => {
            fs::read_dir(&mount.source).is_ok_and(|mut entries| entries.next().is_none())
        }
        _ => false,
    }
}
