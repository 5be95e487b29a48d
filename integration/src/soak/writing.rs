//! What containers do to their snapshots, and what becomes of that.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::Soak;
use super::layers;
use super::model::{Container, Namespace};
use crate::client::Labels;
use crate::random::Random;

/// Names that are written to. Few, so that files are replaced and removed too.
const NAMES: [&str; 5] = ["a", "b", "etc", "srv", "opt"];

impl Soak {
    pub(super) fn write(&mut self) -> Result<()> {
        let Some((_, container)) = self.any_container() else { return Ok(()) };
        match layers::upper(&container.plan) {
            Some(upper) => {
                change(&upper, &mut self.random).with_context(|| format!("write to {}", upper.display()))
            }
            None => Ok(()),
        }
    }

    /// Nothing was written between the two comparisons, so both give the same bytes.
    pub(super) fn compare(&mut self) -> Result<()> {
        let Some((namespace, container)) = self.any_container() else { return Ok(()) };
        let client = self.client(namespace)?;
        let view = self.unused("view");
        let left = client.view(&view, &container.parent)?;
        let first = client.diff(left.clone(), container.plan.clone())?;
        let second = client.diff(left, container.plan)?;
        ensure!(first.digest == second.digest, "two comparisons gave {} and {}", first.digest, second.digest);
        ensure!(first.size > 0, "a comparison gave an empty blob");
        client.remove(&view)?;
        self.model.discard(namespace, &view);
        Ok(())
    }

    pub(super) fn commit_written(&mut self) -> Result<()> {
        let Some((namespace, container)) = self.any_container() else { return Ok(()) };
        let name = self.unused("written");
        let layer = layers::directory_of_written(&container.plan).context("a plan without its directory")?;
        self.client(namespace)?.commit(&name, &container.key, "", &Labels::new())?;
        self.model.apply(namespace, &container.key, layer);
        self.model.commit(namespace, &container.key, &name, &container.parent);
        Ok(())
    }

    fn any_container(&mut self) -> Option<(Namespace, Container)> {
        let namespace = self.any_namespace();
        let containers = self.model.containers(namespace);
        self.random.pick(&containers).cloned().map(|container| (namespace, container))
    }
}

/// Writes, replaces or removes something in a directory.
fn change(upper: &Path, random: &mut Random) -> Result<()> {
    for _ in 0..=random.below(4) {
        let name = random.pick(&NAMES).copied().unwrap_or("a");
        let path = upper.join(name);
        match (path.is_dir(), random.below(3)) {
            (true, 0) => fs::remove_dir_all(&path)?,
            (true, _) => fs::write(path.join("file"), vec![b'y'; random.below(20_000)])?,
            (false, 0) if path.exists() => fs::remove_file(&path)?,
            (false, 1) if !path.exists() => fs::create_dir(&path)?,
            (false, _) => fs::write(&path, vec![b'z'; random.below(20_000)])?,
        }
    }
    Ok(())
}
