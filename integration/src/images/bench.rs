//! The layers of `cargo xtask bench unpack`, each as an image of one gzip layer: many small files, a
//! distribution root, a few big files, and directories of many entries.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::Result;

use super::Image;
use super::layout::{Encoding, Layout, Source};
use super::trees::{self, Tree};
use crate::cache::{Cache, Key};
use crate::command::Run;
use crate::progress::Steps;
use crate::random::Random;

/// Changes when a recipe below does.
const RECIPE: &str = "bench 1";

/// Python packages that, with [`trees::PYPI`], make about 56,000 entries and 620 MB.
const MORE_PYTHON: Tree = Tree::PyPi(&[
    "botocore==1.35.80",
    "google-ads==25.1.0",
    "kubernetes==31.0.0",
    "oci==2.140.0",
    "sympy==1.13.3",
]);
/// Shared objects of about 560 MB.
const LARGE_LIBRARIES: Tree = Tree::PyPi(&["nvidia-cublas-cu12==12.4.5.8"]);
/// A machine on which programs are built.
const DISTRIBUTION: &str = "build-essential,ca-certificates,git,perl,python3";

/// Entries of the directories, and the images' names.
const DIRECTORIES: [(u32, &str); 3] =
    [(5_000, "bench-entries-5k"), (20_000, "bench-entries-20k"), (50_000, "bench-entries-50k")];

/// The images, each with one layer.
#[derive(Clone, Debug)]
pub struct Layers {
    /// Small files, a distribution root, big files.
    pub real: Vec<Image>,
    /// Directories of more and more entries, with the number of entries.
    pub directories: Vec<(u32, Image)>,
}

/// Makes those images that the cache has not.
///
/// # Errors
/// A package cannot be fetched, or a file cannot be made.
pub fn make(cache: &Cache, steps: &Steps<'_>) -> Result<Layers> {
    let real = vec![
        one(cache, steps, "bench-small-files", |layout, work| {
            trees::PYPI.fetch(&work.join("a"))?;
            MORE_PYTHON.fetch(&work.join("b"))?;
            layout.add(Source::Directory(work), Encoding::Gzip)
        })?,
        one(cache, steps, "bench-distribution", |layout, work| {
            let tar = work.join("root.tar");
            distribution(&tar)?;
            layout.add(Source::Tar(&tar), Encoding::Gzip)
        })?,
        one(cache, steps, "bench-big-files", |layout, work| {
            LARGE_LIBRARIES.fetch(work)?;
            write_random(&work.join("random"), 320 << 20)?;
            write_weights(&work.join("weights"), 160 << 20)?;
            layout.add(Source::Directory(work), Encoding::Gzip)
        })?,
    ];
    let directories = DIRECTORIES
        .iter()
        .map(|&(entries, name)| {
            let image = one(cache, steps, name, |layout, work| {
                write_directory(&work.join("directory"), entries)?;
                layout.add(Source::Directory(work), Encoding::Gzip)
            })?;
            Ok((entries, image))
        })
        .collect::<Result<_>>()?;
    Ok(Layers { real, directories })
}

/// An image of the layer that `add` makes, with a directory to work in.
fn one(
    cache: &Cache,
    steps: &Steps<'_>,
    name: &'static str,
    add: impl FnOnce(&mut Layout, &Path) -> Result<()>,
) -> Result<Image> {
    let layout = steps.run(&format!("image {name}"), || {
        cache.entry(&format!("image-{name}"), &Key::of([RECIPE, name]), |dir| {
            let work = tempfile::tempdir_in(dir)?;
            let mut layout = Layout::create(dir)?;
            add(&mut layout, work.path())?;
            layout.finish()
        })
    })?;
    Ok(Image { name, layout })
}

fn distribution(tar: &Path) -> Result<()> {
    Run::new("mmdebstrap")
        .args(["--variant=minbase", &format!("--include={DISTRIBUTION}"), "trixie"])
        .arg(tar)
        .env("SOURCE_DATE_EPOCH", "1760000000")
        .run()
}

/// Bytes that do not compress.
fn write_random(file: &Path, bytes: usize) -> Result<()> {
    let mut random = Random::new(1);
    write_words(file, bytes, || random.bits())
}

/// 16-bit floating point numbers around zero, as a model's weights are: the high byte of each has few values.
fn write_weights(file: &Path, bytes: usize) -> Result<()> {
    let mut random = Random::new(2);
    write_words(file, bytes, || {
        let bits = random.bits();
        // Of each high byte, sign and three bits are random, the others fixed.
        (bits & 0x87ff_87ff_87ff_87ff) | 0x3800_3800_3800_3800
    })
}

fn write_words(file: &Path, bytes: usize, mut word: impl FnMut() -> u64) -> Result<()> {
    let mut out = BufWriter::new(File::create(file)?);
    for _ in 0..bytes / 8 {
        out.write_all(&word().to_le_bytes())?;
    }
    Ok(out.flush()?)
}

fn write_directory(dir: &Path, entries: u32) -> Result<()> {
    fs::create_dir(dir)?;
    (0..entries)
        .try_for_each(|number| Ok(fs::write(dir.join(format!("file-{number:06}")), format!("{number}\n"))?))
}
