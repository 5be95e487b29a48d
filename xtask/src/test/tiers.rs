//! The tiers.

use std::process::Command;

use anyhow::Result;
use nexuserofs_integration::bed;
use nexuserofs_integration::machine::{self, Package};
use nexuserofs_integration::progress::Steps;

use super::Context;
use super::count::Count;
use crate::bars::Bars;
use crate::host::Images;
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
    Tier {
        name: "compare",
        about: "every layer against fsck.erofs, the kernel and overlayfs; images of mkfs.erofs",
        run: compare,
    },
    Tier {
        name: "conformance",
        about: "containerd's own suite for snapshotters, with times beside its built-in one's",
        run: |context| one_program(context, "conformance"),
    },
    Tier {
        name: "tool",
        about: "the operator's tool against erofs-utils, cryptsetup and containerd",
        run: tool,
    },
    Tier {
        name: "versions",
        about: "containerd 2.4, 2.3, 2.1 and 1.7: pull, run, diff, remove",
        run: |context| one_program(context, "versions"),
    },
    Tier {
        name: "cri",
        about: "Kubernetes' interface: pods, volumes, read-only roots, statistics",
        run: |context| one_program(context, "cri"),
    },
    Tier {
        name: "nerdctl",
        about: "nerdctl: run, diff, copy, export, commit, push; on three releases of containerd",
        run: |context| one_program(context, "nerdctl"),
    },
    Tier {
        name: "buildkit",
        about: "BuildKit: a Dockerfile of three steps",
        run: |context| one_program(context, "buildkit"),
    },
    Tier {
        name: "device",
        about: "images as block devices: QEMU, libkrun's reader, sfdisk, XFS, Btrfs; in a guest, Linux 6.12; blocks that QEMU holds; other monitors, where there are any",
        run: device,
    },
    Tier {
        name: "vhost",
        about: "disks over vhost-user: 10,000 monitors, a node with containerd, guests behind QEMU, hostile front-ends",
        run: vhost,
    },
    Tier {
        name: "guest",
        about: "a guest that trusts a signed list only: its root put together, and all that a host might do to it",
        run: guest,
    },
    Tier { name: "vm", about: "a guest as containerd host: dm-verity, fs-verity, project quotas", run: vm },
    Tier { name: "crash", about: "the daemon killed at random moments of a loop of pulls", run: crash },
    Tier {
        name: "soak",
        about: "a client that does everything in random order, and knows what must exist",
        run: soak,
    },
    Tier {
        name: "fuzz",
        about: "arbitrary bytes for the readers of foreign input, for a short time",
        run: fuzz_shortly,
    },
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
    install_protoc()?;
    Count::of_check(cargo(&[
        "clippy",
        "--quiet",
        "--workspace",
        "--all-targets",
        "--all-features",
        "--",
        "--deny=warnings",
    ]))
}

fn deny(context: &Context) -> Result<Count> {
    let bars = Bars::new(1);
    let program = cargo_tools::DENY.install(&context.cache, &Steps::new(&bars))?;
    drop(bars);
    println!("skipped: advisories, because their database is not in a package registry");
    let mut deny = Command::new(program);
    deny.args(["--all-features", "check", "--hide-inclusion-graph", "licenses", "bans", "sources"])
        .current_dir(bed::project());
    let mut count = Count::of_check(deny)?;
    count.skipped += 1;
    Ok(count)
}

fn client(context: &Context) -> Result<Count> {
    one_program(context, "independent_client")
}

/// For the build script of the crate containerd-client, which compiles containerd's own .proto files.
fn install_protoc() -> Result<()> {
    machine::install(&[Package { name: "protobuf-compiler", provides: "protoc" }]).map(drop)
}

/// Makes what the test programs need, with a bar. They would make it themselves, but silently.
fn prepare(context: &Context, images: Images) -> Result<()> {
    install_protoc()?;
    host::prepare(&context.cache, images)
}

fn containerd(context: &Context) -> Result<Count> {
    prepare(context, Images::Small)?;
    let mut count = Count::of_tests(real_components("peers"))?;
    count += Count::of_tests(real_components("containerd"))?;
    count += Count::of_tests(real_components("diff"))?;
    count += Count::of_tests(real_components("caches"))?;
    count += Count::of_tests(real_components("merged"))?;
    count += Count::of_tests(real_components("formats"))?;
    count += Count::of_tests(real_components("profiles"))?;
    count += Count::of_tests(real_components("configurations"))?;
    Ok(count)
}

/// A test program that needs the small images.
fn one_program(context: &Context, name: &str) -> Result<Count> {
    prepare(context, Images::Small)?;
    Count::of_tests(real_components(name))
}

fn tool(context: &Context) -> Result<Count> {
    prepare(context, Images::Small)?;
    let mut count = Count::of_tests(real_components("tool"))?;
    count += Count::of_tests(real_components("doctor"))?;
    Ok(count)
}

fn compare(context: &Context) -> Result<Count> {
    prepare(context, Images::All)?;
    let mut count = Count::of_tests(real_components("compare"))?;
    count += Count::of_tests(real_components("own"))?;
    Ok(count)
}

fn device(context: &Context) -> Result<Count> {
    prepare(context, Images::Small)?;
    let mut count = Count::of_tests(real_components("device"))?;
    count += Count::of_tests(real_components("device_guest"))?;
    count += Count::of_tests(real_components("held_block"))?;
    count += Count::of_tests(real_components("monitors"))?;
    Ok(count)
}

/// Monitors that connect to one disk, one after the other.
const VHOST_CONNECTIONS: &str = "10000";

fn vhost(context: &Context) -> Result<Count> {
    prepare(context, Images::Small)?;
    let mut connections = cargo(&["test", "--quiet", "--package=nexuserofs", "--test", "vhost_connections"]);
    connections.env("NEXUSEROFS_VHOST_CONNECTIONS", VHOST_CONNECTIONS);
    let mut count = Count::of_tests(connections)?;
    count += Count::of_tests(real_components("exports"))?;
    count += Count::of_tests(real_components("vhost_guest"))?;
    let mut hostile = real_components("vhost_hostile");
    hostile.env("NEXUSEROFS_HOSTILE_SECONDS", context.fuzz_seconds.to_string());
    count += Count::of_tests(hostile)?;
    Ok(count)
}

fn guest(context: &Context) -> Result<Count> {
    prepare(context, Images::Small)?;
    let mut count = Count::of_tests(real_components("guest_assembly"))?;
    count += Count::of_tests(real_components("guest_init"))?;
    count += Count::of_tests(real_components("guest_snapshot"))?;
    let mut image_hash = real_components("image_hash");
    if context.debug_only {
        image_hash.env("NEXUSEROFS_DEBUG_ONLY", "1");
    }
    count += Count::of_tests(image_hash)?;
    Ok(count)
}

/// The guest and what is in it are made by the test program.
fn vm(_: &Context) -> Result<Count> {
    install_protoc()?;
    Count::of_tests(real_components("vm_host"))
}

fn crash(context: &Context) -> Result<Count> {
    prepare(context, Images::Small)?;
    let mut crash = real_components("crash");
    crash.env("NEXUSEROFS_CRASHES", context.crashes.to_string());
    Count::of_tests(crash)
}

fn soak(context: &Context) -> Result<Count> {
    prepare(context, Images::Small)?;
    let mut soak = real_components("soak");
    soak.env("NEXUSEROFS_SOAK_SECONDS", context.soak_seconds.to_string());
    Count::of_tests(soak)
}

/// One of the test programs in `integration/tests`. Its tests share two cores, so they run one at a time.
fn real_components(name: &str) -> Command {
    // One set of features for all, so that cargo builds the package once.
    cargo(&[
        "test",
        "--quiet",
        "--package=nexuserofs-integration",
        "--features=independent-client",
        "--test",
        name,
        "--",
        "--test-threads=1",
    ])
}

fn fuzz_shortly(context: &Context) -> Result<Count> {
    fuzz::all(&context.cache, context.fuzz_seconds)
}
