//! `nexuserofs inspect`: what is in a file.
//!
//! * `erofs`: an EROFS image. * `disk`: a disk made of layers, GPT or VMDK. * `verity`: a dm-verity tree.
//! * `usage`: what takes how much. * `files`: the files of an image. * `text`: all of it for people.

mod disk;
mod erofs;
mod files;
mod text;
mod usage;
mod verity;

use std::fs::File;
use std::path::PathBuf;

use serde::Serialize;

use super::arguments::Inspect;
use super::error::Error;
use super::report::{Console, Line, Report};
use super::subject::{self, Subject};
use crate::cli::exit::Exit;

/// A file and what is in it. The names of the fields are those of the JSON, which `docs/tool.md` explains.
#[derive(Debug, Serialize)]
struct Inspection {
    name: String,
    file: PathBuf,
    /// Size of the file.
    bytes: u64,
    #[serde(flatten)]
    content: Content,
}

/// What a file holds.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Content {
    Erofs(Box<erofs::Image>),
    Gpt(disk::Gpt),
    Vmdk(disk::Vmdk),
    /// None of these.
    Unknown {
        /// Why it is not taken for an EROFS image.
        reason: String,
    },
}

/// Tells what is in the files that `asked` names.
pub(super) fn run(asked: &Inspect, console: Console) -> Result<Exit, Error> {
    let mut report = Report::default();
    for name in &asked.names {
        for subject in subject::find(name, &asked.root)? {
            report.add(inspect(&subject, asked.files)?);
        }
    }
    report.print(console)?;
    let is_unknown = |inspection: &Inspection| matches!(inspection.content, Content::Unknown { .. });
    Ok(if report.lines().iter().any(is_unknown) { Exit::Data } else { Exit::Success })
}

fn inspect(subject: &Subject, with_files: bool) -> Result<Inspection, Error> {
    let path = &subject.file;
    let failed = |source| Error::Read { path: path.clone(), source };
    let file = File::open(path).map_err(failed)?;
    let bytes = file.metadata().map_err(failed)?.len();
    let content = if let Some(gpt) = disk::gpt(path) {
        Content::Gpt(gpt)
    } else if let Some(vmdk) = disk::vmdk(&file).map_err(failed)? {
        Content::Vmdk(vmdk)
    } else {
        match erofs::read(path, file, bytes, with_files) {
            Ok(image) => Content::Erofs(Box::new(image)),
            Err(error) => Content::Unknown { reason: error.to_string() },
        }
    };
    Ok(Inspection { name: subject.name.clone(), file: path.clone(), bytes, content })
}

impl Line for Inspection {
    fn text(&self) -> String {
        text::of(self)
    }
}
