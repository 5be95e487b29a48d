//! What must hold after each step.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Result, bail, ensure};
use nexuserofs_proto::containerd::services::snapshots::v1::{Info, Kind};

use super::Soak;
use super::layers::directory_name;
use crate::command::Run;
use crate::harness::eventually;
use crate::leaks;

/// Of so many new layer files, fsck.erofs looks at one.
const CHECKED_SHARE: usize = 3;

/// Threads of the daemon that read what was written.
const READERS: usize = 2;

/// How many plans are asked for again after a step.
const PLANS: usize = 4;

impl Soak {
    /// Both lists are what the model says, plans are what they were, layers are there, nothing is mounted that
    /// need not be.
    pub(super) fn check(&mut self) -> Result<()> {
        self.check_lists()?;
        self.check_plans()?;
        self.check_layers()?;
        self.check_mounts()
    }

    fn check_lists(&self) -> Result<()> {
        for (namespace, client) in &self.clients {
            if let Some(difference) = self.model.difference(*namespace, &client.list()?) {
                bail!("{difference}");
            }
        }
        match self.model.difference_below(&self.listed_below()?) {
            Some(difference) => bail!("{difference}"),
            None => Ok(()),
        }
    }

    fn listed_below(&self) -> Result<Vec<Info>> {
        let mut infos = Vec::new();
        for client in &self.below {
            infos.extend(client.list()?);
        }
        Ok(infos)
    }

    fn check_plans(&mut self) -> Result<()> {
        for (namespace, client) in &self.clients {
            let with_plans: Vec<_> = self
                .model
                .of(*namespace)
                .filter_map(|(key, snapshot)| Some((key.to_owned(), snapshot.plan()?.clone())))
                .collect();
            for _ in 0..PLANS.min(with_plans.len()) {
                let Some((key, plan)) = self.random.pick(&with_plans) else { continue };
                let now = client.mounts(key)?;
                ensure!(now == *plan, "the plan of {key} changed from {plan:?} to {now:?}");
            }
        }
        Ok(())
    }

    /// Every layer that is needed is there, none that nobody ever asked for, and the new ones are whole.
    fn check_layers(&mut self) -> Result<()> {
        let needed = self.model.needed_layers();
        let daemon = self.node.daemon()?;
        // A layer of what was written is made after its commit.
        eventually(|| {
            let found = names(&daemon.layers()?);
            let missing: Vec<_> = needed.iter().filter(|name| !found.contains(**name)).collect();
            Ok((!missing.is_empty()).then(|| format!("layers are missing on disk: {missing:?}")))
        })?;
        let files = daemon.layers()?;
        self.checked.retain(|file| files.contains(file));
        let new: Vec<PathBuf> = files.into_iter().filter(|file| !self.checked.contains(file)).collect();
        for file in new {
            if self.random.one_in(CHECKED_SHARE) {
                Run::new("fsck.erofs").arg("--extract").arg(&file).run()?;
            }
            self.checked.push(file);
        }
        Ok(())
    }

    /// The host flavour mounts layers, and writable blocks with a loop device each. What was written to a block
    /// is read through another loop device.
    fn check_mounts(&mut self) -> Result<()> {
        let kinds = self.listed_below()?;
        let containers = kinds.iter().filter(|info| info.kind() == Kind::Active).count();
        let daemon = self.node.daemon()?;
        let root = daemon.root().to_owned();
        eventually(|| {
            let layers = daemon.layers()?.len();
            let (mounts, loops) = (leaks::mounts_below(&root)?, leaks::loops_below(&root)?);
            let explained = mounts.len() <= layers + containers && loops.len() <= containers + READERS;
            Ok((!explained).then(|| {
                format!("{layers} layers and {containers} containers need no more than some of these: {mounts:#?} {loops:?}")
            }))
        })
    }

    /// After garbage collection there is exactly what is needed, and nothing half-made.
    pub(super) fn check_collected(&mut self) -> Result<()> {
        let needed: BTreeSet<String> = self.model.needed_layers().into_iter().map(str::to_owned).collect();
        let records = self.listed_below()?.len();
        let daemon = self.node.daemon()?;
        eventually(|| {
            let found = names(&daemon.layers()?);
            let surplus: Vec<_> = found.difference(&needed).collect();
            let staging = daemon.entries("staging")?;
            let directories = daemon.entries("snapshots")?.len();
            let clean = surplus.is_empty() && staging.is_empty() && directories == records;
            Ok((!clean).then(|| {
                format!("layers that nobody needs {surplus:?}, in staging {staging:?}, {directories} directories for {records} snapshots")
            }))
        })
    }

    /// Nothing reminds of anything.
    pub(super) fn check_empty(&self) -> Result<()> {
        self.node.assert_nothing_left()
    }
}

/// The directories of layer files.
fn names(files: &[PathBuf]) -> BTreeSet<String> {
    files.iter().filter_map(|file| directory_name(file)).collect()
}
