//! Layers that replace, remove and hide what is below them.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::Result;
use nexuserofs::layer::{HashTree, written};
use rustix::fs::{CWD, FileType, Mode, XattrFlags, mknodat, setxattr};

/// A file that every layer replaces.
const EVERY: &str = "every";

/// The first `count` of an image's layers, each in a file of its own.
pub(crate) fn make(directory: &Path, count: usize) -> Result<Vec<PathBuf>> {
    (0..count).map(|index| layer(directory, index)).collect()
}

/// What layer `index` says of itself. Lengths differ, so that the places of layers do.
fn content(index: usize) -> String {
    format!("layer {index}\n").repeat(400 + index * 57 % 900)
}

fn layer(directory: &Path, index: usize) -> Result<PathBuf> {
    let top = directory.join(format!("top-{index}"));
    fs::create_dir_all(top.join("own"))?;
    fs::write(top.join(EVERY), content(index))?;
    fs::write(top.join(format!("own/{index}")), content(index))?;
    fs::hard_link(top.join(format!("own/{index}")), top.join(format!("own/{index}-linked")))?;
    symlink("own", top.join(format!("link-{index}")))?;
    // What is of the layer before is gone from every third on.
    if index % 3 == 2 {
        let removed = top.join(format!("own/{}", index - 1));
        mknodat(CWD, removed, FileType::CharacterDevice, Mode::empty(), 0)?;
    }
    let shared = top.join(format!("shared/{}", index % 5));
    fs::create_dir_all(&shared)?;
    fs::write(shared.join(index.to_string()), content(index))?;
    // And every seventh hides what all before it had in a directory.
    if index % 7 == 6 {
        setxattr(&shared, "trusted.overlay.opaque", b"y", XattrFlags::empty())?;
    }
    let home = directory.join(format!("layer-{index}"));
    fs::create_dir(&home)?;
    let path = home.join("layer.erofs");
    let name = format!("{index:032x}").parse()?;
    // A tree behind the image is a part of the disk too.
    let tree = HashTree::wanted(index.is_multiple_of(2));
    written::build(File::open(&top)?.into(), &path, name, tree, &|_| {}, &|| false)?;
    Ok(path)
}
