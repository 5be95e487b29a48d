//! The doctor on real nodes: one as it should be, and some with something wrong, each of which it has to name.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use nexuserofs_integration::bed::{Bed, Needs, Profile};
use nexuserofs_integration::command::Run;
use nexuserofs_integration::harness::{self, Test};
use nexuserofs_integration::node::{DaemonOptions, Node, NodeOptions, Pull, Release, SNAPSHOTTER};
use serde_json::Value;

const TESTS: &[Test] = &[
    Test { name: "a_sound_node_has_nothing_that_fails", run: sound },
    Test { name: "a_daemon_that_is_gone_is_missed", run: gone },
    Test { name: "a_containerd_that_does_not_know_us_is_told", run: unknown },
    Test { name: "plans_that_containerd_cannot_follow_are_told", run: unfollowed },
    Test { name: "a_daemon_with_other_settings_is_told", run: changed },
];

/// Exit code where something is not as it has to be.
const UNFIT: i32 = 78;

fn main() -> Result<ExitCode> {
    harness::main(Needs { programs: Some(Profile::Debug), ..Needs::default() }, TESTS)
}

/// What the doctor says of a node, and its exit code.
struct Visit {
    findings: Vec<Value>,
    code: Option<i32>,
}

impl Visit {
    fn of(bed: &Bed, node: &Node, arguments: &[&str]) -> Result<Self> {
        Self::with_root(bed, node, "nexuserofs", arguments)
    }

    /// Looks at the directory `root` of the node in place of its daemon's.
    fn with_root(bed: &Bed, node: &Node, root: &str, arguments: &[&str]) -> Result<Self> {
        let doctor = Run::new(bed.place.programs.join("nexuserofs"))
            .args(["doctor", "--json", "--containerd-address"])
            .arg(node.containerd.socket())
            .args(["--root", &path(node, root)?, "--address", &path(node, "nexuserofs.sock")?])
            .args(arguments);
        let output = doctor.into_command().output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let findings = serde_json::from_slice(&output.stdout).with_context(|| said)?;
        Ok(Self { findings, code: output.status.code() })
    }

    /// The findings in this state, as `area check: found`.
    fn in_state(&self, state: &str) -> Vec<String> {
        let found = self.findings.iter().filter(|finding| finding["state"] == state);
        let text = |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
        found
            .map(|finding| {
                format!("{} {}: {}", text(finding, "area"), text(finding, "check"), text(finding, "found"))
            })
            .collect()
    }

    /// That something fails, and just this.
    fn fails(&self, expected: &[&str]) -> Result<()> {
        let failures = self.in_state("failure");
        ensure!(self.code == Some(UNFIT), "exit code {:?}: {failures:#?}", self.code);
        let is_told = |words: &&str| failures.iter().any(|failure| failure.contains(words));
        ensure!(expected.iter().all(is_told), "{expected:#?} are not all in {failures:#?}");
        let is_expected = |failure: &String| expected.iter().any(|words| failure.contains(words));
        ensure!(failures.iter().all(is_expected), "more than {expected:#?} is in {failures:#?}");
        Ok(())
    }
}

fn path(node: &Node, name: &str) -> Result<String> {
    let path: PathBuf = node.dir().join(name);
    Ok(path.to_str().context("the path is not UTF-8")?.to_owned())
}

fn start(bed: &Bed, name: &str, options: NodeOptions) -> Result<Node> {
    let daemon = Some(DaemonOptions::default());
    Node::start(&bed.place, name, &NodeOptions { daemon, ..options })
}

fn sound(bed: &Bed) -> Result<()> {
    let node = start(bed, "doctor-sound", NodeOptions::default())?;
    let reference = node.push(&bed.images.demo)?;
    node.containerd.pull("default", SNAPSHOTTER, Pull::Transfer, &reference)?;
    let visit = Visit::of(bed, &node, &[])?;
    let failures = visit.in_state("failure");
    ensure!(visit.code == Some(0) && failures.is_empty(), "{:?}: {failures:#?}", visit.code);
    let fine = visit.in_state("ok");
    for words in [
        // The file that containerd was started with is found by its process.
        "wiring file: /",
        "kernel erofs",
        "daemon profile: nexuserofs is served",
        "daemon profile: nexuserofs-host is served",
        "daemon records: it has those in",
        "containerd version: ",
        "containerd mount manager: it follows the plans of nexuserofs",
        "wiring snapshotter: nexuserofs leads to the daemon",
        "wiring differ: nexuserofs-diff leads to the daemon",
        "wiring diff service: it asks nexuserofs-diff first",
        "wiring transfer service: it unpacks for nexuserofs with nexuserofs-diff",
    ] {
        ensure!(fine.iter().any(|finding| finding.contains(words)), "{words:?} is not in {fine:#?}");
    }
    let wiring = visit.in_state("warning");
    ensure!(!wiring.iter().any(|finding| finding.starts_with("wiring")), "{wiring:#?}");
    Ok(())
}

fn gone(bed: &Bed) -> Result<()> {
    let mut node = start(bed, "doctor-gone", NodeOptions::default())?;
    let reference = node.push(&bed.images.demo)?;
    node.containerd.pull("default", SNAPSHOTTER, Pull::Transfer, &reference)?;
    node.daemon()?.kill()?;
    let is_told = |visit: &Visit, words: &str| {
        let fine = visit.in_state("ok");
        ensure!(fine.iter().any(|finding| finding.contains(words)), "{words:?} is not in {fine:#?}");
        Ok(())
    };
    let visit = Visit::of(bed, &node, &[])?;
    visit.fails(&["daemon socket: "])?;
    is_told(&visit, "left open by a daemon that was killed")?;
    // The look left the records as they were: the daemon starts with them.
    node.daemon()?.restart()?;
    node.daemon()?.stop()?;
    let visit = Visit::of(bed, &node, &[])?;
    visit.fails(&["daemon socket: cannot connect"])?;
    let layers = bed.images.demo.layers()?.len();
    is_told(&visit, &format!("daemon records: {layers} snapshots and {layers} layers"))?;
    node.daemon()?.restart()?;
    ensure!(Visit::of(bed, &node, &[])?.code == Some(0), "the daemon runs again");
    Ok(())
}

fn unknown(bed: &Bed) -> Result<()> {
    let node = Node::start(&bed.place, "doctor-unknown", &NodeOptions::default())?;
    Visit::of(bed, &node, &[])?.fails(&[
        "daemon socket: cannot connect",
        "wiring snapshotter: no proxy plugin",
        "wiring differ: no proxy plugin",
    ])
}

fn unfollowed(bed: &Bed) -> Result<()> {
    let node =
        start(bed, "doctor-unfollowed", NodeOptions { release: Release::V2_1, ..NodeOptions::default() })?;
    Visit::of(bed, &node, &[])?.fails(&["containerd mount manager: there is none, and nexuserofs has"])
}

fn changed(bed: &Bed) -> Result<()> {
    let node = start(bed, "doctor-changed", NodeOptions::default())?;
    let settings = path(&node, "changed.toml")?;
    std::fs::write(&settings, "[profiles.nexuserofs-new]\n")?;
    Visit::of(bed, &node, &["--config", &settings])?
        .fails(&["daemon profile: nexuserofs-new is in the settings"])?;
    let elsewhere = Visit::with_root(bed, &node, "elsewhere", &[])?;
    elsewhere.fails(&["daemon records: the daemon that listens does not work in"])
}
