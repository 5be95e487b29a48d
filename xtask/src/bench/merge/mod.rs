//! `cargo xtask bench merge`: one merged mount against one mount for each layer, and what the merging costs.

mod image;
mod mounts;
mod report;

use std::fs;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nexuserofs_integration::bed::Bed;
use nexuserofs_integration::command::Run;

use self::image::Image;
use self::mounts::{Way, measure};
use self::report::{Report, Samples};
use super::machine::Setting;
use super::{Corpus, MergeArguments, run_in_bed};

pub(super) fn run(arguments: &MergeArguments) -> Result<ExitCode> {
    run_in_bed(Corpus::Own, arguments.print_only, |bed| measure_all(bed, arguments))
}

fn measure_all(bed: &Bed, arguments: &MergeArguments) -> Result<Report> {
    let mut image = Image::unpack(bed, arguments.layers)?;
    let mut samples = Samples::default();
    for round in 0..arguments.rounds {
        let prepared = image.prepare_anew()?;
        samples.first_prepare.push(prepared.first);
        samples.next_prepare.push(prepared.next);
        samples.merging.push(prepared.merging);
        samples.mkfs.push(mkfs(&image)?);
        let mut ways = [(Way::Separate, &mut samples.separate), (Way::Merged, &mut samples.merged)];
        if round % 2 == 1 {
            ways.reverse();
        }
        for (way, of_way) in ways {
            of_way.push(measure(way, &image.files()?, &bed.place.scratch)?);
        }
    }
    let files = image.files()?;
    let bytes =
        fs::metadata(&files.merged).with_context(|| format!("look at {}", files.merged.display()))?.len();
    Ok(Report {
        setting: Setting::of(bed)?,
        layers: arguments.layers,
        rounds: arguments.rounds,
        entries: image.entries(),
        bytes,
        samples,
    })
}

/// Has mkfs.erofs merge the same layers.
fn mkfs(image: &Image) -> Result<Duration> {
    let files = image.files()?;
    let output = image.dir().join("mkfs.erofs");
    if output.exists() {
        fs::remove_file(&output)?;
    }
    let begun = Instant::now();
    Run::new("mkfs.erofs").args(["--quiet", "--ovlfs-strip=1"]).arg(&output).args(&files.layers).run()?;
    Ok(begun.elapsed())
}
