//! The files of `kata-config/` before those who read them: containerd 2.3, 2.2 and 2.1, systemd, Kubernetes'
//! schema, and the options of a kernel that guests boot.

mod containerd;
mod kubernetes;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use nexuserofs_integration::bed::{Bed, Needs, Profile};
use nexuserofs_integration::command::Run;
use nexuserofs_integration::harness::{self, Test};
use nexuserofs_integration::host::tools::{CONTAINERD_2_2, GUEST_KERNEL};
use nexuserofs_integration::node::daemon;

const TESTS: &[Test] = &[
    Test { name: "drop_ins_on_2.3", run: containerd::on_2_3 },
    Test { name: "drop_ins_on_2.2", run: containerd::on_2_2 },
    Test { name: "drop_ins_on_2.1", run: containerd::on_2_1 },
    Test { name: "drop_ins_migrate_to_2.3", run: containerd::migrated },
    Test { name: "manifests_are_of_kubernetes", run: kubernetes::manifests },
    Test { name: "the_unit_before_systemd", run: unit },
    Test { name: "options_of_the_guest_kernel", run: kernel },
];

fn main() -> Result<ExitCode> {
    let extras = &[CONTAINERD_2_2, GUEST_KERNEL];
    harness::main(Needs { programs: Some(Profile::Debug), extras, ..Needs::default() }, TESTS)
}

/// A file of `kata-config/`.
fn path(bed: &Bed, name: &str) -> PathBuf {
    bed.place.project.join("kata-config").join(name)
}

/// systemd finds nothing to say about the unit, with the daemon in its place.
fn unit(bed: &Bed) -> Result<()> {
    let name = "nexuserofs-snapshotter.service";
    let text = fs::read_to_string(path(bed, name))?;
    let program = bed.place.programs.join(daemon::PROGRAM);
    let placed = text.replace("/usr/local/bin/nexuserofs-snapshotter", &program.display().to_string());
    ensure!(placed != text, "the unit starts another program");
    let file = bed.place.scratch.join(name);
    fs::write(&file, placed)?;
    let analyze = Run::new("systemd-analyze").args(["verify", "--man=no", "--generators=no"]).arg(&file);
    let (output, complaints) = analyze.both()?;
    let about_us = complaints.lines().filter(|line| line.contains("nexuserofs")).collect::<Vec<_>>();
    ensure!(output.trim().is_empty() && about_us.is_empty(), "systemd says: {output}{complaints}");
    Ok(())
}

/// Every option of the fragment is one that Debian's kernel for clouds has, built in or as a module.
fn kernel(bed: &Bed) -> Result<()> {
    let boot = bed.place.extra(GUEST_KERNEL)?.join("boot");
    let mut configurations = fs::read_dir(&boot)?.filter_map(|entry| Some(entry.ok()?.path()));
    let is_configuration =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("config-"));
    let configuration =
        configurations.find(is_configuration).context("the kernel comes without its options")?;
    let options = fs::read_to_string(configuration)?;
    let has = |option: &str| {
        ["y", "m"].iter().any(|value| options.lines().any(|line| line == format!("{option}={value}")))
    };
    let fragment = fs::read_to_string(path(bed, "guest-kernel.config"))?;
    let wanted: Vec<&str> = fragment.lines().filter_map(|line| line.strip_suffix("=y")).collect();
    ensure!(wanted.len() > 20, "only {} options: is the fragment still one?", wanted.len());
    let missing: Vec<_> = wanted.into_iter().filter(|option| !has(option)).collect();
    ensure!(missing.is_empty(), "Debian's kernel lacks {missing:?}");
    Ok(())
}
