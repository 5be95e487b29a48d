//! A snapshot's states and the steps between them, without any input or output.
//!
//! ```text
//! prepare → active ── a layer is applied ──→ active with a layer ── commit ──→ committed
//!           active ── commit ──→ committed, unsealed ── its layer is made ──→ committed
//! view    → view
//! ```

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::model::{DIFF_ID_LABEL, EXTRACTION_LABEL, without_empty};
use super::{Error, Info, Kind, LabelChange, Labels, Usage};
use crate::expose::idmap::IdMapping;
use crate::expose::mount::Mount;
use crate::expose::plan::{self, Lower, Places, Writable};
use crate::expose::quota::Quota;
use crate::image::digest::Digest;
use crate::layer::LayerKey;
use crate::store::unique::Unique;

/// Identifier of a snapshot on this host: the name of its directory, never given twice.
pub(super) type SnapshotId = Unique;

/// A snapshot as the database and `snapshot.json` have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) id: SnapshotId,
    pub(super) profile: String,
    pub(super) key: String,
    pub(super) parent: Option<String>,
    pub(super) labels: Labels,
    pub(super) created: SystemTime,
    pub(super) updated: SystemTime,
    pub(super) state: State,
}

/// What a snapshot is, with what only that kind has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    /// Read-only, never committed.
    View(Lower),
    /// Writable.
    Active(Active),
    /// Immutable, may be a parent; consists of a layer.
    Committed(Committed),
    /// The same for whoever asks what it is, but its layer is still to be made of what was written.
    Unsealed(Unsealed),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Active {
    pub(super) lower: Lower,
    pub(super) writable: Writable,
    /// The layer that was applied last.
    pub(super) layer: Option<LayerKey>,
    /// The limit of its directories, where one was asked for and can be had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) quota: Option<Quota>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Committed {
    pub(super) layer: LayerKey,
    pub(super) usage: Usage,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Unsealed {
    /// Where that lies which the layer is to be made of.
    pub(super) writable: Writable,
    /// What shifts its owners, if something does.
    #[serde(default)]
    pub(super) mapping: Option<IdMapping>,
}

/// What a new snapshot is called and stands on.
#[derive(Clone, Debug)]
pub(super) struct Naming {
    pub(super) id: SnapshotId,
    pub(super) profile: String,
    pub(super) key: String,
    pub(super) parent: Option<String>,
    pub(super) labels: Labels,
}

impl Active {
    /// What a commit leaves to be made into a layer.
    pub(super) fn unsealed(&self) -> Unsealed {
        Unsealed { writable: self.writable, mapping: self.lower.mapping.clone() }
    }
}

impl Record {
    /// A new snapshot.
    pub(super) fn new(naming: Naming, state: State, now: SystemTime) -> Self {
        let Naming { id, profile, key, parent, labels } = naming;
        let labels = without_empty(labels);
        Self { id, profile, key, parent, labels, created: now, updated: now, state }
    }

    pub(super) fn kind(&self) -> Kind {
        match self.state {
            State::View(_) => Kind::View,
            State::Active(_) => Kind::Active,
            State::Committed(_) | State::Unsealed(_) => Kind::Committed,
        }
    }

    pub(super) fn info(&self) -> Info {
        Info {
            name: self.key.clone(),
            parent: self.parent.clone(),
            kind: self.kind(),
            created: self.created,
            updated: self.updated,
            labels: self.labels.clone(),
        }
    }

    /// The mount plan.
    pub(super) fn mounts(&self, places: Places<'_>) -> Result<Vec<Mount>, Error> {
        match &self.state {
            State::View(lower) => Ok(plan::view(lower, places)),
            State::Active(Active { writable: Writable::Staged, layer: Some(layer), .. }) => {
                Ok(plan::staged(layer, places))
            }
            State::Active(active) => Ok(plan::active(&active.lower, active.writable, places)),
            State::Committed(_) | State::Unsealed(_) => Err(Error::NoMounts { key: self.key.clone() }),
        }
    }

    /// What lies under the snapshot. None for a committed one, which has no plan.
    pub(super) fn lower(&self) -> Option<&Lower> {
        match &self.state {
            State::View(lower) => Some(lower),
            State::Active(active) => Some(&active.lower),
            State::Committed(_) | State::Unsealed(_) => None,
        }
    }

    pub(super) fn active(&self) -> Result<&Active, Error> {
        match &self.state {
            State::Active(active) => Ok(active),
            _ => Err(Error::NotActive { key: self.key.clone(), kind: self.kind() }),
        }
    }

    /// The limit of its directories.
    pub(super) fn quota(&self) -> Option<Quota> {
        self.active().ok()?.quota
    }

    pub(super) fn is_committed(&self) -> bool {
        self.kind() == Kind::Committed
    }

    /// What a committed snapshot is to be made of, if its layer is not made yet.
    pub(super) fn unsealed(&self) -> Option<&Unsealed> {
        match &self.state {
            State::Unsealed(unsealed) => Some(unsealed),
            _ => None,
        }
    }

    /// Every layer that must exist while this snapshot does.
    pub(super) fn layers(&self) -> impl Iterator<Item = &LayerKey> {
        let (below, own) = match &self.state {
            State::View(lower) => (lower.layers.as_slice(), None),
            State::Active(active) => (active.lower.layers.as_slice(), active.layer.as_ref()),
            State::Committed(committed) => (&[][..], Some(&committed.layer)),
            State::Unsealed(_) => (&[][..], None),
        };
        below.iter().chain(own)
    }

    /// The uncompressed digest that the client announced.
    pub(super) fn announced_diff_id(&self) -> Option<Digest> {
        self.labels.get(DIFF_ID_LABEL)?.parse().ok()
    }

    /// The snapshot with other labels; its time of change is later than before in any case.
    pub(super) fn relabelled(&self, change: LabelChange, now: SystemTime) -> Self {
        let updated = now.max(self.updated + Duration::from_nanos(1));
        Self { labels: change.applied_to(&self.labels), updated, ..self.clone() }
    }

    /// The active snapshot with this layer applied, in place of any before.
    pub(super) fn with_layer(&self, layer: LayerKey) -> Result<Self, Error> {
        let active = Active { layer: Some(layer), ..self.active()?.clone() };
        Ok(Self { state: State::Active(active), ..self.clone() })
    }

    /// The parent after a commit that asks for `requested`: the own one, or the one that an active
    /// without parent is put on.
    pub(super) fn parent_at_commit(&self, requested: Option<&str>) -> Result<Option<String>, Error> {
        match (&self.parent, requested) {
            (own, None) => Ok(own.clone()),
            (None, Some(requested)) => Ok(Some(requested.to_owned())),
            (Some(own), Some(requested)) if own == requested => Ok(Some(own.clone())),
            (Some(own), Some(requested)) => Err(Error::ParentChange {
                key: self.key.clone(),
                parent: own.clone(),
                requested: requested.to_owned(),
            }),
        }
    }

    /// The snapshot under its final name, in a state that is committed.
    pub(super) fn commit(
        &self,
        name: &str,
        parent: Option<String>,
        labels: Labels,
        state: State,
        now: SystemTime,
    ) -> Self {
        Self {
            id: self.id,
            profile: self.profile.clone(),
            key: name.to_owned(),
            parent,
            labels: without_empty(labels),
            created: now,
            updated: now,
            state,
        }
    }

    /// The committed snapshot with its layer.
    pub(super) fn sealed(&self, committed: Committed) -> Self {
        Self { state: State::Committed(committed), ..self.clone() }
    }
}

/// Whether a snapshot with this key and these labels is made to extract a layer into.
///
/// containerd's unpacker says so by a label. Its classic client (`Image.Unpack`, `pkg/rootfs`) sets
/// no label, and only its key tells: `extract-UNIQUE CHAINID` (`snapshots.UnpackKeyFormat`), which
/// arrives as `NAMESPACE/NUMBER/extract-UNIQUE CHAINID`. The key decides nothing but the plan.
pub(super) fn is_extraction(key: &str, labels: &Labels) -> bool {
    labels.get(EXTRACTION_LABEL).is_some_and(|name| !name.is_empty()) || is_unpack_key(key)
}

fn is_unpack_key(key: &str) -> bool {
    let name = key.rsplit_once('/').map_or(key, |(_, name)| name);
    let parts = name.strip_prefix("extract-").and_then(|rest| rest.split_once(' '));
    parts.is_some_and(|(_, chain_id)| chain_id.parse::<Digest>().is_ok())
}
