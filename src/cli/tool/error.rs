//! What can go wrong in the tool.

use std::path::PathBuf;

use crate::diff::offline;
use crate::image::digest::Digest;
use crate::store;

/// Why the tool stopped.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// A source that is not there.
    #[error("cannot use {path}: name the tar of a layer, or a directory in OCI image layout", path = path.display())]
    Source { path: PathBuf, source: std::io::Error },
    /// A directory that is no image layout.
    #[error("{path} is not what an OCI image layout has there: write the layout again", path = path.display())]
    Layout { path: PathBuf, source: serde_json::Error },
    /// A blob that is no layer.
    #[error("cannot make a layer of {path}", path = path.display())]
    Layer { path: PathBuf, source: offline::Error },
    /// A blob that is another than the image says.
    #[error(
        "{path} is damaged or of another image: its {what} is {found}, the image says {expected}; fetch the image again",
        path = path.display()
    )]
    Mismatch { path: PathBuf, what: &'static str, found: Digest, expected: Digest },
    /// A file operation failed.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// An error and what caused it, as one line.
pub(super) fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let mut texts: Vec<String> = causes.map(ToString::to_string).collect();
    // Some errors repeat their cause in their own text.
    texts.dedup_by(|later, earlier| earlier.ends_with(later.as_str()));
    texts.join(": ")
}
