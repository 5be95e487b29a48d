//! The file system and the network, by the crate landlock: no path can be opened, and nothing be connected to.

use landlock::{ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetError, RulesetStatus, Scope};

use crate::expose::export::Error;

/// The newest rules that are asked for: those of Linux 6.12. An older kernel takes those that it has.
const NEWEST: ABI = ABI::V6;

/// Gives up every file that is not open, every port, and signals to others.
pub(super) fn enter() -> Result<(), Error> {
    let status = enforce()
        .map_err(|error| Error::Confinement { what: "the file system", reason: error.to_string() })?;
    match status {
        RulesetStatus::FullyEnforced => {}
        RulesetStatus::PartiallyEnforced => {
            tracing::debug!("the kernel has a part of what Landlock is asked for")
        }
        // What is left of the user's rights is little, and no system call opens a file.
        RulesetStatus::NotEnforced => tracing::debug!("the kernel has no Landlock, or it is off"),
    }
    Ok(())
}

fn enforce() -> Result<RulesetStatus, RulesetError> {
    let rules = Ruleset::default()
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?;
    Ok(rules.restrict_self()?.ruleset)
}
