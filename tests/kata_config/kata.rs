//! What is there for Kata and nerdbox: its files agree with each other and with what the document says.

use std::collections::BTreeSet;
use std::fs;

use nexuserofs::config::{self, Fragment, VerityMode};
use toml::{Table, Value};

use crate::{KATA_DROP_IN, at, path, plugins, read, table, text};

const CRI: &str = "io.containerd.cri.v1.runtime";

/// Handlers of a drop-in with the snapshotter of each.
fn handlers(drop_in: &Table) -> Vec<(String, String)> {
    let runtimes = at(drop_in, &["plugins", CRI, "containerd", "runtimes"]).as_table().expect("handlers");
    let handler = |(name, runtime): (&String, &Value)| {
        (name.clone(), runtime["snapshotter"].as_str().expect("a snapshotter").to_owned())
    };
    runtimes.iter().map(handler).collect()
}

/// The blocks of a document in this language.
fn blocks(document: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    document
        .split(&fence)
        .skip(1)
        .filter_map(|rest| rest.split_once("\n```"))
        .map(|(block, _)| block.to_owned())
        .collect()
}

#[test]
fn every_handler_has_a_snapshotter_that_is_configured() {
    let kata = table(KATA_DROP_IN);
    let snapshotters = plugins(&kata, "snapshot");
    for (handler, snapshotter) in handlers(&kata) {
        assert!(snapshotters.contains(&snapshotter), "{handler}");
        assert!(handler.ends_with(&snapshotter), "{handler} is not named after {snapshotter}");
    }
    let nerdbox = handlers(&table("containerd-nerdbox.toml"));
    let known = plugins(&table("containerd.toml"), "snapshot");
    assert!(nerdbox.iter().all(|(_, snapshotter)| known.contains(snapshotter)), "{nerdbox:?}");
}

#[test]
fn a_snapshotter_of_which_a_pod_brings_its_policy_is_one_that_checks_layers() {
    let runtimes = table(KATA_DROP_IN);
    let runtimes = at(&runtimes, &["plugins", CRI, "containerd", "runtimes"]).as_table().expect("handlers");
    for runtime in runtimes.values().filter(|runtime| runtime.get("pod_annotations").is_some()) {
        let snapshotter = runtime["snapshotter"].as_str().expect("a snapshotter");
        assert_eq!(config::Named::of(snapshotter).verity, Some("require"), "{snapshotter}");
    }
}

#[test]
fn the_settings_of_the_document_are_settings() {
    let document = read("../docs/kata.md");
    let blocks: Vec<_> =
        blocks(&document, "toml").into_iter().filter(|block| block.contains("[profiles.")).collect();
    assert!(!blocks.is_empty(), "the document shows the profiles");
    let file = tempfile::NamedTempFile::new().expect("a file");
    for block in blocks {
        fs::write(file.path(), &block).expect("a file");
        let settings = config::load(Fragment::default(), Some(file.path())).expect("settings");
        let named = |name: &str| {
            settings.profiles.iter().find(|(profile, _)| profile.as_str() == name).map(|(_, profile)| profile)
        };
        for snapshotter in plugins(&table(KATA_DROP_IN), "snapshot") {
            assert!(named(&snapshotter).is_some(), "the drop-in has {snapshotter}, the settings do not");
        }
        assert_eq!(named("nexuserofs-verity").expect("a profile").verity, VerityMode::Require);
    }
}

/// Keys of Kata's configuration that the files set, with the kind of their values (kata-containers, commit
/// 7c6ba40c, `src/libs/kata-types/src/config/`).
const KEYS: &[(&str, &str)] = &[
    ("hypervisor.qemu.shared_fs", "string"),
    ("hypervisor.qemu.block_device_driver", "string"),
    ("hypervisor.qemu.block_device_cache_set", "boolean"),
    ("hypervisor.qemu.block_device_cache_direct", "boolean"),
    ("hypervisor.qemu.block_device_cache_noflush", "boolean"),
    ("hypervisor.qemu.kernel", "string"),
    ("hypervisor.qemu.image", "string"),
    ("hypervisor.qemu.enable_annotations", "array"),
    ("hypervisor.qemu.enable_debug", "boolean"),
    ("agent.kata.create_container_timeout", "integer"),
    ("agent.kata.enable_debug", "boolean"),
    ("agent.kata.debug_console_enabled", "boolean"),
];

fn keys(table: &Table, at: &str) -> BTreeSet<(String, String)> {
    let key = |(name, value): (&String, &Value)| {
        let path = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
        match value {
            Value::Table(table) => keys(table, &path),
            value => BTreeSet::from([(path, value.type_str().to_owned())]),
        }
    };
    table.iter().flat_map(key).collect()
}

#[test]
fn katas_drop_ins_set_keys_that_kata_has() {
    let mut found = BTreeSet::new();
    for file in ["kata-plain.toml", "kata-verity.toml", "kata-confidential.toml"] {
        found.extend(keys(&table(file), ""));
    }
    let known = KEYS.iter().map(|(key, kind)| ((*key).to_owned(), (*kind).to_owned())).collect();
    assert_eq!(found, known);
    assert_eq!(text(&table("kata-plain.toml"), &["hypervisor", "qemu", "shared_fs"]), "none");
}

#[test]
fn the_document_speaks_of_every_file_and_of_the_layer_that_holds_nothing() {
    let document = read("../docs/kata.md");
    let nothing = nexuserofs::image::empty::layer().expect("a layer");
    assert!(document.contains(&nothing.root.hex()));
    for entry in fs::read_dir(path("")).expect("kata-config") {
        let name = entry.expect("an entry").file_name().into_string().expect("UTF-8");
        let is_ours = [
            "kata-",
            "containerd-kata",
            "containerd-nerdbox",
            "guest-",
            "runtimeclass",
            "daemonset",
            "policy",
        ];
        if is_ours.iter().any(|start| name.starts_with(start)) {
            assert!(document.contains(&name), "{name}");
        }
    }
}
