//! The files of `kata-config/` agree with each other and with the daemon.

// Helpers of tests may fail as tests do.
#![allow(clippy::expect_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nexuserofs::config::{self, Fragment, Settings, defaults};
use toml::{Table, Value};

const DROP_INS: [&str; 2] = ["containerd-2.2+.toml", "containerd-2.1.toml"];
const UNIT: &str = "nexuserofs-snapshotter.service";
const SETTINGS: &str = "nexuserofs.toml";

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("kata-config").join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn drop_in(name: &str) -> Table {
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

#[test]
fn drop_ins_name_the_daemons_socket_root_and_profile() {
    for name in DROP_INS {
        let drop_in = drop_in(name);
        assert_eq!(at(&drop_in, &["version"]).as_integer(), Some(3), "{name}");
        assert_eq!(plugins(&drop_in, "snapshot"), [defaults::PROFILE], "{name}");
        let exported_root = text(&drop_in, &["proxy_plugins", defaults::PROFILE, "exports", "root"]);
        assert_eq!(exported_root, defaults::ROOT, "{name}");
    }
}

#[test]
fn drop_ins_use_our_differ_wherever_containerd_chooses_one() {
    for name in DROP_INS {
        let drop_in = drop_in(name);
        let [differ] = &plugins(&drop_in, "diff")[..] else { panic!("{name} has one differ") };
        let order = at(&drop_in, &["plugins", "io.containerd.service.v1.diff-service", "default"]);
        assert_eq!(
            order.as_array().expect("a list")[..],
            [differ.as_str().into(), "walking".into()],
            "{name}"
        );

        let unpack = at(&drop_in, &["plugins", "io.containerd.transfer.v1.local", "unpack_config"]);
        let differs: BTreeMap<_, _> = unpack
            .as_array()
            .expect("a list")
            .iter()
            .map(|entry| (entry["snapshotter"].as_str(), entry["differ"].as_str()))
            .collect();
        let expected =
            [(Some(defaults::PROFILE), Some(differ.as_str())), (Some("overlayfs"), Some("walking"))];
        assert_eq!(differs, BTreeMap::from(expected), "{name}: the list replaces the one with overlayfs");
    }
}

#[test]
fn layers_are_extracted_in_parallel_where_containerd_can() {
    let newer = drop_in(DROP_INS[0]);
    let capabilities = at(&newer, &["proxy_plugins", defaults::PROFILE, "capabilities"]);
    assert!(capabilities.as_array().expect("a list").contains(&"rebase".into()));
    let transfer = at(&newer, &["plugins", "io.containerd.transfer.v1.local"]);
    assert!(transfer["max_concurrent_unpacks"].as_integer().expect("a number") > 1);
    // 2.1 does not know the key and says so at every start.
    let older = drop_in(DROP_INS[1]);
    let transfer = at(&older, &["plugins", "io.containerd.transfer.v1.local"]);
    assert!(transfer.get("max_concurrent_unpacks").is_none());
}

#[test]
fn the_settings_file_states_every_setting_at_its_default() {
    let load = |file: Option<&Path>| config::load(Fragment::default(), file).expect("valid settings");
    let shown = |settings: &Settings| format!("{settings:#?}");
    assert_eq!(shown(&load(Some(&path(SETTINGS)))), shown(&load(None)));
    let keys = drop_in(SETTINGS);
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
        "mkfs_options",
        "overlay_options",
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
    assert!(service["TimeoutStopSec"].parse::<u32>().expect("seconds") > 10, "more than the time to drain");
    let file = service["ExecStart"].split_once(" --config ").expect("a settings file").1;
    assert_eq!(Path::new(file).file_name(), path(SETTINGS).file_name());
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
