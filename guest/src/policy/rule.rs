//! What is allowed.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::canonical::{self, NotCanonical};
use crate::manifest::{ImageHash, PublicKey};
use crate::word::Word;

/// What a guest may run, and what it may write to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Which images.
    pub rule: Rule,
    /// What may take the writes; without the host's devices unless they are named here.
    #[serde(default = "default_uppers")]
    pub uppers: BTreeSet<UpperKind>,
}

/// Which images may run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Rule {
    /// These, whoever signed them.
    Exact(BTreeSet<ImageHash>),
    /// Those that one of these keys signed.
    Key(KeyRule),
}

/// Whose images may run, and which of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRule {
    /// The signers.
    pub keys: Vec<PublicKey>,
    /// The oldest version that may run, against rollback.
    #[serde(default)]
    pub minimum_version: u64,
    /// What the image may be called; empty for anything that the signers signed.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub names: BTreeSet<Word>,
}

/// A kind of place for what is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpperKind {
    /// Nowhere: the root file system is read-only.
    None,
    /// The guest's memory.
    Tmpfs,
    /// A device of the host's with a file system that the host made. Not for guests that do not trust it.
    Device,
    /// A device of the host's, encrypted with a key that the guest makes. The host reads none of it, and can change it.
    Encrypted,
}

impl UpperKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::None, Self::Tmpfs, Self::Device, Self::Encrypted];
}

impl Policy {
    /// Longest text in bytes.
    pub const LIMIT: usize = 1 << 20;

    /// A policy for these images, with the uppers that a guest can trust.
    #[must_use]
    pub fn new(rule: Rule) -> Self {
        Self { rule, uppers: default_uppers() }
    }

    /// Reads a policy as JSON.
    ///
    /// # Errors
    /// For more than [`Policy::LIMIT`] bytes, and whatever is not exactly a policy.
    pub fn read(bytes: &[u8]) -> Result<Self, NotCanonical> {
        canonical::read(bytes, Self::LIMIT)
    }
}

pub(super) fn default_uppers() -> BTreeSet<UpperKind> {
    BTreeSet::from([UpperKind::None, UpperKind::Tmpfs])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;

    #[test]
    fn policies_are_read_as_they_are_written() {
        let hash = fixtures::manifest(1).image_hash();
        let exact = Policy::new(Rule::Exact(BTreeSet::from([hash])));
        let keys = vec![fixtures::public(&fixtures::key(1))];
        let key = Policy {
            rule: Rule::Key(KeyRule { keys, minimum_version: 3, names: BTreeSet::new() }),
            uppers: BTreeSet::from([UpperKind::Device]),
        };
        for policy in [exact, key] {
            let text = serde_json::to_vec(&policy).unwrap();
            assert_eq!(Policy::read(&text).unwrap(), policy);
        }
    }

    #[test]
    fn a_policy_with_a_word_that_is_not_known_is_refused() {
        for text in [
            "",
            "{}",
            r#"{"rule":{"exact":[]},"allow":true}"#,
            r#"{"rule":{"any":[]}}"#,
            r#"{"rule":{"exact":[],"key":{"keys":[]}}}"#,
            r#"{"rule":{"exact":[]},"rule":{"exact":[]}}"#,
            r#"{"rule":{"key":{"keys":[],"minimum":1}}}"#,
            r#"{"rule":{"exact":[]},"uppers":["host"]}"#,
        ] {
            assert!(Policy::read(text.as_bytes()).is_err(), "{text}");
        }
    }
}
