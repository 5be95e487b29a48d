//! What must exist, as far as a client can know.

use std::collections::{BTreeMap, BTreeSet};

use nexuserofs_proto::containerd::services::snapshots::v1::{Info, Kind};
use nexuserofs_proto::containerd::types::Mount;

/// A containerd namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Namespace {
    /// The first.
    One,
    /// The second.
    Two,
}

impl Namespace {
    /// Both.
    pub const ALL: [Self; 2] = [Self::One, Self::Two];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::One => "one",
            Self::Two => "two",
        }
    }
}

/// A snapshot by namespace and key or name. No key is used twice.
pub type Place = (Namespace, String);

/// A snapshot as the client knows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// Key of its parent, or empty.
    pub parent: String,
    /// What it is.
    pub state: State,
    /// The directory of its own layer, once it has one.
    pub layer: Option<String>,
}

/// What a snapshot is, with what only that kind has.
#[derive(Clone, Debug, PartialEq)]
pub enum State {
    /// Writable; its plan never changes.
    Active(Vec<Mount>),
    /// Read-only; its plan never changes.
    View(Vec<Mount>),
    /// Immutable.
    Committed,
}

impl Snapshot {
    const fn kind(&self) -> Kind {
        match self.state {
            State::Active(_) => Kind::Active,
            State::View(_) => Kind::View,
            State::Committed => Kind::Committed,
        }
    }

    /// Its plan, which committed snapshots lack.
    #[must_use]
    pub fn plan(&self) -> Option<&Vec<Mount>> {
        match &self.state {
            State::Active(plan) | State::View(plan) => Some(plan),
            State::Committed => None,
        }
    }
}

/// An active snapshot that something could run in.
#[derive(Clone, Debug)]
pub struct Container {
    /// Its key.
    pub key: String,
    /// Its parent, or empty.
    pub parent: String,
    /// Its plan.
    pub plan: Vec<Mount>,
}

/// Everything that a client made and did not remove.
#[derive(Clone, Debug, Default)]
pub struct Model {
    snapshots: BTreeMap<Place, Snapshot>,
    /// What was removed, and may be there until the next garbage collection.
    garbage: BTreeSet<Place>,
}

impl Model {
    /// Notes a new snapshot, or another state of one.
    pub fn put(&mut self, namespace: Namespace, key: &str, snapshot: Snapshot) {
        self.garbage.remove(&(namespace, key.to_owned()));
        self.snapshots.insert((namespace, key.to_owned()), snapshot);
    }

    /// Notes that a layer was applied to a snapshot.
    pub fn apply(&mut self, namespace: Namespace, key: &str, layer: String) {
        if let Some(snapshot) = self.snapshots.get_mut(&(namespace, key.to_owned())) {
            snapshot.layer = Some(layer);
        }
    }

    /// Notes that an active snapshot is now a committed one on `parent`.
    pub fn commit(&mut self, namespace: Namespace, key: &str, name: &str, parent: &str) {
        if let Some(snapshot) = self.snapshots.remove(&(namespace, key.to_owned())) {
            let committed = Snapshot { parent: parent.to_owned(), state: State::Committed, ..snapshot };
            self.put(namespace, name, committed);
        }
    }

    /// Notes that a snapshot was removed, or that something of it may have been left.
    pub fn discard(&mut self, namespace: Namespace, key: &str) {
        let place = (namespace, key.to_owned());
        self.snapshots.remove(&place);
        self.garbage.insert(place);
    }

    /// Notes that everything of a namespace was removed.
    pub fn discard_all(&mut self, namespace: Namespace) {
        let keys: Vec<String> = self.of(namespace).map(|(key, _)| key.to_owned()).collect();
        keys.iter().for_each(|key| self.discard(namespace, key));
    }

    /// Notes that garbage was collected.
    pub fn collected(&mut self) {
        self.garbage.clear();
    }

    /// The snapshots of a namespace, by key.
    pub fn of(&self, namespace: Namespace) -> impl Iterator<Item = (&str, &Snapshot)> {
        let own = self.snapshots.iter().filter(move |((of, _), _)| *of == namespace);
        own.map(|((_, key), snapshot)| (key.as_str(), snapshot))
    }

    /// Names of the committed snapshots of a namespace.
    #[must_use]
    pub fn committed(&self, namespace: Namespace) -> Vec<String> {
        let committed = self.of(namespace).filter(|(_, snapshot)| snapshot.state == State::Committed);
        committed.map(|(key, _)| key.to_owned()).collect()
    }

    /// The active snapshots of a namespace, with their parents and plans.
    #[must_use]
    pub fn containers(&self, namespace: Namespace) -> Vec<Container> {
        let active = self.of(namespace).filter_map(|(key, snapshot)| match &snapshot.state {
            State::Active(plan) => {
                Some(Container { key: key.to_owned(), parent: snapshot.parent.clone(), plan: plan.clone() })
            }
            State::View(_) | State::Committed => None,
        });
        active.collect()
    }

    /// Whether another snapshot stands on this one.
    #[must_use]
    pub fn has_children(&self, namespace: Namespace, key: &str) -> bool {
        self.of(namespace).any(|(_, snapshot)| snapshot.parent == key)
    }

    /// How many snapshots there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.snapshots.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.snapshots.is_empty()
    }

    /// The directories of the layers that must be on disk.
    #[must_use]
    pub fn needed_layers(&self) -> BTreeSet<&str> {
        self.snapshots.values().filter_map(|snapshot| snapshot.layer.as_deref()).collect()
    }

    /// What differs between this model and containerd's list of a namespace. `None` if nothing does.
    #[must_use]
    pub fn difference(&self, namespace: Namespace, listed: &[Info]) -> Option<String> {
        type Line<'a> = (&'a str, i32, &'a str);
        let listed: BTreeSet<Line<'_>> =
            listed.iter().map(|info| (info.name.as_str(), info.kind, info.parent.as_str())).collect();
        let expected: BTreeSet<Line<'_>> = self
            .of(namespace)
            .map(|(key, snapshot)| (key, snapshot.kind().into(), snapshot.parent.as_str()))
            .collect();
        (listed != expected).then(|| {
            let missing: Vec<_> = expected.difference(&listed).collect();
            let surplus: Vec<_> = listed.difference(&expected).collect();
            format!("in {}: missing {missing:?}, unexpected {surplus:?}", namespace.name())
        })
    }

    /// What differs between this model and the daemon's own list, whose keys are `NAMESPACE/NUMBER/KEY`.
    #[must_use]
    pub fn difference_below(&self, listed: &[Info]) -> Option<String> {
        let listed: BTreeSet<Place> = listed.iter().filter_map(|info| place(&info.name)).collect();
        let missing: Vec<_> = self.snapshots.keys().filter(|place| !listed.contains(*place)).collect();
        let known = |place: &&Place| self.snapshots.contains_key(*place) || self.garbage.contains(*place);
        let surplus: Vec<_> = listed.iter().filter(|place| !known(place)).collect();
        (!missing.is_empty() || !surplus.is_empty())
            .then(|| format!("in the daemon: missing {missing:?}, unexpected {surplus:?}"))
    }
}

fn place(backend_key: &str) -> Option<Place> {
    let mut parts = backend_key.splitn(3, '/');
    let namespace = parts.next()?;
    let namespace = Namespace::ALL.into_iter().find(|known| known.name() == namespace)?;
    Some((namespace, parts.nth(1)?.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(name: &str, kind: Kind, parent: &str) -> Info {
        Info { name: name.to_owned(), kind: kind.into(), parent: parent.to_owned(), ..Info::default() }
    }

    fn active() -> Snapshot {
        Snapshot { parent: String::new(), state: State::Active(Vec::new()), layer: None }
    }

    #[test]
    fn a_commit_is_seen_in_both_lists() {
        let mut model = Model::default();
        model.put(Namespace::One, "key", active());
        model.apply(Namespace::One, "key", "v1-1".to_owned());
        model.commit(Namespace::One, "key", "name", "below");
        let listed = [info("name", Kind::Committed, "below")];
        assert_eq!(model.difference(Namespace::One, &listed), None);
        assert!(model.difference(Namespace::One, &[]).is_some());
        assert!(model.difference(Namespace::Two, &listed).is_some());
        assert_eq!(model.difference_below(&[info("one/7/name", Kind::Committed, "")]), None);
        assert!(model.difference_below(&[info("one/7/key", Kind::Active, "")]).is_some());
        assert_eq!(model.needed_layers(), BTreeSet::from(["v1-1"]));
    }

    #[test]
    fn what_is_removed_may_stay_below_until_garbage_is_collected() {
        let mut model = Model::default();
        model.put(Namespace::Two, "key", active());
        model.discard(Namespace::Two, "key");
        let listed = [info("two/1/key", Kind::Active, "")];
        assert_eq!(model.difference_below(&listed), None);
        assert_eq!(model.difference_below(&[]), None);
        model.collected();
        assert!(model.difference_below(&listed).is_some());
    }
}
