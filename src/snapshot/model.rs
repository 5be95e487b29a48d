//! What callers see of a snapshot.

use std::collections::BTreeMap;
use std::fmt;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

/// Labels by name. A label with an empty value does not exist.
pub type Labels = BTreeMap<String, String>;

/// Label on a snapshot that a layer is extracted into: the name that it will be committed under.
pub const EXTRACTION_LABEL: &str = "containerd.io/snapshot.ref";
/// Label with the uncompressed digest of the layer that will be applied (containerd 2.3 and later).
pub const DIFF_ID_LABEL: &str = "containerd.io/snapshot/diff-id";
/// Label on an active snapshot whose virtual machine has written all back and writes nothing more until
/// Commit has answered; its value does not matter.
pub const QUIESCED_LABEL: &str = "containerd.io/snapshot/erofs.quiesced";

/// Label with the most bytes that may be written to a snapshot, in decimal (containerd 2.4 and later).
pub const MAX_SIZE_LABEL: &str = "containerd.io/snapshot/max-size";
/// Label with the name that the parent will have, where the parent itself comes with the commit
/// (containerd 2.3 and later).
pub const PARENT_CHAIN_LABEL: &str = "containerd.io/snapshot/parent-chain-id";

/// What a snapshot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Read-only, never committed.
    View,
    /// Writable.
    Active,
    /// Immutable, may be a parent.
    Committed,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::View => "view",
            Self::Active => "active",
            Self::Committed => "committed",
        })
    }
}

/// A snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// Key of a view or an active snapshot, name of a committed one.
    pub name: String,
    /// Name of the parent.
    pub parent: Option<String>,
    /// What it is.
    pub kind: Kind,
    /// When it was made or committed.
    pub created: SystemTime,
    /// When its labels last changed; at first, when it was made.
    pub updated: SystemTime,
    /// Labels.
    pub labels: Labels,
}

/// Space that a snapshot takes, without its parents.
///
/// A layer that several snapshots share is charged to each of them in full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Allocated bytes.
    pub bytes: u64,
    /// Inodes.
    pub inodes: u64,
}

/// A change of a snapshot's labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LabelChange {
    /// These are the labels now.
    ReplaceAll(Labels),
    /// These labels are set; an empty value deletes.
    Set(Labels),
}

impl LabelChange {
    /// The labels after the change.
    #[must_use]
    pub fn applied_to(self, labels: &Labels) -> Labels {
        match self {
            Self::ReplaceAll(new) => without_empty(new),
            Self::Set(new) => {
                let mut all = labels.clone();
                all.extend(new);
                without_empty(all)
            }
        }
    }
}

/// Drops the labels that do not exist.
pub(super) fn without_empty(mut labels: Labels) -> Labels {
    labels.retain(|_, value| !value.is_empty());
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn set_keeps_what_it_does_not_name_and_deletes_by_an_empty_value() {
        let before = labels(&[("a", "1"), ("b", "2"), ("c", "3")]);
        let change = LabelChange::Set(labels(&[("b", ""), ("c", "4"), ("d", "5"), ("e", "")]));
        assert_eq!(change.applied_to(&before), labels(&[("a", "1"), ("c", "4"), ("d", "5")]));
    }

    #[test]
    fn replace_keeps_nothing() {
        let change = LabelChange::ReplaceAll(labels(&[("b", "2"), ("c", "")]));
        assert_eq!(change.applied_to(&labels(&[("a", "1")])), labels(&[("b", "2")]));
    }
}
