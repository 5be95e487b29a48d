//! A directory that was written to, read as a layer.
//!
//! Overlay's upper directory says with its own marks what it hides of the layers below: character
//! devices 0:0, and extended attributes (`Documentation/filesystems/overlayfs.rst` in the Linux source
//! tree). An EROFS layer says it with the same marks, so most of them pass through; what concerns only
//! the place where the directory lies stays behind (`xattr`).
//!
//! A directory is read in one of two ways:
//!
//! * [`store`]: into an image, data and all.
//! * [`scan`]: its tree only, with a way to read the data later.
//!
//! Both go by file descriptors. They follow no symbolic link, enter no mount and have no limit of depth,
//! whatever a container left there, and end at the next file or piece of data once `stop` says so.
//!
//! * `walk`: from directory to directory. `entry`: one thing in a directory. `found`: the tree that they
//!   make up.
//! * `xattr`: extended attributes. `data`: the data of regular files into an image.
//! * `contents`: the data of regular files read later.

mod contents;
mod data;
mod entry;
mod error;
mod found;
mod walk;
mod xattr;

use std::os::fd::OwnedFd;

pub use contents::UpperContents;
pub use error::Error;

use crate::image::tree::{BlockSink, Tree};
use data::{InPlace, ToImage};
use walk::Walk;

/// A directory's tree, with the way to the data of its files.
#[derive(Debug)]
pub struct Scanned {
    /// All but the data: regular files have their size and no extents.
    pub tree: Tree,
    /// The data, by the tree's inodes.
    pub contents: UpperContents,
}

/// Reads the directory `top` with all data, which goes to `sink`, and returns its tree.
///
/// The tree is a function of what the directory holds: entries are taken in the order of their names.
///
/// # Errors
/// [`Error`]; then what `sink` got is of no use. [`Error::Stopped`] once `stop` returns true.
pub fn store(top: OwnedFd, sink: &mut impl BlockSink, stop: &dyn Fn() -> bool) -> Result<Tree, Error> {
    let (tree, _) = Walk::new(ToImage::new(sink, stop), stop).run(top)?.into_parts();
    Ok(tree)
}

/// Reads the directory `top` without the data of its files.
///
/// # Errors
/// [`Error`]. [`Error::Stopped`] once `stop` returns true.
pub fn scan(top: OwnedFd, stop: &dyn Fn() -> bool) -> Result<Scanned, Error> {
    let again = top.try_clone().map_err(Error::io("open", &|| "/".into()))?;
    let (tree, places) = Walk::new(InPlace, stop).run(top)?.into_parts();
    Ok(Scanned { tree, contents: UpperContents::new(again, places) })
}
