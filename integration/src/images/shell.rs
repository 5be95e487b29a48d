//! A small image with a shell: for guests, where all work takes 10 to 20 times as long.
//!
//! Its programs are the test host's own. The second layer has files with a pattern that is found in a layer's
//! file, so that a test can damage one of them, and takes a file of the first away.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context, Result};

use super::Image;
use super::layout::{Encoding, Layout, Source};
use crate::cache::{Cache, Key};
use crate::progress::Outcome;

/// Changes when the recipe below does.
const RECIPE: &str = "shell 2";

/// What containers run, and what these programs are linked with.
const FILES: &[&str] = &[
    "usr/bin/sh",
    "usr/bin/cat",
    "usr/bin/dd",
    "usr/bin/sleep",
    "usr/bin/wc",
    "usr/lib64/ld-linux-x86-64.so.2",
    "usr/lib/x86_64-linux-gnu/libc.so.6",
];

/// A file of the second layer whose content is [`pattern`].
pub const MARKED: &str = "srv/marked";
/// A file of the second layer that no test damages.
pub const WHOLE: &str = "srv/whole";

/// 256 KiB in lines that are found nowhere else.
#[must_use]
pub fn pattern() -> Vec<u8> {
    (0..256 << 4).flat_map(|line| format!("marked line number {line:044}\n").into_bytes()).collect()
}

/// Makes the image from the test host's root, unless the cache has it.
///
/// # Errors
/// A file cannot be copied or read.
pub fn make(cache: &Cache, host: &Path) -> Result<(Image, Outcome)> {
    // The directory's name has the key of its own contents.
    let key = Key::of([RECIPE, &host.to_string_lossy()]);
    let (layout, outcome) = cache.entry("image-shell", &key, |dir| {
        let work = tempfile::tempdir_in(dir)?;
        let (base, upper) = (work.path().join("base"), work.path().join("upper"));
        write_base(host, &base)?;
        write_upper(&upper)?;
        let mut layout = Layout::create(dir)?;
        layout.add(Source::Directory(&base), Encoding::Gzip)?;
        layout.add(Source::Directory(&upper), Encoding::Gzip)?;
        layout.finish()
    })?;
    Ok((Image { name: "shell", layout }, outcome))
}

fn write_base(host: &Path, root: &Path) -> Result<()> {
    for file in FILES {
        let (from, to) = (host.join(file), root.join(file));
        fs::create_dir_all(to.parent().unwrap_or(root))?;
        fs::copy(&from, &to).with_context(|| format!("copy {}", from.display()))?;
    }
    for name in ["bin", "lib", "lib64"] {
        symlink(format!("usr/{name}"), root.join(name))?;
    }
    for dir in ["dev", "proc", "sys", "etc", "srv"] {
        fs::create_dir(root.join(dir))?;
    }
    Ok(fs::write(root.join("srv/gone"), "gone in the next layer\n")?)
}

fn write_upper(root: &Path) -> Result<()> {
    fs::create_dir_all(root.join("srv"))?;
    fs::write(root.join(MARKED), pattern())?;
    fs::write(root.join(WHOLE), vec![b'w'; 100_000])?;
    Ok(fs::write(root.join("srv/.wh.gone"), "")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_pattern_are_64_bytes_so_that_each_block_has_whole_ones() {
        let pattern = pattern();
        assert_eq!(pattern.len(), 256 << 10);
        assert!(pattern.chunks(64).all(|line| line.ends_with(b"\n")));
    }
}
