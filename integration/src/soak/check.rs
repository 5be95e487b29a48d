//! What must hold after each step.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};

use super::Soak;
use crate::command::Run;
use crate::harness::eventually;

/// Of so many new layer files, fsck.erofs looks at one.
const CHECKED_SHARE: usize = 3;

/// How many plans are asked for again after a step.
const PLANS: usize = 4;

impl Soak {
    /// Both lists are what the model says, plans are what they were, layers are there, nothing is mounted.
    pub(super) fn check(&mut self) -> Result<()> {
        self.check_lists()?;
        self.check_plans()?;
        self.check_layers()?;
        self.node.assert_nothing_mounted()
    }

    fn check_lists(&self) -> Result<()> {
        for (namespace, client) in &self.clients {
            if let Some(difference) = self.model.difference(*namespace, &client.list()?) {
                bail!("{difference}");
            }
        }
        match self.model.difference_below(&self.below.list()?) {
            Some(difference) => bail!("{difference}"),
            None => Ok(()),
        }
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
        let files = self.node.daemon()?.layers()?;
        let found: BTreeSet<String> = files.iter().filter_map(|file| directory_name(file)).collect();
        let needed: BTreeSet<String> = self.model.needed_layers().into_iter().map(directory_of).collect();
        let missing: Vec<_> = needed.difference(&found).collect();
        ensure!(missing.is_empty(), "layers are missing on disk: {missing:?}");
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

    /// After garbage collection there is exactly what is needed, and nothing half-made.
    pub(super) fn check_collected(&mut self) -> Result<()> {
        let needed: BTreeSet<String> = self.model.needed_layers().into_iter().map(directory_of).collect();
        let records = self.below.list()?.len();
        let daemon = self.node.daemon()?;
        eventually(|| {
            let found: BTreeSet<String> =
                daemon.layers()?.iter().filter_map(|file| directory_name(file)).collect();
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
    pub(super) fn check_empty(&mut self) -> Result<()> {
        let daemon = self.node.daemon()?;
        eventually(|| {
            let mut left = Vec::new();
            for directory in ["layers", "snapshots", "staging"] {
                left.extend(daemon.entries(directory)?);
            }
            Ok((!left.is_empty()).then(|| format!("left below the daemon's root: {left:?}")))
        })
    }
}

/// The directory of a layer, as `docs/architecture.md` describes it.
fn directory_of(diff_id: &str) -> String {
    let digits: String = diff_id.trim_start_matches("sha256:").chars().take(32).collect();
    format!("v1-{digits}")
}

fn directory_name(layer: &Path) -> Option<String> {
    Some(layer.parent()?.file_name()?.to_str()?.to_owned())
}
