//! containerd as it runs: whether it answers, and what it can do for our plans.

use super::finding::{Area, Finding};
use crate::client::Connection;
use crate::client::plugins::Plugin;
use crate::config::{Flavour, Settings};

/// Types of plugins (`plugins/types.go` in containerd).
const MOUNT_MANAGER: &str = "io.containerd.mount-manager.v1";
pub(super) const SNAPSHOTTER: &str = "io.containerd.snapshotter.v1";
pub(super) const DIFFER: &str = "io.containerd.differ.v1";
pub(super) const TRANSFER: &str = "io.containerd.transfer.v1";

/// The oldest release that has snapshotters and differs as proxies, and is looked after.
const OLDEST: (u32, u32) = (1, 7);

/// A containerd that answered.
#[derive(Debug)]
pub(super) struct Live {
    /// Its process, unless it cannot be seen from here.
    pub(super) process: Option<u32>,
    pub(super) plugins: Vec<Plugin>,
}

impl Live {
    /// The plugin with this type and name.
    pub(super) fn plugin(&self, kind: &str, id: &str) -> Option<&Plugin> {
        self.plugins.iter().find(|plugin| plugin.kind == kind && plugin.id == id)
    }

    /// Whether a plugin of this type works.
    pub(super) fn has(&self, kind: &str) -> bool {
        self.plugins.iter().any(|plugin| plugin.kind == kind && plugin.fault.is_none())
    }
}

/// What containerd is. What it consists of is returned with what was found.
pub(super) fn check(settings: &Settings) -> (Option<Live>, Vec<Finding>) {
    let address = &settings.containerd.address;
    let advice = "start containerd, or name its socket: containerd_address in the settings";
    let answer = Connection::open(address)
        .and_then(|connection| Ok((connection.version()?, connection.plugins()?, connection.process())));
    let (version, plugins, process) = match answer {
        Ok(answer) => answer,
        Err(error) => return (None, vec![Area::Containerd.failure("socket", error, advice)]),
    };
    let live = Live { process, plugins };
    let mut findings = vec![version_of(&version)];
    findings.extend(templates(settings, &live));
    (Some(live), findings)
}

fn version_of(version: &str) -> Finding {
    match numbers(version) {
        Some(found) if found < OLDEST => Area::Containerd.failure(
            "version",
            format!("{version} is too old"),
            "use containerd 1.7 or newer, 2.2 or newer for every profile",
        ),
        _ => Area::Containerd.ok("version", format!("{version} answers")),
    }
}

/// Whether containerd's own clients can follow plans with templates, for each profile that has such.
fn templates(settings: &Settings, live: &Live) -> Vec<Finding> {
    const CHECK: &str = "mount manager";
    let has_manager = live.has(MOUNT_MANAGER);
    let wants_templates = settings.profiles.iter().filter(|(name, profile)| {
        profile.flavour == Flavour::Template && live.plugin(SNAPSHOTTER, name.as_str()).is_some()
    });
    let findings = wants_templates.map(|(name, _)| match has_manager {
        true => Area::Containerd.ok(CHECK, format!("it follows the plans of {name}")),
        false => Area::Containerd.failure(
            CHECK,
            format!("there is none, and {name} has plans with templates: runc gets no root file system"),
            "use the profile nexuserofs-host, or containerd 2.2 or newer; Kata and nerdbox need no mount manager",
        ),
    });
    findings.collect()
}

/// The first two numbers of `v2.4.0-rc.1` and the like.
fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.trim_start_matches('v').split('.').map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tool::doctor::finding::State;

    #[test]
    fn old_releases_are_told() {
        let state = |version| version_of(version).state;
        for version in ["v2.3.4", "1.7.24~ds1", "v10.0.0", "2.4.0-rc.1", "unknown"] {
            assert_eq!(state(version), State::Ok, "{version}");
        }
        for version in ["1.6.36", "v0.2.0"] {
            assert_eq!(state(version), State::Failure, "{version}");
        }
    }
}
