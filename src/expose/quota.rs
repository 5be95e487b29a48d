//! Limits for the directories of a snapshot, where their file system has project quotas.
//!
//! A project is a number that files carry. Each limited snapshot has one of its own, from the upper
//! half of the numbers that other programs leave alone, and it stands in the snapshot's record.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Once;

use serde::{Deserialize, Serialize};

use crate::store::Error;
use crate::store::unique::Unique;
use crate::sys::project_quota;

/// The projects that we give are this bit and 30 random ones. Kubernetes counts up from 1048576, and
/// people count from 1.
const OURS: u32 = 0x4000_0000;

/// A limit of what a snapshot may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    /// The project that the snapshot's files belong to.
    pub project: u32,
    /// How many bytes they may take.
    pub bytes: u64,
}

/// The project quotas of the file system that snapshots lie on.
#[derive(Debug)]
pub struct ProjectQuotas {
    directory: PathBuf,
    told: Once,
}

impl ProjectQuotas {
    /// Those of the file system that holds `directory`.
    #[must_use]
    pub const fn new(directory: PathBuf) -> Self {
        Self { directory, told: Once::new() }
    }

    /// Whether the file system enforces project quotas. The first time that it does not, the log says so.
    #[must_use]
    pub fn are_enforced(&self) -> bool {
        let enforced = File::open(&self.directory).is_ok_and(|file| project_quota::is_enforced(&file));
        if !enforced {
            self.told.call_once(|| {
                tracing::warn!(
                    directory = %self.directory.display(),
                    "sizes that clients ask for do not limit directories: this file system enforces no project \
                     quotas. Mount it with prjquota (ext4, xfs), or use block mode"
                );
            });
        }
        enforced
    }

    /// A limit for a project that nobody else has, as far as `is_taken` knows.
    ///
    /// # Errors
    /// If the kernel has no random numbers yet.
    pub fn choose(&self, bytes: u64, is_taken: impl Fn(u32) -> bool) -> Result<Quota, Error> {
        loop {
            let unique = Unique::new().map_err(Error::io("number a project in", &self.directory))?;
            let [a, b, c, d, ..] = unique.to_bytes();
            let project = OURS | u32::from_ne_bytes([a, b, c, d]) >> 2;
            if !is_taken(project) {
                return Ok(Quota { project, bytes });
            }
        }
    }

    /// Limits what is written to `directories`, empty ones on this file system, all together.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn limit(&self, quota: Quota, directories: &[&Path]) -> Result<(), Error> {
        for directory in directories {
            let file = File::open(directory).map_err(Error::io("open", directory))?;
            project_quota::assign(&file, quota.project)
                .map_err(Error::io("set the project of", directory))?;
        }
        self.set(quota.project, quota.bytes)
    }

    /// Takes the limit of a snapshot away that is being deleted, so that the file system can forget it.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn lift(&self, quota: Quota) -> Result<(), Error> {
        self.set(quota.project, 0)
    }

    fn set(&self, project: u32, bytes: u64) -> Result<(), Error> {
        let file = File::open(&self.directory).map_err(Error::io("open", &self.directory))?;
        project_quota::limit(&file, project, bytes).map_err(Error::io("limit a project in", &self.directory))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn projects_are_ours_and_different_from_those_that_are_taken() {
        let quotas = ProjectQuotas::new(PathBuf::from("/"));
        let first = quotas.choose(1, |_| false).unwrap();
        assert!((OURS..OURS * 2).contains(&first.project));
        let refused = std::cell::Cell::new(None);
        let second = quotas.choose(1, |project| refused.replace(Some(project)).is_none()).unwrap();
        assert!((OURS..OURS * 2).contains(&second.project));
        assert_eq!(refused.get(), Some(second.project), "the first choice was taken");
    }
}
