//! A small image with one layer for each way in which a registry may hold a layer.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::Result;

use super::Image;
use super::layout::{Encoding, Layout, Source};
use crate::cache::{Cache, Key};
use crate::progress::Outcome;

/// Changes when the recipe below does.
const RECIPE: &str = "encodings 1";

/// The layers, from the lowest up, and the directory that each adds.
pub const LAYERS: [(&str, Encoding); 5] = [
    ("gzip", Encoding::Gzip),
    ("gzip-members", Encoding::GzipMembers),
    ("zstd", Encoding::Zstd),
    ("zstd-frames", Encoding::ZstdFrames),
    ("plain", Encoding::Plain),
];

/// Bytes of the large file of a layer: several members or frames, and no multiple of a block.
const LARGE: u32 = 7_000_001;

/// Makes the image unless the cache has it.
///
/// # Errors
/// A file cannot be made.
pub fn make(cache: &Cache) -> Result<(Image, Outcome)> {
    let (layout, outcome) = cache.entry("image-encodings", &Key::of([RECIPE]), |dir| {
        let mut layout = Layout::create(dir)?;
        for (name, encoding) in LAYERS {
            let work = tempfile::tempdir_in(dir)?;
            write_tree(&work.path().join(name), name)?;
            layout.add(Source::Directory(work.path()), encoding)?;
        }
        layout.finish()
    })?;
    Ok((Image { name: "encodings", layout }, outcome))
}

fn write_tree(dir: &Path, name: &str) -> Result<()> {
    fs::create_dir(dir)?;
    fs::write(dir.join("name"), name)?;
    // Numbers do not repeat, so that a part that is lost or doubled changes the file.
    let large: Vec<u8> = (0..LARGE / 4).flat_map(u32::to_le_bytes).chain([1]).collect();
    fs::write(dir.join("large"), large)?;
    for file in ["name", "large", "."] {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_750_000_000);
        File::open(dir.join(file))?.set_modified(time)?;
    }
    Ok(())
}
