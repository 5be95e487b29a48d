//! Settings of containerd that lead to the daemon, and some that do not.

use std::fs;

use super::super::finding::State;
use super::*;
use crate::cli::tool::report::Line;
use crate::client::plugins::Plugin;
use crate::config::{self, Fragment, Sourced};

const GOOD: &str = r#"
version = 3
[proxy_plugins.nexuserofs]
  type = "snapshot"
  address = "SOCKET"
  capabilities = ["rebase", "remap-ids"]
  exports = { root = "ROOT" }
[proxy_plugins.mine]
  type = "diff"
  address = "SOCKET"
[plugins."io.containerd.service.v1.diff-service"]
  default = ["mine", "walking"]
[[plugins."io.containerd.transfer.v1.local".unpack_config]]
  platform = "linux"
  snapshotter = "nexuserofs"
  differ = "mine"
"#;

fn plugin(kind: &str, id: &str) -> Plugin {
    Plugin { kind: kind.to_owned(), id: id.to_owned(), ..Plugin::default() }
}

/// A containerd with everything that the good settings name.
fn live() -> Live {
    let plugins = vec![plugin(SNAPSHOTTER, "nexuserofs"), plugin(DIFFER, "mine"), plugin(TRANSFER, "local")];
    Live { process: None, plugins }
}

/// What is found, but for what is as it has to be: each with its state.
fn complaints(text: &str, live: Option<&Live>) -> Vec<(State, String)> {
    let directory = tempfile::tempdir().unwrap();
    let (root, socket) = (directory.path().join("root"), directory.path().join("s.sock"));
    let root = root.to_str().unwrap().to_owned();
    let socket = socket.to_str().unwrap().to_owned();
    let path = directory.path().join("config.toml");
    fs::write(&path, text.replace("ROOT", &root).replace("SOCKET", &socket)).unwrap();
    let flags = Fragment {
        root: Some(Sourced::flag(root)),
        address: Some(Sourced::flag(socket)),
        ..Fragment::default()
    };
    let settings = config::load(flags, None).unwrap();
    let findings = check(&settings, live, Some(&path)).into_iter();
    let wrong = findings.filter(|finding| finding.state != State::Ok);
    wrong.map(|finding| (finding.state, finding.text())).collect()
}

#[test]
fn settings_that_lead_to_the_daemon_are_fine() {
    assert_eq!(complaints(GOOD, Some(&live())), []);
    let by_uri = GOOD.replace("\"SOCKET\"", "\"unix://SOCKET\"");
    assert_eq!(complaints(&by_uri, Some(&live())), []);
}

#[test]
fn each_mistake_is_told_with_what_to_do() {
    for (from, to, state, words) in [
        ("\"snapshot\"", "\"snapshots\"", State::Failure, "no proxy plugin of the type \"snapshot\""),
        ("\"diff\"", "\"differ\"", State::Failure, "no proxy plugin of the type \"diff\""),
        ("\"SOCKET\"", "\"SOCKET.old\"", State::Failure, "nexuserofs leads to"),
        (", \"remap-ids\"", "", State::Warning, "user namespace"),
        ("{ root = \"ROOT\" }", "{}", State::Warning, "Kubernetes"),
        ("\"ROOT\"", "\"/elsewhere\"", State::Warning, "/elsewhere"),
        ("[\"mine\", \"walking\"]", "[\"walking\", \"mine\"]", State::Failure, "diff service"),
        ("[\"mine\", \"walking\"]", "[\"walking\"]", State::Failure, "diff service"),
        ("snapshotter = \"nexuserofs\"", "snapshotter = \"other\"", State::Failure, "does not unpack for"),
        ("differ = \"mine\"", "differ = \"walking\"", State::Failure, "with walking"),
        ("[proxy_plugins.nexuserofs]", "[proxy_plugins.typo]", State::Failure, "no such profile"),
        (
            "version = 3",
            "[plugins.\"io.containerd.cri.v1.images\"]\nsnapshotter = \"nexuserofs\"\ndiscard_unpacked_layers = true",
            State::Warning,
            "discard_unpacked_layers",
        ),
    ] {
        let changed = GOOD.replace(from, to);
        assert_ne!(changed, GOOD, "{from}");
        let found = complaints(&changed, Some(&live()));
        let is_told =
            |(told, text): &(State, String)| *told == state && text.contains(words) && text.contains("->");
        assert!(found.iter().any(is_told), "{to}: {found:#?}");
    }
}

#[test]
fn what_containerd_did_not_read_or_load_is_told() {
    let lacking = Live { process: None, plugins: vec![plugin(SNAPSHOTTER, "nexuserofs")] };
    let found = complaints(GOOD, Some(&lacking));
    assert!(
        found.iter().any(|(_, text)| text.contains("mine is in the settings, and containerd")),
        "{found:?}"
    );
    let mut broken = live();
    broken.plugins[0].fault = Some("no such socket".to_owned());
    let found = complaints(GOOD, Some(&broken));
    assert!(found.iter().any(|(_, text)| text.contains("no such socket")), "{found:?}");
    let found = complaints(GOOD, None);
    assert!(found.iter().all(|(state, _)| *state == State::Unknown) && found.len() == 2, "{found:?}");
}
