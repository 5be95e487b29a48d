//! `nexuserofs doctor`, without containerd. `integration/tests/doctor.rs` has one.

use std::fs;

use serde_json::Value;

use super::super::daemon::Place;
use super::{text, tool};

/// Something on the node is not as it has to be.
const UNFIT: i32 = 78;

/// What the doctor finds with these arguments, after it ended with [`UNFIT`].
fn findings(arguments: &[&str]) -> Vec<Value> {
    let output = tool(&[&["doctor", "--json"], arguments].concat());
    assert_eq!(output.status.code(), Some(UNFIT), "{}", String::from_utf8_lossy(&output.stdout));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// The finding of a check; there is one.
fn of<'f>(findings: &'f [Value], area: &str, check: &str) -> &'f Value {
    let mut found = findings.iter().filter(|finding| finding["area"] == area && finding["check"] == check);
    let first = found.next().unwrap_or_else(|| panic!("no {area} {check}: {findings:#?}"));
    assert!(found.next().is_none(), "two of {area} {check}: {findings:#?}");
    first
}

#[test]
fn a_node_where_nothing_runs_is_told_from_one_with_wrong_settings() {
    let place = Place::new();
    let (root, socket, containerd) = (place.arg("root"), place.arg("s.sock"), place.arg("c.sock"));
    let config = place.arg("containerd.toml");
    fs::write(&config, "version = 3\n").expect("file");
    let node = ["--root", &root, "--address", &socket, "--containerd-address", &containerd];
    let arguments = [&node[..], &["--containerd-config", &config]].concat();
    let found = findings(&arguments);
    for (area, check, state) in [
        ("settings", "settings", "ok"),
        ("root", "directory", "ok"),
        ("programs", "mkfs.erofs", "ok"),
        ("daemon", "socket", "failure"),
        ("containerd", "socket", "failure"),
        ("wiring", "file", "ok"),
        ("wiring", "snapshotter", "failure"),
        ("wiring", "differ", "failure"),
    ] {
        assert_eq!(of(&found, area, check)["state"], state, "{area} {check}");
    }
    for finding in &found {
        let has_advice = finding["advice"].is_string();
        assert_eq!(has_advice, finding["state"] != "ok", "what is wrong comes with what to do: {finding}");
    }
    assert!(!place.path("root").exists(), "the doctor changes nothing");

    let settings = place.arg("settings.toml");
    fs::write(&settings, "default_size = \"much\"\n").expect("file");
    let found = findings(&["--config", &settings]);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(text(&found[0], "found").contains("settings.toml:1"), "{found:#?}");
}

#[test]
fn what_a_profile_asks_for_is_missed_and_nothing_else() {
    let place = Place::new();
    let (root, settings) = (place.arg("root"), place.arg("settings.toml"));
    fs::create_dir_all(place.path("root/staging/half")).expect("directory");
    fs::create_dir_all(place.path("root/unreadable/one")).expect("directory");
    fs::write(place.path("root/metadata.redb"), [7; 9000]).expect("file");
    fs::write(
        &settings,
        format!("root = {root:?}\nmkfs_options = [\"-znothing\"]\ndefault_size = \"1GiB\"\n"),
    )
    .expect("file");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_nexuserofs"))
        .args(["doctor", "--json", "--config", &settings, "--address", &place.arg("s.sock")])
        .args(["--containerd-address", &place.arg("c.sock"), "--containerd-config", &place.arg("none.toml")])
        .env("PATH", place.path("root"))
        .output()
        .expect("program");
    let found: Vec<Value> = serde_json::from_slice(&output.stdout).expect("JSON");
    for (area, check, state) in [
        ("programs", "mkfs.ext4", "failure"),
        ("programs", "mkfs.erofs", "failure"),
        ("root", "staging", "warning"),
        ("root", "unreadable", "warning"),
        ("daemon", "records", "failure"),
        ("wiring", "file", "failure"),
        ("kernel", "dm-verity", "ok"),
    ] {
        assert_eq!(of(&found, area, check)["state"], state, "{area} {check}");
    }
    assert!(text(of(&found, "daemon", "records"), "found").contains("damaged"));
    let before = fs::read(place.path("root/metadata.redb")).expect("file");
    assert!(before == [7; 9000], "the doctor repairs nothing");
}

#[test]
fn people_are_told_what_to_do() {
    let place = Place::new();
    let arguments = ["doctor", "--root", &place.arg("root"), "--address", &place.arg("s.sock")];
    let output = tool(&[&arguments[..], &["--containerd-address", &place.arg("c.sock")]].concat());
    let said = String::from_utf8(output.stdout).expect("UTF-8");
    assert_eq!(output.status.code(), Some(UNFIT), "{said}");
    let socket = said.lines().position(|line| line.starts_with("FAIL  daemon socket: cannot connect"));
    let advice = said.lines().nth(socket.expect("a line about the daemon") + 1).expect("a line below it");
    assert!(advice.trim_start().starts_with("-> start it"), "{said}");
}
