//! The files of `kata-config/` agree with each other, with the daemon and with the documents.

// Helpers of tests may fail as tests do.
#![allow(clippy::expect_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nexuserofs::config::{self, Fragment, Named, Settings, defaults};
use toml::{Table, Value};

const DROP_IN: &str = "containerd.toml";
/// For releases that can mount nothing but the host flavour.
const OLD_DROP_IN: &str = "containerd-2.1.toml";
const TEMPLATE: &str = "nexuserofs";
const HOST: &str = "nexuserofs-host";
const UNIT: &str = "nexuserofs-snapshotter.service";
const SETTINGS: &str = "nexuserofs.toml";

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("kata-config").join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn table(name: &str) -> Table {
    read(name).parse().unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The value at a path of keys.
#[track_caller]
fn at<'a>(table: &'a Table, keys: &[&str]) -> &'a Value {
    let (first, rest) = keys.split_first().expect("a path has a key");
    let value = table.get(*first).unwrap_or_else(|| panic!("no key {first}"));
    rest.iter().fold(value, |value, key| value.get(key).unwrap_or_else(|| panic!("no key {key}")))
}

#[track_caller]
fn text<'a>(table: &'a Table, keys: &[&str]) -> &'a str {
    at(table, keys).as_str().expect("a text")
}

/// The names of the proxy plugins of a type, which must all be at our socket.
fn plugins(table: &Table, wanted: &str) -> Vec<String> {
    let plugins = at(table, &["proxy_plugins"]).as_table().expect("a table");
    let of_type = plugins.iter().filter(|(_, plugin)| plugin["type"].as_str() == Some(wanted));
    of_type
        .map(|(name, plugin)| {
            assert_eq!(plugin["address"].as_str(), Some(defaults::ADDRESS), "{name}");
            name.clone()
        })
        .collect()
}

/// The drop-ins with the snapshotters that each makes.
const DROP_INS: [(&str, &[&str]); 2] = [(DROP_IN, &[TEMPLATE, HOST]), (OLD_DROP_IN, &[HOST])];

#[test]
fn the_drop_ins_name_the_daemons_socket_root_and_profiles() {
    for (file, profiles) in DROP_INS {
        let drop_in = table(file);
        assert_eq!(at(&drop_in, &["version"]).as_integer(), Some(3));
        assert_eq!(plugins(&drop_in, "snapshot"), profiles);
        for profile in profiles {
            assert!(Named::standard().any(|name| name == *profile), "{profile}");
            let exported_root = text(&drop_in, &["proxy_plugins", profile, "exports", "root"]);
            assert_eq!(exported_root, defaults::ROOT);
        }
    }
}

#[test]
fn the_drop_ins_use_our_differ_wherever_containerd_chooses_one() {
    DROP_INS.iter().for_each(|(file, profiles)| assert_uses_our_differ(file, profiles));
}

fn assert_uses_our_differ(file: &str, profiles: &[&str]) {
    let drop_in = table(file);
    let [differ] = &plugins(&drop_in, "diff")[..] else { panic!("there is one differ") };
    let order = at(&drop_in, &["plugins", "io.containerd.service.v1.diff-service", "default"]);
    assert_eq!(order.as_array().expect("a list")[..], [differ.as_str().into(), "walking".into()]);

    let unpack = at(&drop_in, &["plugins", "io.containerd.transfer.v1.local", "unpack_config"]);
    let differs: BTreeMap<_, _> = unpack
        .as_array()
        .expect("a list")
        .iter()
        .map(|entry| (entry["snapshotter"].as_str(), entry["differ"].as_str()))
        .collect();
    let ours = profiles.iter().map(|profile| (Some(*profile), Some(differ.as_str())));
    let expected = ours.chain([(Some("overlayfs"), Some("walking"))]).collect();
    assert_eq!(differs, expected, "the list replaces the one with overlayfs");
}

#[test]
fn layers_are_extracted_in_parallel() {
    let drop_in = table(DROP_IN);
    for profile in [TEMPLATE, HOST] {
        let capabilities = at(&drop_in, &["proxy_plugins", profile, "capabilities"]);
        assert!(capabilities.as_array().expect("a list").contains(&"rebase".into()));
    }
    let transfer = at(&drop_in, &["plugins", "io.containerd.transfer.v1.local"]);
    assert!(transfer["max_concurrent_unpacks"].as_integer().expect("a number") > 1);
}

#[test]
fn user_namespaces_are_left_to_the_mounts() {
    for (file, profiles) in DROP_INS {
        let drop_in = table(file);
        for profile in profiles {
            let capabilities = at(&drop_in, &["proxy_plugins", profile, "capabilities"]);
            assert!(capabilities.as_array().expect("a list").contains(&"remap-ids".into()), "{file}");
        }
    }
}

#[test]
fn the_settings_file_states_every_setting_at_its_default() {
    let load = |file: Option<&Path>| config::load(Fragment::default(), file).expect("valid settings");
    let shown = |settings: &Settings| format!("{settings:#?}");
    assert_eq!(shown(&load(Some(&path(SETTINGS)))), shown(&load(None)));
    let keys = table(SETTINGS);
    for key in [
        "root",
        "address",
        "containerd_address",
        "containerd_namespace",
        "log_level",
        "log_format",
        "default_size",
        "enable_fsverity",
        "set_immutable",
        "builder",
        "mkfs_options",
        "overlay_options",
        "verity",
        "layer_content_caches",
        "trust_layer_content_caches",
        "profiles",
    ] {
        assert!(keys.contains_key(key), "{key}");
    }
}

/// The assignments of the unit's `[Service]` section.
fn service() -> BTreeMap<String, String> {
    let unit = read(UNIT);
    let section = unit.split("[Service]").nth(1).expect("a section [Service]");
    let section = section.split("\n[").next().unwrap_or_default();
    section
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

#[test]
fn the_unit_is_notified_and_watched() {
    let service = service();
    assert_eq!(service["Type"], "notify");
    assert!(service["WatchdogSec"].parse::<u32>().expect("seconds") > 0);
    assert!(service["TimeoutStopSec"].parse::<u32>().expect("seconds") > 11, "time to drain and to write");
}

/// The settings file that the unit names.
fn settings_path() -> String {
    let service = service();
    service["ExecStart"].split_once(" --config ").expect("a settings file").1.to_owned()
}

#[test]
fn every_document_puts_the_settings_file_where_the_unit_looks_for_it() {
    let expected = settings_path();
    assert_eq!(Path::new(&expected).file_name(), path(SETTINGS).file_name());
    for document in
        ["README.md", "docs/operations.md", "kata-config/README.md", "kata-config/nexuserofs.toml"]
    {
        let text = read(&format!("../{document}"));
        let is_end = |c: char| c.is_whitespace() || "`:;,)".contains(c);
        let paths: Vec<_> = text
            .match_indices("/etc/nexuserofs")
            .map(|(start, _)| text[start..].split(is_end).next().unwrap_or_default().trim_end_matches('.'))
            .collect();
        assert!(!paths.is_empty(), "{document} says where the file goes");
        for path in paths {
            assert_eq!(path, expected, "in {document}");
        }
    }
}

#[test]
fn every_file_is_in_the_table_of_the_readme() {
    let readme = read("README.md");
    for entry in std::fs::read_dir(path("")).expect("kata-config") {
        let name = entry.expect("an entry").file_name().into_string().expect("UTF-8");
        assert!(name == "README.md" || readme.contains(&format!("`{name}`")), "{name}");
    }
}

#[test]
fn the_unit_leaves_the_daemon_in_the_hosts_mount_namespace() {
    // systemd.exec(5): each of these implies a mount namespace for the service.
    let namespaced = [
        "Private",
        "Protect",
        "ReadOnlyPaths",
        "ReadWritePaths",
        "InaccessiblePaths",
        "ExecPaths",
        "NoExecPaths",
        "BindPaths",
        "BindReadOnlyPaths",
        "TemporaryFileSystem",
        "MountFlags",
        "MountAPIVFS",
        "MountImages",
        "ExtensionImages",
        "ExtensionDirectories",
        "RootDirectory",
        "RootImage",
        "DynamicUser",
        "JoinsNamespaceOf",
    ];
    for key in service().keys() {
        assert!(!namespaced.iter().any(|prefix| key.starts_with(prefix)), "{key}");
    }
}
