//! One file, every block.

use std::fs::File;
use std::io;
use std::ops::Range;

use super::line::{Bad, State, Verified};
use super::root::{self, Expected};
use super::{owners, owners::Owners};
use crate::cli::tool::error::{Error, with_causes};
use crate::cli::tool::progress::Progress;
use crate::cli::tool::subject::Subject;
use crate::cli::tool::survey::survey;
use crate::image::digest::Digest;
use crate::image::erofs::header::{Checksum, Header};
use crate::image::erofs::read::{self, ReadAt};
use crate::image::tree::BLOCK_SIZE;
use crate::image::verity::{self, Damage};
use crate::layer::open::LayerFile;

/// How every note on a file begins of which nobody tells a root hash.
const NO_ROOT: &str = "there is no root hash beside it";
/// What is said about bad blocks of an image with compressed files.
const COMPRESSED: &str =
    "which blocks hold the data of compressed files is not known here: where no file is named, it is theirs";

/// Reads all of a file, and tells whether it is the one that its root hash was made of.
pub(super) fn verify(
    subject: &Subject,
    given: Option<Digest>,
    progress: &Progress,
) -> Result<Verified, Error> {
    let path = &subject.file;
    let file = File::open(path).map_err(|source| Error::Read { path: path.clone(), source })?;
    let file = LayerFile::new(file);
    match root::expected(path, &file, given)? {
        Some(expected) => against_root(subject, &file, &expected, progress),
        None => Ok(structure(subject, &file)),
    }
}

fn against_root(
    subject: &Subject,
    file: &LayerFile,
    expected: &Expected,
    progress: &Progress,
) -> Result<Verified, Error> {
    let mut runs: Vec<Range<u64>> = Vec::new();
    let mut others = Vec::new();
    let counted = Counted { file, progress };
    let done = verity::verify(&counted, &expected.parameters, &mut |damage| match damage {
        Damage::Data { offset } => add(&mut runs, offset..offset + BLOCK_SIZE),
        Damage::Somewhere { offset, length } => others.push(Bad::somewhere(offset, length)),
        Damage::Tree { offset } => others.push(Bad::tree(offset)),
        Damage::Superblock { offset, reason } => others.push(Bad::superblock(offset, reason)),
    });
    let mut line = Verified::new(subject, State::Proven).with_root(expected);
    match done {
        Ok(()) => {}
        Err(verity::leaves::Error::Read { offset, source })
            if source.kind() == io::ErrorKind::UnexpectedEof =>
        {
            others.push(Bad::cut_off(offset));
        }
        Err(source) => return Err(Error::Verity { path: subject.file.clone(), source }),
    }
    line.damage = bad_data(subject, file, runs, &mut line.note);
    line.damage.extend(others);
    if !line.damage.is_empty() {
        line.state = State::Damaged;
    }
    Ok(line)
}

/// Runs of bad blocks with the files that they belong to, as far as the image can still tell.
fn bad_data(
    subject: &Subject,
    file: &LayerFile,
    runs: Vec<Range<u64>>,
    note: &mut Option<String>,
) -> Vec<Bad> {
    if runs.is_empty() {
        return Vec::new();
    }
    let owners = match survey(file, length(subject)) {
        Ok((image, places)) => {
            *note = image.is_compressed().then(|| COMPRESSED.to_owned());
            owners::of(&image, &places, &runs)
        }
        Err(error) => {
            *note = Some(format!("which files these are of cannot be told: {}", with_causes(&error)));
            vec![Owners::default(); runs.len()]
        }
    };
    runs.into_iter().zip(owners).map(|(run, owners)| Bad::data(run, owners)).collect()
}

/// Adds a block to runs of blocks, which come in ascending order.
fn add(runs: &mut Vec<Range<u64>>, block: Range<u64>) {
    match runs.last_mut() {
        Some(last) if last.end == block.start => last.end = block.end,
        _ => runs.push(block),
    }
}

/// What can be told without a root hash: whether the metadata contradicts itself, as far as it is read here.
fn structure(subject: &Subject, file: &LayerFile) -> Verified {
    let unproven =
        |what: &str| Verified::new(subject, State::Unproven).with_note(&format!("{NO_ROOT}: {what}"));
    match survey(file, length(subject)) {
        Ok((image, _)) if image.is_compressed() => unproven(
            "superblock and metadata are sound, the content of files is not proven, and that of compressed ones was \
             not read",
        ),
        Ok(_) => unproven("superblock and metadata are sound, the content of files is not proven"),
        // A merged image is not damaged by that.
        Err(read::Error::Unsupported(what)) if has_checksum(file) => unproven(&format!(
            "only the superblock is known to be sound, as images with {what} are not read here"
        )),
        Err(error) => Verified::new(subject, State::Damaged)
            .with_note(&format!("{NO_ROOT}, and {}", with_causes(&error))),
    }
}

/// Size of the file in bytes.
fn length(subject: &Subject) -> u64 {
    subject.file.metadata().map_or(0, |found| found.len())
}

fn has_checksum(file: &LayerFile) -> bool {
    Header::read(file).is_ok_and(|header| header.checksum == Checksum::Right)
}

/// A file, and a bar that shows how much of it was read.
struct Counted<'c> {
    file: &'c LayerFile,
    progress: &'c Progress,
}

impl ReadAt for Counted<'_> {
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.progress.advance(buffer.len() as u64);
        self.file.read_exact_at(offset, buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_that_follow_each_other_are_one_run() {
        let mut runs = Vec::new();
        for block in [0, 1, 3, 4, 5, 9] {
            add(&mut runs, block * 4096..(block + 1) * 4096);
        }
        assert_eq!(runs, [0..8192, 3 * 4096..6 * 4096, 9 * 4096..10 * 4096]);
    }
}
