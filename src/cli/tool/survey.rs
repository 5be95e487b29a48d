//! The metadata of an image, whoever made it, for those who explain it to people.

use crate::image::erofs::read::{Error, Image, InodePlace, Limits};
use crate::layer::open::LayerFile;

/// An image, and where its inodes are.
pub(super) type Survey<'f> = (Image<&'f LayerFile>, Vec<InodePlace>);

/// Reads the metadata of the image in `file`, which has `file_bytes` bytes. What only the kernel reads, as the data
/// of compressed files, is passed over.
///
/// Blocks of extents and places are of the image's own size.
pub(super) fn survey(file: &LayerFile, file_bytes: u64) -> Result<Survey<'_>, Error> {
    let limits = Limits::default();
    match Image::survey(file, &limits) {
        // A merged image stays unsupported: its data is in other files.
        Err(Error::Unsupported(_)) => Image::survey_foreign(file, file_bytes, &limits),
        surveyed => surveyed,
    }
}
