//! A guest as containerd host: what the machine's own kernel may lack, dm-verity, fs-verity and project quotas.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nexuserofs_guest::dm::DeviceMapper;
use nexuserofs_integration::bed::Profile;
use nexuserofs_integration::guest::Workshop;
use nexuserofs_integration::guest::disk::Disk;
use nexuserofs_integration::guest::harness::{self, Needs, Test, image};
use nexuserofs_integration::images::shell;
use nexuserofs_integration::node::{DaemonOptions, Node, NodeOptions, Pull, SNAPSHOTTER};
use nexuserofs_integration::stage::Place;

const TESTS: &[Test] = &[
    Test { name: "the_kernel_has_device_mapper", run: |_| device_mapper() },
    Test { name: "a_container_runs_on_templated_plans", run: template },
];

const NAMESPACE: &str = "vm";

fn main() -> Result<ExitCode> {
    let needs = Needs {
        programs: Some(Profile::Debug),
        disks: carry,
        deadline: Duration::from_secs(420),
        ..Needs::default()
    };
    harness::main(needs, TESTS)
}

fn carry(workshop: &Workshop<'_>) -> Result<Vec<Disk>> {
    let image = workshop.steps.run("image shell", || shell::make(workshop.cache, &workshop.host.root))?;
    workshop.carry(&image)?;
    Ok(Vec::new())
}

fn device_mapper() -> Result<()> {
    let version = DeviceMapper::open()?.verity_version()?.context("dm-verity is not loaded")?;
    ensure!(version.major == 1, "{version:?}");
    Ok(())
}

fn template(place: &Place) -> Result<()> {
    let begun = std::time::Instant::now();
    let options = NodeOptions { daemon: Some(DaemonOptions::default()), ..NodeOptions::default() };
    let node = Node::start(place, "template", &options)?;
    println!("started {:?}", begun.elapsed());
    let image = node.push(&image("shell"))?;
    println!("pushed {:?}", begun.elapsed());
    node.containerd.pull(NAMESPACE, SNAPSHOTTER, Pull::Transfer, &image)?;
    println!("pulled {:?}", begun.elapsed());
    let printed = node.containerd.run(
        NAMESPACE,
        SNAPSHOTTER,
        &image,
        "one",
        &["/bin/sh", "-c", "cat /srv/* | wc -c"],
    )?;
    println!("ran {:?}", begun.elapsed());
    ensure!(printed.trim() == "362144", "the container printed {printed:?}");
    node.containerd.remove_image(NAMESPACE, &image)?;
    println!("removed {:?}", begun.elapsed());
    node.assert_nothing_left()
}
