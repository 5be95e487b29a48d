//! A writable block that QEMU has: neither compared nor committed, unless the guest is said to be quiet. QEMU keeps
//! the lock that its `file.locking` stands for; the guest itself need not run for that.

// Helpers of tests may fail as tests do.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail, ensure};
use libtest_mimic::{Arguments, Failed, Trial};
use nexuserofs::expose::block;
use nexuserofs::expose::mount::Mount;
use nexuserofs::layer::Protection;
use nexuserofs::snapshot::model::QUIESCED_LABEL;
use nexuserofs::snapshot::{Error, LabelChange, Profile, SnapshotSettings, Snapshotter};
use nexuserofs_integration::harness::eventually;
use nexuserofs_integration::machine::{self, Package};
use tempfile::TempDir;

const PACKAGES: &[Package] = &[
    Package { name: "qemu-system-x86", provides: "qemu-system-x86_64" },
    Package { name: "e2fsprogs", provides: "mkfs.ext4" },
];

const PROFILE: &str = "nexuserofs";
const KEY: &str = "container";
/// Bytes.
const SIZE: u64 = 64 << 20;

fn main() -> Result<ExitCode> {
    let arguments = Arguments::from_args();
    if !arguments.list {
        machine::install(PACKAGES)?;
    }
    let trial = |name, test: fn() -> Result<()>| {
        Trial::test(name, move || test().map_err(|error| Failed::from(format!("{error:#}"))))
    };
    let trials = vec![
        trial("a_block_that_qemu_writes_is_left_alone", held),
        trial("a_block_that_qemu_only_reads_is_left_alone", read),
        trial("a_block_of_a_guest_that_is_quiet_is_compared_and_committed", quiet),
    ];
    Ok(libtest_mimic::run(&arguments, trials).exit_code())
}

/// A snapshotter with one container that has a writable block.
struct Host {
    snapshotter: Snapshotter,
    plan: Vec<Mount>,
    block: std::path::PathBuf,
    _root: TempDir,
}

impl Host {
    fn new() -> Result<Self> {
        let root = tempfile::tempdir()?;
        let profile = Profile { default_size: SIZE, ..Profile::default() };
        let settings = SnapshotSettings {
            root: root.path().to_str().context("the path is not UTF-8")?.parse()?,
            protection: Protection::default(),
            profiles: BTreeMap::from([(PROFILE.to_owned(), profile)]),
        };
        let (snapshotter, _) = Snapshotter::open(settings)?;
        let plan = snapshotter.prepare(PROFILE, KEY, None, BTreeMap::new())?;
        let block = plan.iter().map(|mount| Path::new(&mount.source)).find(|source| source.is_file());
        let block = block.context("the plan names no block")?.to_owned();
        Ok(Self { snapshotter, plan, block, _root: root })
    }

    /// Opens what a comparison reads.
    fn compare(&self) -> Result<(), Error> {
        let shown = self.snapshotter.shown(&self.plan)?.expect("the plan is ours");
        self.snapshotter.open_written(&shown.written.expect("it can be written to")).map(drop)
    }

    fn commit(&self) -> Result<(), Error> {
        self.snapshotter.commit(PROFILE, "committed", KEY, None, BTreeMap::new())
    }

    fn is_refused(&self) -> Result<()> {
        for refused in [self.compare(), self.commit()] {
            match refused {
                Err(error @ Error::BlockHeld { .. }) => {
                    ensure!(error.to_string().contains(QUIESCED_LABEL), "no way out is told: {error}");
                }
                other => bail!("{other:?} while QEMU has the block"),
            }
        }
        Ok(())
    }
}

/// A QEMU that has opened a disk and runs nothing. It is ended when this is dropped.
struct Qemu(Child);

impl Qemu {
    fn open(disk: &Path, options: &str) -> Result<Self> {
        let drive = format!("file={},format=raw,if=none,id=disk,file.locking=on{options}", disk.display());
        let child = Command::new("setpriv")
            .args([
                "--pdeathsig",
                "KILL",
                "--",
                "qemu-system-x86_64",
                "-S",
                "-accel",
                "tcg",
                "-machine",
                "q35",
            ])
            .args([
                "-nodefaults",
                "-display",
                "none",
                "-drive",
                &drive,
                "-device",
                "virtio-blk-pci,drive=disk",
            ])
            .stdin(Stdio::null())
            .spawn()
            .context("start qemu-system-x86_64")?;
        let mut qemu = Self(child);
        eventually(|| Ok((!block::is_held(disk)?).then(|| "QEMU has no lock on its disk".to_owned())))?;
        ensure!(qemu.0.try_wait()?.is_none(), "QEMU ended");
        Ok(qemu)
    }

    fn end(mut self) -> Result<()> {
        self.0.kill()?;
        self.0.wait().map(drop).context("wait for QEMU")
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        // It is over already, unless an error left this early.
        let _ = self.0.kill().and_then(|()| self.0.wait());
    }
}

fn held() -> Result<()> {
    let host = Host::new()?;
    host.compare()?;
    let qemu = Qemu::open(&host.block, "")?;
    host.is_refused()?;
    qemu.end()?;
    host.compare()?;
    Ok(host.commit()?)
}

/// Nobody may write to what a guest has mounted, and a journal is replayed before it is read.
fn read() -> Result<()> {
    let host = Host::new()?;
    let _qemu = Qemu::open(&host.block, ",readonly=on")?;
    host.is_refused()
}

fn quiet() -> Result<()> {
    let host = Host::new()?;
    let before = std::fs::read(&host.block)?;
    let qemu = Qemu::open(&host.block, "")?;
    let label = BTreeMap::from([(QUIESCED_LABEL.to_owned(), "true".to_owned())]);
    host.snapshotter.update(PROFILE, KEY, LabelChange::Set(label))?;
    host.compare()?;
    ensure!(std::fs::read(&host.block)? == before, "the block was written to while QEMU had it");
    host.commit()?;
    qemu.end()
}
