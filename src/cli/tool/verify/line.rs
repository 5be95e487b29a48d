//! What is told about a file that was verified.

use std::ops::Range;
use std::path::PathBuf;

use serde::Serialize;

use super::root::{Expected, Origin};
use crate::cli::tool::report::Line;
use crate::cli::tool::subject::Subject;
use crate::image::digest::Digest;
use crate::image::erofs::owners::Owners;
use crate::image::tree::BLOCK_SIZE;

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    /// Every block is the one that the root hash was made of.
    Proven,
    /// Nobody tells a root hash.
    Unproven,
    /// Something is not as it should be.
    Damaged,
}

/// A file that was verified.
#[derive(Debug, Serialize)]
pub(super) struct Verified {
    name: String,
    file: PathBuf,
    pub(super) state: State,
    root_hash: Option<Digest>,
    origin: Option<Origin>,
    pub(super) damage: Vec<Bad>,
    /// What there is to say besides.
    pub(super) note: Option<String>,
}

/// A part of a file that is not as it should be.
#[derive(Debug, Serialize)]
pub(super) struct Bad {
    what: What,
    /// Its first byte in the file.
    offset: u64,
    /// Its size in bytes.
    bytes: u64,
    /// To what of the image it belongs.
    #[serde(flatten)]
    owners: Owners,
    reason: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum What {
    /// Blocks of the image.
    Data,
    /// A stretch of the image with a bad block somewhere in it.
    Somewhere,
    /// A block of the hash tree.
    Tree,
    /// The superblock of the hash tree.
    VeritySuperblock,
    /// The end of the file, which is missing.
    CutOff,
}

impl Verified {
    pub(super) fn new(subject: &Subject, state: State) -> Self {
        let Subject { name, file, .. } = subject.clone();
        Self { name, file, state, root_hash: None, origin: None, damage: Vec::new(), note: None }
    }

    pub(super) fn with_root(self, expected: &Expected) -> Self {
        Self { root_hash: Some(expected.root), origin: Some(expected.origin), ..self }
    }

    pub(super) fn with_note(self, note: &str) -> Self {
        Self { note: Some(note.to_owned()), ..self }
    }
}

impl Bad {
    pub(super) fn data(run: Range<u64>, owners: Owners) -> Self {
        Self { owners, ..Self::new(What::Data, run.start, run.end - run.start) }
    }

    pub(super) fn somewhere(offset: u64, bytes: u64) -> Self {
        Self::new(What::Somewhere, offset, bytes)
    }

    pub(super) fn tree(offset: u64) -> Self {
        Self::new(What::Tree, offset, BLOCK_SIZE)
    }

    pub(super) fn superblock(offset: u64, reason: String) -> Self {
        Self { reason: Some(reason), ..Self::new(What::VeritySuperblock, offset, BLOCK_SIZE) }
    }

    pub(super) fn cut_off(offset: u64) -> Self {
        Self::new(What::CutOff, offset, 0)
    }

    fn new(what: What, offset: u64, bytes: u64) -> Self {
        Self { what, offset, bytes, owners: Owners::default(), reason: None }
    }

    fn text(&self) -> String {
        let Self { what, offset, bytes, owners, reason } = self;
        let end = offset + bytes.saturating_sub(1);
        let reason = reason.as_deref().unwrap_or_default();
        match what {
            What::Data => format!("bytes {offset} to {end}: {owners}"),
            What::Somewhere => {
                format!(
                    "somewhere in bytes {offset} to {end}: the block of the tree that would tell is damaged too"
                )
            }
            What::Tree => format!("bytes {offset} to {end}: a block of the hash tree"),
            What::VeritySuperblock => {
                format!("bytes {offset} to {end}: the superblock of the hash tree: {reason}")
            }
            What::CutOff => format!("the file is cut off: what follows byte {offset} cannot be read"),
        }
    }
}

impl Line for Verified {
    fn text(&self) -> String {
        let state = match (self.state, self.origin) {
            (State::Proven, Some(Origin::Argument)) => "proven by the root hash that was given",
            (State::Proven, _) => "proven by the root hash beside it",
            (State::Unproven, _) => "not proven",
            (State::Damaged, _) => "damaged",
        };
        let mut lines = vec![format!("{}: {state}", self.name)];
        lines.extend(self.damage.iter().map(|bad| format!("  {}", bad.text())));
        lines.extend(self.note.iter().map(|note| format!("  {note}")));
        lines.join("\n")
    }
}
