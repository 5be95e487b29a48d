//! `nexuserofs doctor`: what is wrong with a node, and what to do about it.
//!
//! It looks and changes nothing. Checks are made against the settings of the daemon, so that what nobody asked
//! for is not missed.
//!
//! * `kernel`, `root`, `daemon`, `programs`: what the daemon stands on. * `containerd`: containerd as it runs.
//! * `configuration`: containerd's settings file, read. * `wiring`: whether that leads to the daemon.
//! * `finding`: what a check found.

mod configuration;
mod containerd;
mod daemon;
mod finding;
mod kernel;
mod programs;
mod root;
mod wiring;

use std::path::{Path, PathBuf};

use self::finding::{Area, Finding, State};
use super::arguments::Doctor;
use super::error::Error;
use super::report::{Console, Report};
use crate::cli::exit::Exit;
use crate::config::{self, Fragment, Settings, Sourced};

/// Settings file of the daemon's unit.
const CONFIG: &str = "/etc/nexuserofs/nexuserofs.toml";

/// Looks at the node that `asked` describes.
pub(super) fn run(asked: &Doctor, console: Console) -> Result<Exit, Error> {
    let mut report = Report::default();
    for finding in findings(asked) {
        report.add(finding);
    }
    report.print(console)?;
    let worst = report.lines().iter().map(|finding| finding.state).max();
    Ok(if worst == Some(State::Failure) { Exit::Unfit } else { Exit::Success })
}

fn findings(asked: &Doctor) -> Vec<Finding> {
    let file = settings_file(asked);
    let settings = match config::load(flags(asked), file.as_deref()) {
        Ok(settings) => settings,
        Err(error) => {
            let advice = "the daemon does not start with such settings either; nothing else was looked at";
            return vec![Area::Settings.failure("settings", error, advice)];
        }
    };
    let mut findings = vec![Area::Settings.ok("settings", told(file.as_deref(), &settings))];
    findings.extend(kernel::check(&settings));
    findings.extend(root::check(&settings));
    findings.extend(daemon::check(&settings));
    findings.extend(programs::check(&settings));
    let (live, found) = containerd::check(&settings);
    findings.extend(found);
    findings.extend(wiring::check(&settings, live.as_ref(), asked.containerd_config.as_deref()));
    findings
}

/// The daemon's settings file: the one that was named, or that of its unit.
fn settings_file(asked: &Doctor) -> Option<PathBuf> {
    let usual = || Some(PathBuf::from(CONFIG)).filter(|path| path.exists());
    asked.config.clone().or_else(usual)
}

fn flags(asked: &Doctor) -> Fragment {
    Fragment {
        root: asked.root.clone().map(Sourced::flag),
        address: asked.address.clone().map(Sourced::flag),
        containerd_address: asked.containerd_address.clone().map(Sourced::flag),
        ..Fragment::default()
    }
}

fn told(file: Option<&Path>, settings: &Settings) -> String {
    let from = match file {
        Some(file) => format!("those of {}", file.display()),
        None => "the defaults, as there is no settings file".to_owned(),
    };
    let names: Vec<String> = settings.profiles.keys().map(ToString::to_string).collect();
    format!("{from}; root {}, profiles {}", settings.root, names.join(" "))
}
