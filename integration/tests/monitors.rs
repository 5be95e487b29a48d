//! Monitors and runtimes that need KVM, on machines that have them: what `nexuserofs devices` prints is pasted, and containers
//! run under a virtual machine of their own. What is not there is skipped, by name.
//!
//! The first two want a kernel too, an uncompressed one with virtio, its console, EROFS and no modules:
//! `NEXUSEROFS_MONITOR_KERNEL` is its path, below `/usr` or `/opt`. None of the four has run so far: where they were written there was none of the programs. They are
//! what their documents say (`docs/block-devices.md`, `docs/kata.md`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use nexuserofs_integration::bed::{Bed, Needs, Profile};
use nexuserofs_integration::command::Run;
use nexuserofs_integration::guest::snapshot::{Name, Snapshot};
use nexuserofs_integration::harness::{self, Test};
use nexuserofs_integration::node::{DaemonOptions, Node, NodeOptions, Pull, SNAPSHOTTER};
use rustix::mount::mount_bind_recursive;

const TESTS: &[Test] = &[
    Test { name: CLOUD_HYPERVISOR.test, run: |bed| if_there(bed, &CLOUD_HYPERVISOR, cloud_hypervisor) },
    Test { name: FIRECRACKER.test, run: |bed| if_there(bed, &FIRECRACKER, firecracker) },
    Test { name: KATA.test, run: |bed| if_there(bed, &KATA, kata) },
    Test { name: NERDBOX.test, run: |bed| if_there(bed, &NERDBOX, nerdbox) },
];

/// A program that the machine may have.
struct Wanted {
    test: &'static str,
    /// Where it may be, on the machine.
    places: &'static [&'static str],
    /// Whether it is given a kernel of ours.
    kernel: bool,
}

const CLOUD_HYPERVISOR: Wanted = Wanted {
    test: "cloud_hypervisor_boots_on_what_devices_prints",
    places: &["/usr/local/bin/cloud-hypervisor", "/usr/bin/cloud-hypervisor"],
    kernel: true,
};
const FIRECRACKER: Wanted = Wanted {
    test: "firecracker_boots_on_what_devices_prints",
    places: &["/usr/local/bin/firecracker", "/usr/bin/firecracker"],
    kernel: true,
};
const KATA: Wanted = Wanted {
    test: "kata_runs_a_container",
    places: &["/opt/kata/runtime-rs/bin/containerd-shim-kata-v2"],
    kernel: false,
};
const NERDBOX: Wanted = Wanted {
    test: "nerdbox_runs_a_container",
    places: &["/usr/local/bin/containerd-shim-nerdbox-v1", "/usr/bin/containerd-shim-nerdbox-v1"],
    kernel: false,
};

const KVM: &str = "/dev/kvm";
const KERNEL: &str = "NEXUSEROFS_MONITOR_KERNEL";

const NAMESPACE: &str = "monitors";
const KEY: &str = "machine";

/// What the image's shell makes of [`PROGRAM`], so that an echo of the command line is not taken for it.
const SAID: &str = "the answer is 42";
/// What runs in the guest: the command behind it ends the guest as the monitor likes it.
const PROGRAM: &str = "mount -t proc proc /proc; echo the answer is $((6*7))";

/// What containers print.
const HOSTNAME: &str = "demo";

fn main() -> Result<ExitCode> {
    harness::main(Needs { programs: Some(Profile::Debug), ..Needs::default() }, TESTS)
}

/// A program of the machine's, from inside the test host.
struct Found<'a> {
    bed: &'a Bed,
    /// Its path on the machine.
    program: &'static str,
}

/// Runs the test where the machine has what it wants, or says that it does not.
fn if_there(bed: &Bed, wanted: &Wanted, run: fn(&Found<'_>) -> Result<()>) -> Result<()> {
    let is_there = |place: &&&str| on_machine(bed, place).exists();
    let missing = match wanted.places.iter().find(is_there) {
        _ if !on_machine(bed, KVM).exists() => format!("there is no {KVM}"),
        None => format!("there is none of {}", wanted.places.join(", ")),
        Some(_) if wanted.kernel && std::env::var_os(KERNEL).is_none() => format!("{KERNEL} names no kernel"),
        Some(program) => return run(&Found { bed, program }),
    };
    // Counted by `cargo xtask test`, as what the project's other tests say of themselves.
    eprintln!("SKIPPED {}: {missing}", wanted.test);
    Ok(())
}

fn on_machine(bed: &Bed, path: &str) -> PathBuf {
    bed.place.machine.join(path.trim_start_matches('/'))
}

/// A node that has pulled the demo image, and its name there.
fn pulled(bed: &Bed, name: &str, settings: &str) -> Result<(Node, String)> {
    let daemon = DaemonOptions {
        default_size: Some("64MiB"),
        settings: Some(settings.to_owned()),
        ..DaemonOptions::default()
    };
    let node =
        Node::start(&bed.place, name, &NodeOptions { daemon: Some(daemon), ..NodeOptions::default() })?;
    let image = node.push(&bed.images.demo)?;
    node.containerd.pull(NAMESPACE, SNAPSHOTTER, Pull::Transfer, &image)?;
    Ok((node, image))
}

impl Found<'_> {
    /// What the tool prints for this monitor, of a snapshot with one disk for the image and one for what is written. The
    /// snapshot is there as long as the node.
    fn devices(&self, format: &str) -> Result<(Node, String)> {
        let (mut node, _) = pulled(self.bed, format, "[profiles.nexuserofs]\nlayers = \"merged\"\n")?;
        let name = Name { namespace: NAMESPACE, snapshotter: SNAPSHOTTER, key: KEY };
        Snapshot::prepare(&node.containerd, name, &self.bed.images.demo)?;
        let disk = node.dir().join("disk");
        let tool = Run::new(self.bed.place.programs.join("nexuserofs")).args(["devices", "--root"]);
        let tool = tool.arg(node.daemon()?.root()).args(["--transport", "flat", "--output"]).arg(disk);
        let printed = tool.args(["--format", format, KEY]).output()?;
        Ok((node, printed))
    }

    /// Runs a script of the machine's shell for a minute at most, with the monitor as `$0`, and the kernel and its command
    /// line as `$1` and `$2`; and looks for what the image's shell said.
    fn boots(&self, script: &str, parameters: &str) -> Result<()> {
        let monitor = Run::new("chroot").arg(&self.bed.place.machine).args(["timeout", "60", "sh", "-c"]);
        let monitor = monitor.args([script, self.program, &kernel()?, parameters]);
        let output = monitor.into_command().output().context("run the monitor")?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(said.contains(SAID), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }
}

/// The kernel, on the machine.
fn kernel() -> Result<String> {
    std::env::var(KERNEL).context("no test that wants a kernel runs without")
}

/// The command line of a kernel that runs the program on the image, and ends by this key of the kernel's.
fn parameters(end: char) -> String {
    let command = format!("{PROGRAM}; echo {end} >/proc/sysrq-trigger; sleep 60");
    format!(
        "console=ttyS0 reboot=k panic=-1 root=/dev/vda rootfstype=erofs ro init=/bin/sh -- -c \"{command}\""
    )
}

fn cloud_hypervisor(found: &Found<'_>) -> Result<()> {
    let (_node, printed) = found.devices("cloud-hypervisor")?;
    let script = format!("exec \"$0\" --kernel \"$1\" --cmdline \"$2\" --console off --serial tty {printed}");
    found.boots(&script, &parameters('o'))
}

fn firecracker(found: &Found<'_>) -> Result<()> {
    let (node, printed) = found.devices("firecracker")?;
    let mut configuration: serde_json::Value = serde_json::from_str(&printed)?;
    configuration["boot-source"] =
        serde_json::json!({ "kernel_image_path": kernel()?, "boot_args": parameters('b') });
    let file = node.dir().join("firecracker.json");
    fs::write(&file, configuration.to_string())?;
    found.boots(&format!("exec \"$0\" --no-api --config-file {}", file.display()), "")
}

fn kata(found: &Found<'_>) -> Result<()> {
    // Its configuration names its own files by these paths.
    let home = Path::new("/opt/kata");
    fs::create_dir_all(home)?;
    mount_bind_recursive(on_machine(found.bed, "/opt/kata"), home).context("bind Kata's directory")?;
    let (node, image) = pulled(found.bed, "kata", "")?;
    let configuration = node.dir().join("kata");
    let drop_ins = configuration.join("config.d");
    fs::create_dir_all(&drop_ins)?;
    let defaults = home.join("share/defaults/kata-containers/runtime-rs/configuration-qemu-runtime-rs.toml");
    let configuration = configuration.join("configuration.toml");
    fs::copy(&defaults, &configuration).with_context(|| format!("copy {}", defaults.display()))?;
    let ours = found.bed.place.project.join("kata-config/kata-plain.toml");
    fs::copy(ours, drop_ins.join("50-nexuserofs.toml"))?;
    let run = node.containerd.ctr(NAMESPACE).args(["run", "--rm", "--snapshotter", SNAPSHOTTER]);
    let run = run.args(["--runtime", found.program, "--runtime-config-path"]).arg(configuration);
    prints_its_hostname(run, &image)
}

fn nerdbox(found: &Found<'_>) -> Result<()> {
    let (node, image) = pulled(found.bed, "nerdbox", "")?;
    let run = node.containerd.ctr(NAMESPACE).args(["run", "--rm", "--snapshotter", SNAPSHOTTER]);
    prints_its_hostname(run.arg("--runtime").arg(on_machine(found.bed, found.program)), &image)
}

fn prints_its_hostname(run: Run, image: &str) -> Result<()> {
    let said = run.args([image, "container", "cat", "/etc/hostname"]).output()?;
    ensure!(said.trim() == HOSTNAME, "the container said {said:?}");
    Ok(())
}
