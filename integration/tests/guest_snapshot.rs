//! A snapshot of a real containerd as the root of a guest that trusts a signed list only.

use std::fs;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use nexuserofs_integration::bed::{Bed, Needs, Profile};
use nexuserofs_integration::guest::image_init::Machine;
use nexuserofs_integration::guest::passed_through::{
    self as way, MERGED, SEPARATE, Setup, TEXT, Trust, WRITTEN,
};
use nexuserofs_integration::guest::snapshot::{ImageFiles, Snapshot};
use nexuserofs_integration::harness::{self, Test};

const TESTS: &[Test] = &[
    Test { name: "what_a_guest_writes_is_in_its_snapshot", run: |bed| written(bed, SEPARATE) },
    Test { name: "the_same_with_the_image_on_one_disk", run: |bed| written(bed, MERGED) },
];

fn main() -> Result<ExitCode> {
    harness::main(Needs { programs: Some(Profile::Debug), guests: true, ..Needs::default() }, TESTS)
}

fn written(bed: &Bed, setup: Setup<'_>) -> Result<()> {
    let machine = Machine::inside(&bed.place)?;
    let node = way::pulled(bed, setup)?;
    let directory = node.dir().join("guest");
    fs::create_dir(&directory)?;
    let trust = Trust::of_demo_image(bed, &directory)?;
    let snapshot = Snapshot::prepare(&node.containerd, setup.name, &bed.images.demo)?;
    let is_merged = matches!(snapshot.image(), ImageFiles::Merged(_));
    ensure!(is_merged == (setup.node == MERGED.node), "the snapshot's mounts are {:?}", snapshot.mounts);
    way::ensure_ran(&way::boot(&machine, &snapshot, &trust, &directory)?)?;
    let found = snapshot.written(WRITTEN)?;
    ensure!(found == TEXT, "the block has {found:?}");
    way::ensure_difference(&snapshot)?;
    snapshot.remove()?;
    node.assert_nothing_mounted()
}
