//! The tiers.

use std::path::Path;
use std::process::Command;

use anyhow::Result;
use nexuserofs_integration::bed;
use nexuserofs_integration::machine::{self, Package};
use nexuserofs_integration::progress::Steps;

use super::Context;
use super::count::Count;
use crate::bars::Bars;
use crate::{cargo_tools, fuzz, host};

/// A group of tests that need the same.
#[derive(Debug)]
pub(crate) struct Tier {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it tests, and on what.
    pub about: &'static str,
    /// Runs it.
    pub run: fn(&Context) -> Result<Count>,
}

/// All tiers, quick ones first.
pub(crate) const TIERS: &[Tier] = &[
    Tier { name: "format", about: "the code is formatted", run: format },
    Tier {
        name: "unit",
        about: "unit, property and gRPC tests, and the rules of the house; no privilege",
        run: unit,
    },
    Tier { name: "lint", about: "clippy finds nothing", run: lint },
    Tier { name: "deny", about: "licences, sources and duplicates of the crates that we use", run: deny },
    Tier {
        name: "client",
        about: "the crate containerd-client, which knows nothing of us, calls us",
        run: client,
    },
    Tier { name: "containerd", about: "real containerd with runc and a registry", run: containerd },
    Tier { name: "compare", about: "every layer against fsck.erofs, the kernel and overlayfs", run: compare },
    Tier { name: "crash", about: "the daemon killed at random moments of a loop of pulls", run: crash },
    Tier { name: "fuzz", about: "arbitrary bytes as a tar, for a short time", run: fuzz_shortly },
];

fn cargo(arguments: &[&str]) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(arguments).current_dir(bed::project());
    cargo
}

fn format(_: &Context) -> Result<Count> {
    Count::of_check(cargo(&["fmt", "--all", "--check"]))
}

fn unit(_: &Context) -> Result<Count> {
    let mut count = Count::of_tests(cargo(&["test", "--workspace", "--exclude", "nexuserofs-integration"]))?;
    count += Count::of_tests(cargo(&["test", "--package", "nexuserofs-integration", "--lib"]))?;
    Ok(count)
}

fn lint(_: &Context) -> Result<Count> {
    Count::of_check(cargo(&["clippy", "--quiet", "--workspace", "--all-targets", "--", "--deny", "warnings"]))
}

fn deny(context: &Context) -> Result<Count> {
    let bars = Bars::new(1);
    let program = cargo_tools::DENY.install(&context.cache, &Steps::new(&bars))?;
    drop(bars);
    println!("skipped: advisories, because their database is not in a package registry");
    let mut deny = Command::new(program);
    deny.args(["--all-features", "check", "licenses", "bans", "sources"]).current_dir(bed::project());
    let mut count = Count::of_check(deny)?;
    count.skipped += 1;
    Ok(count)
}

fn client(context: &Context) -> Result<Count> {
    host::prepare(&context.cache)?;
    // The crate's build script compiles containerd's own .proto files.
    machine::install(&[Package { name: "protobuf-compiler", provides: "protoc" }])?;
    let mut client = real_components("independent_client");
    client.env("PROTOC_INCLUDE", "/usr/include");
    Count::of_tests(client)
}

fn containerd(context: &Context) -> Result<Count> {
    host::prepare(&context.cache)?;
    let mut count = Count::of_tests(real_components("peers"))?;
    count += Count::of_tests(real_components("containerd"))?;
    Ok(count)
}

fn compare(context: &Context) -> Result<Count> {
    host::prepare(&context.cache)?;
    Count::of_tests(real_components("compare"))
}

fn crash(context: &Context) -> Result<Count> {
    host::prepare(&context.cache)?;
    let mut crash = real_components("crash");
    crash.env("NEXUSEROFS_CRASHES", context.crashes.to_string());
    Count::of_tests(crash)
}

/// One of the test programs in `integration/tests`. Its tests share two cores, so they run one at a time.
fn real_components(name: &str) -> Command {
    cargo(&[
        "test",
        "--quiet",
        "--package",
        "nexuserofs-integration",
        "--test",
        name,
        "--",
        "--test-threads=1",
    ])
}

fn fuzz_shortly(context: &Context) -> Result<Count> {
    if !Path::new(bed::project()).join(fuzz::DIRECTORY).exists() {
        println!("skipped: fuzzing, because there is no fuzz target yet");
        return Ok(Count { skipped: 1, ..Count::default() });
    }
    let clean = fuzz::all(&context.cache, context.fuzz_seconds)?;
    Ok(if clean { Count::PASSED } else { Count::FAILED })
}
