//! Drop-ins for containerd, each before the releases that it is for.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use nexuserofs_integration::bed::Bed;
use nexuserofs_integration::command::Run;
use nexuserofs_integration::host::tools::CONTAINERD_2_2;
use nexuserofs_integration::node::Release;
use toml::{Table, Value};

use crate::path;

/// Drop-ins of releases with a mount manager, each with those that it stands beside.
const NEW: &[&[&str]] =
    &[&["containerd.toml"], &["containerd.toml", "containerd-nerdbox.toml"], &["containerd-kata.toml"]];
/// Those of earlier releases.
const OLD: &[&[&str]] = &[&["containerd-2.1.toml"]];

/// What containerd says of each file in an earlier version than its own.
const MIGRATED: &str = "Configuration migrated from version 3";

/// What is written in every file and says nothing about plugins.
const VERSION: &str = "version";

/// containerd 2.3 takes the files for earlier releases too.
pub(crate) fn on_2_3(bed: &Bed) -> Result<()> {
    let all: Vec<&[&str]> = NEW.iter().chain(OLD).copied().collect();
    drop_ins(&Release::V2_3.programs(&bed.place)?, "2.3.", &all, bed)
}

pub(crate) fn on_2_2(bed: &Bed) -> Result<()> {
    drop_ins(bed.place.extra(CONTAINERD_2_2)?, "2.2.", NEW, bed)
}

pub(crate) fn on_2_1(bed: &Bed) -> Result<()> {
    drop_ins(&Release::V2_1.programs(&bed.place)?, "2.1.", OLD, bed)
}

/// Each of these sets of files is taken by the containerd in this directory, and every value arrives.
fn drop_ins(programs: &Path, version: &str, sets: &[&[&str]], bed: &Bed) -> Result<()> {
    let containerd = programs.join("containerd");
    let told = Run::new(&containerd).arg("--version").output()?;
    ensure!(told.split(' ').any(|word| word.starts_with(version)), "{told:?} runs instead of {version}");
    for files in sets {
        let node = Etc::with(bed, files)?;
        let (dump, complaints) =
            Run::new(&containerd).arg("--config").arg(&node.main).args(["config", "dump"]).both()?;
        // A release with a later version of configurations says so, and reads this one.
        let complaints: Vec<_> = complaints.lines().filter(|line| !line.contains(MIGRATED)).collect();
        ensure!(complaints.is_empty(), "{files:?}: containerd complains: {complaints:?}");
        let dump: Table = dump.parse().with_context(|| format!("what containerd made of {files:?}"))?;
        for file in *files {
            let drop_in: Table = fs::read_to_string(path(bed, file))?.parse()?;
            let lost = missing(&Value::Table(drop_in), &Value::Table(dump.clone()), "");
            ensure!(lost.is_empty(), "{file}: containerd does not have {lost:?}");
        }
    }
    Ok(())
}

/// A main file with the drop-ins that it imports, as on a node.
struct Etc {
    main: PathBuf,
}

impl Etc {
    fn with(bed: &Bed, files: &[&str]) -> Result<Self> {
        let etc = bed.place.scratch.join("etc");
        if etc.exists() {
            fs::remove_dir_all(&etc)?;
        }
        let drop_ins = etc.join("conf.d");
        fs::create_dir_all(&drop_ins)?;
        for file in files {
            fs::copy(path(bed, file), drop_ins.join(file))?;
        }
        let main = etc.join("config.toml");
        fs::write(&main, format!("version = 3\nimports = [\"{}/*.toml\"]\n", drop_ins.display()))?;
        Ok(Self { main })
    }
}

/// The paths of what `wanted` says and `found` does not.
fn missing(wanted: &Value, found: &Value, at: &str) -> BTreeSet<String> {
    let here = || BTreeSet::from([at.to_owned()]);
    match (wanted, found) {
        (Value::Table(wanted), Value::Table(found)) => wanted
            .iter()
            .filter(|(key, _)| *key != VERSION)
            .flat_map(|(key, value)| match found.get(key) {
                Some(found) => missing(value, found, &format!("{at}.{key}")),
                None => BTreeSet::from([format!("{at}.{key}")]),
            })
            .collect(),
        (Value::Array(wanted), Value::Array(found)) if wanted.len() == found.len() => {
            let pairs = wanted.iter().zip(found).enumerate();
            pairs
                .flat_map(|(index, (wanted, found))| missing(wanted, found, &format!("{at}[{index}]")))
                .collect()
        }
        (wanted, found) if wanted == found => BTreeSet::new(),
        _ => here(),
    }
}

/// What a main file with everything in it becomes in the version that containerd 2.3 writes.
pub(crate) fn migrated(bed: &Bed) -> Result<()> {
    let containerd = Release::V2_3.programs(&bed.place)?.join("containerd");
    for file in NEW.iter().chain(OLD).copied().flatten() {
        let text = Run::new(&containerd)
            .arg("--config")
            .arg(path(bed, file))
            .args(["config", "migrate"])
            .output()?;
        let table: Table = text.parse().with_context(|| format!("what {file} becomes"))?;
        let version = table.get(VERSION).and_then(Value::as_integer);
        ensure!(version.is_some_and(|version| version > 3), "{file}: version {version:?}");
        let drop_in: Table = fs::read_to_string(path(bed, file))?.parse()?;
        let lost = missing(&Value::Table(drop_in), &Value::Table(table), "");
        ensure!(lost.is_empty(), "{file}: lost in migration: {lost:?}");
    }
    Ok(())
}
