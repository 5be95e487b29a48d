//! Images as block devices, by readers that no one here wrote, without a guest: QEMU's and libkrun's of VMDK, sfdisk
//! for partitions, XFS and Btrfs for blocks that files share.

// Helpers of tests may fail as tests do.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../../tests/device/chain.rs"]
#[allow(dead_code)]
mod chain;

use std::fs::{self, File};
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use imago::vmdk::Vmdk;
use imago::{FormatAccess, FormatDriverBuilder, PermissiveImplicitOpenGate};
use libtest_mimic::{Arguments, Failed, Trial};
use nexuserofs::expose::device::{self, Carrier, Form, Layout};
use nexuserofs::image::gpt::Style;
use nexuserofs_integration::command::Run;
use nexuserofs_integration::machine::{self, Package};
use serde::Deserialize;

use crate::chain::OnDisk;

const PACKAGES: &[Package] = &[
    Package { name: "qemu-utils", provides: "qemu-img" },
    Package { name: "fdisk", provides: "sfdisk" },
    Package { name: "xfsprogs", provides: "mkfs.xfs" },
    Package { name: "btrfs-progs", provides: "mkfs.btrfs" },
    Package { name: "mount", provides: "mount" },
    Package { name: "diffutils", provides: "cmp" },
];

/// A test, which needs no test host.
struct Test {
    name: &'static str,
    run: fn() -> Result<()>,
}

const TESTS: &[Test] = &[
    Test { name: "qemu_reads_merged_disks", run: qemu_reads_merged },
    Test { name: "qemu_and_sfdisk_read_disks_with_partitions", run: qemu_and_sfdisk_read_partitions },
    Test { name: "imago_reads_what_qemu_reads", run: imago_reads },
    Test { name: "a_flat_file_takes_no_space_on_xfs", run: || flat_on("xfs") },
    Test { name: "a_flat_file_takes_no_space_on_btrfs", run: || flat_on("btrfs") },
];

const MERGED: Form = Form { layout: Layout::Merged, carrier: Carrier::Vmdk };

/// More than what 32 bits count, and than one line of a VMDK descriptor has elsewhere.
const LARGE: u64 = (3 << 30) + 4096;

fn main() -> Result<ExitCode> {
    let arguments = Arguments::from_args();
    if !arguments.list {
        machine::install(PACKAGES)?;
    }
    let trial = |test: &'static Test| {
        Trial::test(test.name, || (test.run)().map_err(|error| Failed::from(format!("{error:#}"))))
    };
    Ok(libtest_mimic::run(&arguments, TESTS.iter().map(trial).collect()).exit_code())
}

/// So many layers of different sizes. The second of them, or the only one, is a large one.
fn chain_of(count: usize) -> OnDisk {
    let size =
        |index: usize| if index == 1.min(count - 1) { LARGE } else { 4096 * (1 + index as u64 * 37 % 300) };
    OnDisk::new(&(0..count).map(size).collect::<Vec<_>>())
}

fn qemu_reads_merged() -> Result<()> {
    for count in [1, 2, 9, 40, 128] {
        let disk = chain_of(count);
        let made = disk.make(MERGED)?;
        ensure!(virtual_size(&made.path)? == made.bytes, "{count} layers: QEMU sees another size");
        let expected = concatenated(&disk)?;
        compare(&made.path, &expected).with_context(|| format!("{count} layers"))?;
        let flat = disk.make(Form { carrier: Carrier::Flat, ..MERGED })?;
        compare(&made.path, &flat.path).with_context(|| format!("{count} layers, flat"))?;
    }
    Ok(())
}

/// The merged device, made by dd.
fn concatenated(disk: &OnDisk) -> Result<PathBuf> {
    let whole = disk.path().join("expected");
    let mut end = 0;
    for file in [disk.home().join("fsmeta.erofs")].iter().chain(&disk.layers) {
        Run::new("dd")
            .arg(format!("if={}", file.display()))
            .arg(format!("of={}", whole.display()))
            .arg(format!("seek={end}"))
            .args(["bs=1M", "oflag=seek_bytes", "conv=notrunc,sparse", "status=none"])
            .run()?;
        end += fs::metadata(file)?.len();
    }
    File::options().write(true).open(&whole)?.set_len(end)?;
    Ok(whole)
}

fn virtual_size(descriptor: &Path) -> Result<u64> {
    #[derive(Deserialize)]
    #[serde(rename_all = "kebab-case")]
    struct Info {
        virtual_size: u64,
    }
    let info = Run::new("qemu-img").args(["info", "--output=json", "-f", "vmdk"]).arg(descriptor).bytes()?;
    Ok(serde_json::from_slice::<Info>(&info)?.virtual_size)
}

fn compare(descriptor: &Path, raw: &Path) -> Result<()> {
    Run::new("qemu-img").args(["compare", "-f", "vmdk", "-F", "raw"]).arg(descriptor).arg(raw).run()
}

/// What sfdisk says of a disk.
#[derive(Deserialize)]
struct Dump {
    partitiontable: Table,
}

#[derive(Deserialize)]
struct Table {
    label: String,
    lastlba: u64,
    partitions: Vec<Partition>,
}

#[derive(Deserialize)]
struct Partition {
    start: u64,
    size: u64,
    name: String,
}

fn qemu_and_sfdisk_read_partitions() -> Result<()> {
    for (count, style) in [
        (1, Style::Kata),
        (3, Style::Nerdbox),
        (3, Style::Kata),
        (40, Style::Kata),
        (128, Style::Kata),
        (128, Style::Nerdbox),
    ] {
        partitions(&chain_of(count), style).with_context(|| format!("{count} layers, {style:?}"))?;
    }
    Ok(())
}

fn partitions(disk: &OnDisk, style: Style) -> Result<()> {
    let form = Form { layout: Layout::Partitions(style), carrier: Carrier::Vmdk };
    let made = disk.make(form)?;
    compare(&made.path, &disk.make(Form { carrier: Carrier::Flat, ..form })?.path)?;
    let raw = disk.path().join("raw");
    Run::new("qemu-img").args(["convert", "-f", "vmdk", "-O", "raw"]).args([&made.path, &raw]).run()?;
    let dump: Dump = serde_json::from_slice(&Run::new("sfdisk").arg("--json").arg(&raw).bytes()?)?;
    let table = dump.partitiontable;
    ensure!(table.label == "gpt" && table.lastlba == made.bytes / 512 - 1, "the table is another");
    ensure!(table.partitions.len() == disk.layers.len(), "{} partitions", table.partitions.len());
    for (index, (layer, found)) in disk.layers.iter().rev().zip(&table.partitions).enumerate() {
        let name = match style {
            Style::Kata => format!("erofs-{index}-s"),
            Style::Nerdbox => format!("erofs-layer-{index}"),
        };
        ensure!(found.name.starts_with(&name), "partition {index} is called {}", found.name);
        ensure!(found.size * 512 == fs::metadata(layer)?.len(), "partition {index} has {}", found.size);
        Run::new("cmp")
            .arg(format!("--ignore-initial={}:0", found.start * 512))
            .arg(format!("--bytes={}", found.size * 512))
            .args([&raw, layer])
            .run()?;
    }
    fs::remove_file(raw)?;
    Ok(())
}

/// Reads around every boundary, where a reader that takes an offset for something else goes wrong.
fn imago_reads() -> Result<()> {
    let disk = chain_of(40);
    for layout in [Layout::Merged, Layout::Partitions(Style::Kata), Layout::Partitions(Style::Nerdbox)] {
        let made = disk.make(Form { layout, carrier: Carrier::Vmdk })?;
        let flat = File::open(disk.make(Form { layout, carrier: Carrier::Flat })?.path)?;
        let vmdk =
            Vmdk::<imago::file::File>::builder_path(&made.path).open(PermissiveImplicitOpenGate::default())?;
        let vmdk = FormatAccess::new(vmdk);
        ensure!(vmdk.size() == made.bytes, "libkrun's reader sees {} bytes", vmdk.size());
        let mut boundary = 0;
        for extent in device::check(&made.path)?.extents() {
            boundary += extent.sectors * 512;
            let start = boundary - 4096;
            let length = usize::try_from((made.bytes - start).min(8192))?;
            let (mut found, mut expected) = (vec![0; length], vec![0; length]);
            vmdk.read(&mut found, start)?;
            flat.read_exact_at(&mut expected, start)?;
            ensure!(found == expected, "{layout:?} at byte {start}");
        }
    }
    Ok(())
}

/// A file system of its own, mounted for a test.
struct Mounted(tempfile::TempDir);

impl Mounted {
    fn new(fstype: &str) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let (image, point) = (directory.path().join("image"), directory.path().join("mounted"));
        File::create(&image)?.set_len(512 << 20)?;
        fs::create_dir(&point)?;
        Run::new(format!("mkfs.{fstype}")).arg("-q").arg(&image).run()?;
        Run::new("mount").args(["-t", fstype, "-o", "loop"]).args([&image, &point]).run()?;
        Ok(Self(directory))
    }

    fn point(&self) -> PathBuf {
        self.0.path().join("mounted")
    }

    /// Bytes in use.
    fn used(&self) -> Result<u64> {
        let point = File::open(self.point())?;
        rustix::fs::syncfs(&point)?;
        let found = rustix::fs::fstatvfs(&point)?;
        Ok((found.f_blocks - found.f_bfree) * found.f_frsize)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(error) = Run::new("umount").arg(self.point()).run() {
            eprintln!("{error:#}");
        }
    }
}

fn flat_on(fstype: &str) -> Result<()> {
    let mounted = Mounted::new(fstype)?;
    let disk = OnDisk::in_directory(tempfile::tempdir_in(mounted.point())?, &[64 << 20, 4096, 32 << 20]);
    // Without holes, so that there is something to share.
    for layer in &disk.layers {
        let mut file = File::options().write(true).open(layer)?;
        let size = file.seek(SeekFrom::End(0))?;
        for (index, offset) in (0..size).step_by(4096).enumerate() {
            file.write_all_at(&[index as u8 | 1; 4096], offset)?;
        }
    }
    for layout in [Layout::Merged, Layout::Partitions(Style::Kata)] {
        let before = mounted.used()?;
        let made = disk.make(Form { layout, carrier: Carrier::Flat })?;
        let grown = mounted.used()?.saturating_sub(before);
        ensure!(made.bytes > 96 << 20 && grown < 1 << 20, "{layout:?} took {grown} bytes");
    }
    let merged = disk.make(MERGED)?;
    compare(&merged.path, &disk.home().join("merged.img"))
}
