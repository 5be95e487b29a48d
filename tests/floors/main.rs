//! Holds the floors that `docs/architecture.md` draws: who may use whom, where unsafe code and
//! protobuf may be, and how long a file may get.

#![allow(clippy::expect_used, reason = "a test that cannot go on says why")]

mod rules;
mod source;

use std::fs;
use std::path::{Path, PathBuf};

use rules::{Findings, check, check_length};

/// Folders that hold no code written by hand.
const SKIPPED: [&str; 4] = ["target", "gen", "fuzz", ".git"];

/// Every Rust file below `folder`.
fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("a readable entry").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() && !SKIPPED.contains(&name) {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// The files below `folder` with their paths relative to it, and their texts.
fn texts(folder: &Path) -> Vec<(String, String)> {
    let relative = |path: &PathBuf| path.strip_prefix(folder).expect("below").display().to_string();
    let read = |path: &PathBuf| fs::read_to_string(path).expect("readable Rust");
    let texts: Vec<_> = rust_files(folder).iter().map(|path| (relative(path), read(path))).collect();
    assert!(!texts.is_empty(), "no Rust below {}", folder.display());
    texts
}

#[test]
fn the_house_keeps_its_floors() {
    let mut findings = Findings::default();
    for (path, text) in texts(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
        findings.add(check(&path, &text));
    }
    let violations = findings.into_violations();
    assert!(violations.is_empty(), "\n{}", violations.join("\n"));
}

#[test]
fn no_module_does_two_jobs() {
    let workspace = texts(Path::new(env!("CARGO_MANIFEST_DIR")));
    let long: Vec<_> = workspace.iter().filter_map(|(path, text)| check_length(path, text)).collect();
    assert!(long.is_empty(), "\n{}", long.join("\n"));
}

/// The violations of one file alone.
fn violations(path: &str, text: &str) -> Vec<String> {
    check(path, text).into_violations()
}

#[test]
fn an_import_that_runs_upward_is_found_however_it_is_written() {
    for text in [
        "use crate::service::Server;",
        "use crate::{image::tree::Tree, service};",
        "use crate::{\n    image::{self, tree},\n    service::{Server as S},\n};",
        "pub(crate) use crate::service::*;",
        "fn f() { crate::service::start() }",
        "fn f() { let x = <crate::service::Server>::new(); }",
        "fn f() { println!(\"{}\", crate::service::NAME) }",
        "use super::super::service::Server;",
        "fn f() { super::super::service::start() }",
        "mod inner { use super::super::super::service; }",
        "#[cfg(test)]\nmod tests { use crate::service; }",
        "fn f() -> u8 { return ::nexuserofs::service::start() }",
        "macro_rules! m { () => { $crate::service::start() } }",
    ] {
        let found = violations("layer/build.rs", text);
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        assert!(found[0].contains("layer uses service, which is above it"), "{found:?}");
    }
}

#[test]
fn the_place_is_named() {
    let found = violations("image/erofs/mod.rs", "//! Words.\n\nuse std::io;\nuse crate::layer::Store;\n");
    assert_eq!(found, ["image/erofs/mod.rs:4: image uses layer, which is above it"]);
}

#[test]
fn what_is_allowed_or_only_said_is_not_found() {
    for (path, text) in [
        ("service/mod.rs", "use crate::snapshot::Rules; use crate::error::Kind; use tonic::Status;"),
        ("snapshot/mod.rs", "use super::store; use crate::image::tree::Tree; use crate::sys::flock;"),
        (
            "layer/mod.rs",
            "/// See [`crate::service`].\n// crate::service::start()\nconst A: &str = \"crate::cli::x\";",
        ),
        ("layer/build/mod.rs", "use super::service::Inner; use self::cli::Other; mod service {} mod cli {}"),
        ("app/mod.rs", "use tonic::transport::Server;"),
        ("cli/mod.rs", "use crate::app; fn tonic() {} fn f(prost: u8) -> u8 { prost + tonic() }"),
        ("sys/mod.rs", "fn f() { unsafe { g() } }"),
        ("bin/x.rs", "fn main() { nexuserofs::cli::main() }"),
        ("image/tar/mod.rs", "#[cfg(test)]\nmod tests { use std::fs; }"),
        ("image/tar/tests.rs", "use std::fs;"),
    ] {
        assert_eq!(violations(path, text), [""; 0], "{path}: {text}");
    }
}

#[test]
fn what_belongs_to_one_room_is_found_in_others() {
    for (path, text, word) in [
        ("snapshot/mod.rs", "use tonic::Status;", "snapshot must not use tonic"),
        ("app/mod.rs", "use nexuserofs_proto::snapshots;", "app must not use nexuserofs_proto"),
        ("store/mod.rs", "#[derive(prost::Message)]\nstruct S;", "store must not use prost"),
        ("expose/mod.rs", "use ::prost_types as types;", "expose must not use prost_types"),
        ("layer/mod.rs", "use tonic;", "layer must not use tonic"),
        ("store/mod.rs", "fn f() { unsafe { g() } }", "store/mod.rs:1: unsafe outside sys"),
        ("store/mod.rs", "use crate::sys::mount;", "sys is not for store"),
        ("image/mod.rs", "use std::{io, fs::File};", "image must not use std::fs"),
        ("image/mod.rs", "#[cfg(test)]\nmod tests { }\nuse std::fs;", "image must not use std::fs"),
        ("attic/mod.rs", "use crate::image::tree;", "has no floor"),
    ] {
        let found = violations(path, text);
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        assert!(found[0].contains(word), "{found:?}");
    }
}

#[test]
fn neighbours_may_use_each_other_in_one_direction_only() {
    let mut findings = Findings::default();
    findings.add(check("layer/mod.rs", "use crate::store::Store;"));
    findings.add(check("store/mod.rs", "use crate::expose::mount::Mount;"));
    let edges = findings.sideways.clone();
    assert_eq!(Findings { sideways: edges, ..Findings::default() }.into_violations(), [""; 0]);
    findings.add(check("expose/mod.rs", "use crate::layer::Layer;"));
    assert_eq!(findings.into_violations().len(), 3, "all three are in the circle");
}

#[test]
fn a_long_file_is_found() {
    assert_eq!(check_length("a.rs", &"\n".repeat(rules::LONGEST)), None);
    assert!(check_length("a.rs", &"\n".repeat(rules::LONGEST + 1)).is_some());
}
