//! Flags and the settings file.

use std::os::unix::fs::PermissionsExt as _;

use nexuserofs::layer::protection::has_fsverity;

use crate::skipped::skip;

use super::daemon::{Place, exists, logged, output, refusal, refusal_with};

/// Exit code of a wrong flag or settings file.
const USAGE: i32 = 64;

fn strings(arguments: &[&str]) -> Vec<String> {
    arguments.iter().map(|argument| (*argument).to_owned()).collect()
}

fn printed(argument: &str) -> String {
    let output = output(&strings(&[argument]));
    assert_eq!(output.status.code(), Some(0));
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn version_is_the_packages() {
    assert_eq!(printed("--version"), format!("nexuserofs-snapshotter {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn every_flag_is_in_help_and_in_both_documents() {
    let help = printed("--help");
    for flag in [
        "--root",
        "--address",
        "--containerd-address",
        "--containerd-namespace",
        "--log-level",
        "--log-format",
        "--default-size",
        "--enable-fsverity",
        "--set-immutable",
        "--mkfs-options",
        "--overlay-options",
        "--config",
    ] {
        assert!(help.contains(flag), "{flag}");
    }
    let documents = [include_str!("../../README.md"), include_str!("../../docs/operations.md")];
    let words = help.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
    for flag in words.filter(|word| word.starts_with("--")) {
        for document in documents {
            assert!(document.contains(&format!("`{flag}`")), "{flag} is described in README and operations");
        }
    }
}

#[test]
fn a_bad_flag_is_named_with_its_remedy() {
    for (arguments, words) in [
        (&["--rooot=/x"][..], &["--rooot", "--root"][..]),
        (&["--root"], &["--root", "value"]),
        (&["surplus"], &["surplus"]),
        (&["--root=data"], &["--root: ", "absolute", "from /"]),
        (&["--root=/a,b"], &["--root: ", "mount options"]),
        (&["--address=s.sock"], &["--address: ", "absolute"]),
        (&["--containerd-namespace=a b"], &["--containerd-namespace: ", "letters and digits"]),
        (&["--log-level=loud"], &["--log-level: ", "loud", "debug"]),
        (&["--log-format=xml"], &["--log-format: ", "xml", "json"]),
        (&["--default-size=20QiB"], &["--default-size: ", "20QiB", "20GiB"]),
        (&["--default-size=-1"], &["--default-size: ", "-1", "20GiB"]),
        (&["--default-size=4096"], &["--default-size: ", "4096", "16MiB"]),
        (&["--set-immutable=maybe"], &["--set-immutable", "maybe", "false"]),
        (&["--mkfs-options="], &["--mkfs-options: ", "remove"]),
        (&["--overlay-options=upperdir=/x"], &["--overlay-options: ", "upperdir=/x", "remove"]),
        (&["--overlay-options=index=off,metacopy=on"], &["--overlay-options: ", "comma"]),
        (&["--config=/nowhere/settings.toml"], &["/nowhere/settings.toml", "--config"]),
    ] {
        let (code, message) = refusal(&strings(arguments));
        assert_eq!(code, USAGE, "{arguments:?}: {message}");
        for word in words {
            assert!(message.contains(word), "{arguments:?} does not say {word:?}: {message}");
        }
    }
}

#[test]
fn a_bad_file_is_named_with_line_and_remedy() {
    for (text, line, words) in [
        ("root = '/x'\nroto = '/y'", 2, &["roto", "root", "docs/operations.md"][..]),
        ("\n\nlog-level = 'info'", 3, &["log-level", "log_level"]),
        ("root = 7", 1, &["root = 7", "string"]),
        ("root = '/x", 1, &["root = '/x"]),
        ("set_immutable = 'yes'", 1, &["set_immutable", "boolean"]),
        ("default_size = '3 apples'", 1, &["default_size: ", "3 apples", "20GiB"]),
        ("default_size = -4", 1, &["default_size: ", "-4", "20GiB"]),
        ("overlay_options = [\n 'index=off',\n 'lowerdir=/x',\n]", 3, &["overlay_options: ", "lowerdir=/x"]),
        ("[profiles.vm]\nsize = 1", 2, &["size", "default_size"]),
        ("[profiles.vm]\n\ndefault_size = '1 apple'", 3, &["profiles.vm.default_size: ", "1 apple"]),
        ("[profiles.not--one]", 1, &["profiles.not--one: ", "letters"]),
        ("[profiles.vm]\nflavour = 'guest'", 2, &["profiles.vm.flavour: ", "guest", "template", "host"]),
        ("[profiles.vm]\nproject_quota = 'yes'", 2, &["profiles.vm.project_quota: ", "yes", "require"]),
        ("builder = 'tar'", 1, &["builder: ", "tar", "tar-index"]),
        ("builder = 'native'\nmkfs_options = ['-zlz4']", 1, &["builder: ", "mkfs_options", "mkfs"]),
        ("mkfs_options = ['-z', 'lz4']", 1, &["mkfs_options: ", "lz4", "dash"]),
        ("mkfs_options = ['--tar=f']", 1, &["mkfs_options: ", "--tar=f", "remove"]),
        (
            "verity = 'require'\nbuilder = 'tar-index'",
            2,
            &["builder: ", "512", "nexuserofs", "another builder"],
        ),
        ("verity = 'on'", 1, &["verity: ", "on", "require"]),
        ("[profiles.vm]\nverity = true", 2, &["verity", "string"]),
        ("[profiles.'a b']\n", 1, &["a b", "letters and digits"]),
    ] {
        let place = Place::new();
        let file = place.settings(text);
        let (code, message) = refusal(&strings(&["--config", &file]));
        assert_eq!(code, USAGE, "{text}: {message}");
        assert!(message.contains(&format!("{file}:{line}: ")), "{text}: {message}");
        for word in words {
            assert!(message.contains(word), "{text} does not say {word:?}: {message}");
        }
    }
}

#[test]
fn fs_verity_is_refused_where_the_file_system_has_none() {
    let place = Place::new();
    let mut arguments = place.arguments("root", "s.sock");
    arguments.push("--enable-fsverity".to_owned());
    if has_fsverity(&place.path("")).expect("a file") {
        place.start_with("first", &arguments);
        return skip(
            "fs_verity_is_refused_where_the_file_system_has_none",
            "the file system of TMPDIR has it",
        );
    }
    let (code, message) = refusal(&arguments);
    assert_eq!(code, USAGE, "{message}");
    assert!(message.contains("enable_fsverity") && message.contains("tune2fs"), "{message}");
}

#[test]
fn an_unusable_root_is_refused() {
    let place = Place::new();
    std::fs::write(place.path("file"), "").expect("file");
    let (code, message) = refusal(&place.arguments("file/root", "s.sock"));
    assert_eq!(code, USAGE, "{message}");
    assert!(message.contains("--root: ") && message.contains("not a directory"), "{message}");
}

#[test]
fn an_address_that_is_no_socket_is_refused_and_kept() {
    let place = Place::new();
    std::fs::create_dir(place.path("run")).expect("directory");
    std::fs::write(place.path("run/s.sock"), "precious").expect("file");
    let (code, message) = refusal(&place.arguments("root", "s.sock"));
    assert_eq!(code, USAGE, "{message}");
    assert!(message.contains("--address: ") && message.contains("not a socket"), "{message}");
    assert_eq!(std::fs::read_to_string(place.path("run/s.sock")).expect("file"), "precious");
}

#[test]
fn a_refusal_touches_nothing() {
    let place = Place::new();
    let mut arguments = place.arguments("root", "s.sock");
    arguments.push("--log-level=loud".to_owned());
    assert_eq!(refusal(&arguments).0, USAGE);
    assert!(!exists(&place.path("root")) && !exists(&place.path("run")));
}

#[test]
fn a_flag_beats_the_file() {
    let place = Place::new();
    let file = place.settings(
        "root = 'PLACE/file-root'\naddress = 'PLACE/file.sock'\nlog_format = 'json'\n[profiles.small]\n",
    );
    let flags = ["--config", &file, "--root", &place.arg("flag-root")];
    let daemon = place.start_with("first", &strings(&flags));
    let started = logged(&daemon.log(), "starting");
    assert_eq!(started["root"], place.arg("flag-root"));
    assert_eq!(started["address"], place.arg("file.sock"));
    assert_eq!(started["profiles"], "nexuserofs nexuserofs-host small");
    assert!(exists(&place.path("flag-root")) && exists(&place.path("file.sock")));
    assert!(!exists(&place.path("file-root")));
}

#[test]
fn mkfs_erofs_has_to_be_there_and_new_enough_if_it_is_asked_for() {
    let place = Place::new();
    let programs = place.path("programs");
    std::fs::create_dir(&programs).expect("directory");
    let search = [("PATH", programs.to_str().expect("UTF-8"))];
    let mut arguments = place.arguments("root", "s.sock");
    arguments.push("--mkfs-options=-zlz4".to_owned());
    let (code, message) = refusal_with(&arguments, &search);
    assert_eq!(code, USAGE, "{message}");
    assert!(message.contains("erofs-utils 1.8"), "{message}");
    for (said, words) in
        [("mkfs.erofs 1.7.1", "is of release 1.7.1"), ("something else", "which is no release")]
    {
        let program = programs.join("mkfs.erofs");
        std::fs::write(&program, format!("#!/bin/sh\necho '{said}'\n")).expect("file");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("mode");
        let (code, message) = refusal_with(&arguments, &search);
        assert_eq!(code, USAGE, "{message}");
        assert!(message.contains(words), "{message}");
    }
}
