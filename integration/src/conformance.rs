//! containerd's own suite for snapshotters, which `conformance/` makes a program of.

use std::fs;

use anyhow::{Context, Result, ensure};

use crate::command::Run;
use crate::gotest::{self, Ended, Ending};
use crate::host::tools::CONFORMANCE;
use crate::node::daemon;
use crate::stage::Place;

/// The test that mounts a chain again and again while it grows to 128 layers.
pub const LONG_CHAIN: &str = "128LayersMount";

/// Runs the suite as the Go test `of` of the program, which says with which snapshotter, or `only` one test of
/// it. The tests run one at a time, so that their times can be compared. Prints what failed.
///
/// # Errors
/// The program cannot be started, or ends without a word on what failed.
pub fn run(place: &Place, of: &str, only: Option<&str>) -> Result<Vec<Ended>> {
    // Short, because mount options of 128 layers below it have to fit in a page.
    // What an earlier run left stays until the scratch directory goes: its layers are immutable.
    let mut free =
        (1_u32..).map(|run| place.scratch.join(format!("{of}{run}"))).filter(|work| !work.exists());
    let work = free.next().context("no name is left for another run")?;
    fs::create_dir(&work).with_context(|| format!("create {}", work.display()))?;
    let pattern = only.map_or_else(|| format!("^{of}$"), |only| format!("^{of}$/^{only}$"));
    let mut command = Run::new(place.extra(CONFORMANCE)?.join("conformance.test"))
        .args(["-test.v", "-test.parallel=1", "-test.timeout=10m"])
        .arg(format!("-test.run={pattern}"))
        .env("NEXUSEROFS_SNAPSHOTTER", place.programs.join(daemon::PROGRAM))
        .env("TMPDIR", &work)
        .dir(&work)
        .into_command();
    let output = command.output().context("start the suite")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let ended = gotest::subtests(of, &text);
    let explained = ended.iter().any(|test| test.ending == Ending::Failed);
    if explained || !output.status.success() {
        println!("{text}\n{}", String::from_utf8_lossy(&output.stderr));
    }
    ensure!(explained || output.status.success(), "the suite ended with {}", output.status);
    Ok(ended)
}
