//! What the client does, and what that changes of the model.

use std::thread;

use anyhow::{Context, Result, anyhow, bail, ensure};
use nexuserofs_proto::containerd::types::Mount;
use tonic::Code;

use super::Soak;
use super::layers::directory_of;
use super::model::{Namespace, Snapshot, State};
use crate::client::{Answer, Client, Labels, extraction_labels};
use crate::images::Layer;
use crate::random::Random;

/// Something that a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    /// Unpacks a layer onto an image.
    Extract,
    /// Unpacks a layer as containerd does it for several layers at once: the parent comes with the commit.
    ExtractDetached,
    /// Begins to unpack a layer and gives up.
    Abandon,
    /// Commits under a name that is taken.
    CommitTwice,
    /// Unpacks the same layer in both namespaces at the same time.
    Race,
    /// Makes a container's snapshot.
    Prepare,
    /// Makes a view.
    View,
    /// Writes to a container's snapshot.
    Write,
    /// Compares a container's snapshot with what it stands on, twice.
    Compare,
    /// Commits a container's snapshot.
    CommitWritten,
    /// Removes a snapshot, on which others may stand.
    Remove,
    /// Has garbage collected.
    Collect,
    /// Has everything of a namespace removed.
    Clear,
    /// Restarts the daemon.
    Restart,
    /// Kills the daemon and starts it again.
    Kill,
    /// Kills the daemon while it works.
    KillBusy,
}

/// How often each step is taken, relative to the others.
const WEIGHTS: [(Step, usize); 16] = [
    (Step::Extract, 20),
    (Step::ExtractDetached, 15),
    (Step::Abandon, 5),
    (Step::CommitTwice, 3),
    (Step::Race, 6),
    (Step::Prepare, 20),
    (Step::View, 8),
    (Step::Write, 12),
    (Step::Compare, 5),
    (Step::CommitWritten, 8),
    (Step::Remove, 40),
    (Step::Collect, 8),
    (Step::Clear, 1),
    (Step::Restart, 1),
    (Step::Kill, 1),
    (Step::KillBusy, 2),
];

impl Step {
    /// One of the steps, by their weights.
    pub(super) fn any(random: &mut Random) -> Self {
        let total = WEIGHTS.iter().map(|(_, weight)| weight).sum();
        let mut left = random.below(total);
        for (step, weight) in WEIGHTS {
            match left.checked_sub(weight) {
                Some(rest) => left = rest,
                None => return step,
            }
        }
        Self::Collect
    }
}

impl Soak {
    /// Takes a step.
    pub(super) fn take(&mut self, step: Step) -> Result<()> {
        match step {
            Step::Extract => self.extract(),
            Step::ExtractDetached => self.extract_detached(),
            Step::Abandon => self.abandon(),
            Step::CommitTwice => self.commit_twice(),
            Step::Race => self.race(),
            Step::Prepare => self.prepare(),
            Step::View => self.view(),
            Step::Write => self.write(),
            Step::Compare => self.compare(),
            Step::CommitWritten => self.commit_written(),
            Step::Remove => self.remove(),
            Step::Collect => self.collect(),
            Step::Clear => self.clear(),
            Step::Restart => self.restart(),
            Step::Kill => self.kill(),
            Step::KillBusy => self.kill_busy(),
        }
    }

    fn extract(&mut self) -> Result<()> {
        let namespace = self.any_namespace();
        let parent = self.any_parent(namespace);
        let (key, name) = (self.unused("extract"), self.unused("image"));
        self.begin_extraction(namespace, &key, &name, &parent)?;
        self.client(namespace)?.commit(&name, &key, "", &extraction_labels(&name, ""))?;
        self.model.commit(namespace, &key, &name, &parent);
        Ok(())
    }

    fn extract_detached(&mut self) -> Result<()> {
        let namespace = self.any_namespace();
        let parent = self.any_parent(namespace);
        let (key, name) = (self.unused("extract"), self.unused("image"));
        self.begin_extraction(namespace, &key, &name, "")?;
        self.client(namespace)?.commit(&name, &key, &parent, &extraction_labels(&name, ""))?;
        self.model.commit(namespace, &key, &name, &parent);
        Ok(())
    }

    /// Prepares a snapshot and applies a layer to it; sometimes twice, as after an answer that was lost.
    fn begin_extraction(&mut self, namespace: Namespace, key: &str, name: &str, parent: &str) -> Result<()> {
        let client = self.client(namespace)?;
        let layer = self.any_layer()?.layer;
        let mounts = client.prepare(key, parent, &extraction_labels(name, &layer.diff_id))?;
        self.put_active(namespace, key, parent, mounts.clone());
        if self.random.one_in(8) {
            apply(&client, &layer, mounts.clone())?;
        }
        apply(&client, &layer, mounts)?;
        self.model.apply(namespace, key, directory_of(&layer.diff_id));
        Ok(())
    }

    fn abandon(&mut self) -> Result<()> {
        let namespace = self.any_namespace();
        let parent = self.any_parent(namespace);
        let (key, name) = (self.unused("extract"), self.unused("image"));
        if self.random.one_in(2) {
            self.begin_extraction(namespace, &key, &name, &parent)?;
        } else {
            let client = self.client(namespace)?;
            let mounts = client.prepare(&key, &parent, &extraction_labels(&name, ""))?;
            self.put_active(namespace, &key, &parent, mounts);
        }
        self.remove_one(namespace, &key)
    }

    fn commit_twice(&mut self) -> Result<()> {
        let namespace = self.any_namespace();
        let committed = self.model.committed(namespace);
        let Some(taken) = self.random.pick(&committed).cloned() else { return Ok(()) };
        let (key, name) = (self.unused("extract"), self.unused("image"));
        self.begin_extraction(namespace, &key, &name, "")?;
        let client = self.client(namespace)?;
        expect(client.commit(&taken, &key, "", &Labels::new()), Code::AlreadyExists, "Commit")?;
        self.remove_one(namespace, &key)
    }

    fn race(&mut self) -> Result<()> {
        let layer = self.any_layer()?.layer;
        let mut work = Vec::new();
        for namespace in Namespace::ALL {
            let parent = self.any_parent(namespace);
            let (key, name) = (self.unused("extract"), self.unused("image"));
            work.push((namespace, self.client(namespace)?, parent, key, name));
        }
        thread::scope(|scope| {
            let threads: Vec<_> = work
                .iter()
                .map(|(_, client, parent, key, name)| {
                    let layer = &layer;
                    scope.spawn(move || extract(client, layer, key, name, parent))
                })
                .collect();
            threads
                .into_iter()
                .try_for_each(|thread| thread.join().map_err(|_| anyhow!("an unpacking thread panicked"))?)
        })?;
        for (namespace, _, parent, _, name) in work {
            self.put_committed(namespace, &name, &parent, &layer);
        }
        Ok(())
    }

    fn prepare(&mut self) -> Result<()> {
        let namespace = self.any_namespace();
        let (parent, key) = (self.any_parent(namespace), self.unused("container"));
        let mounts = self.client(namespace)?.prepare(&key, &parent, &Labels::new())?;
        self.put_active(namespace, &key, &parent, mounts);
        Ok(())
    }

    fn view(&mut self) -> Result<()> {
        let namespace = self.any_namespace();
        let (parent, key) = (self.any_parent(namespace), self.unused("view"));
        let plan = self.client(namespace)?.view(&key, &parent)?;
        self.model.put(namespace, &key, Snapshot { parent, state: State::View(plan), layer: None });
        Ok(())
    }

    fn remove(&mut self) -> Result<()> {
        let namespace = self.any_namespace();
        let keys: Vec<String> = self.model.of(namespace).map(|(key, _)| key.to_owned()).collect();
        let Some(key) = self.random.pick(&keys) else { return Ok(()) };
        if self.model.has_children(namespace, key) {
            expect(self.client(namespace)?.remove(key), Code::FailedPrecondition, "Remove of a parent")
        } else {
            self.remove_one(namespace, key)
        }
    }

    pub(super) fn remove_one(&mut self, namespace: Namespace, key: &str) -> Result<()> {
        self.client(namespace)?.remove(key).with_context(|| format!("remove {key}"))?;
        self.model.discard(namespace, key);
        Ok(())
    }

    /// containerd walks a snapshotter only after something was removed from it.
    pub(super) fn collect(&mut self) -> Result<()> {
        let (key, lease) = (self.unused("garbage"), self.unused("lease"));
        for client in self.clients.values() {
            client.create_lease(&lease)?;
            // Without a lease it could be collected before it is removed.
            let leased = client.under(&lease);
            leased.prepare(&key, "", &Labels::new())?;
            leased.remove(&key)?;
            client.delete_lease(&lease)?;
        }
        self.model.collected();
        self.check_collected()
    }

    fn clear(&mut self) -> Result<()> {
        let namespace = self.any_namespace();
        self.close_lease(namespace)?;
        self.collect()?;
        self.open_lease(namespace)
    }

    pub(super) fn put_active(&mut self, namespace: Namespace, key: &str, parent: &str, plan: Vec<Mount>) {
        let snapshot = Snapshot { parent: parent.to_owned(), state: State::Active(plan), layer: None };
        self.model.put(namespace, key, snapshot);
    }

    pub(super) fn put_committed(&mut self, namespace: Namespace, name: &str, parent: &str, layer: &Layer) {
        let (parent, layer) = (parent.to_owned(), Some(directory_of(&layer.diff_id)));
        self.model.put(namespace, name, Snapshot { parent, state: State::Committed, layer });
    }
}

/// Unpacks a layer from the first call to the last.
pub(super) fn extract(client: &Client, layer: &Layer, key: &str, name: &str, parent: &str) -> Result<()> {
    let labels = extraction_labels(name, &layer.diff_id);
    let mounts = client.prepare(key, "", &labels)?;
    apply(client, layer, mounts)?;
    Ok(client.commit(name, key, parent, &labels)?)
}

fn apply(client: &Client, layer: &Layer, mounts: Vec<Mount>) -> Result<()> {
    let diff_id = client.apply(layer, mounts)?;
    ensure!(diff_id == layer.diff_id, "Apply answered {diff_id} for {}", layer.diff_id);
    Ok(())
}

/// Demands a refusal with this code.
fn expect<T>(answer: Answer<T>, code: Code, what: &str) -> Result<()> {
    match answer {
        Err(status) if status.code() == code => Ok(()),
        Err(status) => bail!("{what} was refused with {status}, not with {code:?}"),
        Ok(_) => bail!("{what} succeeded, but must be refused with {code:?}"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_step_is_taken_sooner_or_later() {
        let mut random = Random::new(1);
        let taken: BTreeSet<Step> = (0..10_000).map(|_| Step::any(&mut random)).collect();
        assert_eq!(taken, WEIGHTS.map(|(step, _)| step).into());
    }
}
