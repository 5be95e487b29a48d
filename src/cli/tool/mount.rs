//! `nexuserofs mount` and `nexuserofs umount`: layers on a directory, to look at.

use std::path::PathBuf;

use serde::Serialize;

use super::arguments::{Mount, Umount};
use super::error::Error;
use super::report::{Console, Line, Report};
use super::subject;
use crate::cli::exit::Exit;
use crate::expose::view::{self, Image};

/// A directory, and what is shown there.
#[derive(Debug, Serialize)]
struct Shown {
    directory: PathBuf,
    /// The files of the images, the newest first; empty once they are gone.
    files: Vec<PathBuf>,
    state: State,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Mounted,
    Unmounted,
    /// There was nothing to unmount.
    NotMounted,
}

/// Mounts what `asked` names.
pub(super) fn mount(asked: &Mount, console: Console) -> Result<Exit, Error> {
    check_root()?;
    let mut images = Vec::new();
    for name in &asked.names {
        images.extend(subject::find(name, &asked.root)?.into_iter().map(|subject| Image {
            file: subject.file,
            devices: subject.layers.into_iter().map(|layer| layer.file).collect(),
        }));
    }
    view::mount(&images, &asked.directory)?;
    let files = images.into_iter().map(|image| image.file).collect();
    tell(Shown { directory: asked.directory.clone(), files, state: State::Mounted }, console)
}

/// Unmounts what [`mount`] mounted.
pub(super) fn umount(asked: &Umount, console: Console) -> Result<Exit, Error> {
    check_root()?;
    let state = if view::unmount(&asked.directory)? { State::Unmounted } else { State::NotMounted };
    tell(Shown { directory: asked.directory.clone(), files: Vec::new(), state }, console)
}

fn tell(shown: Shown, console: Console) -> Result<Exit, Error> {
    let mut report = Report::default();
    report.add(shown);
    report.print(console)?;
    Ok(Exit::Success)
}

/// The kernel's own answer would be a mere "Operation not permitted".
fn check_root() -> Result<(), Error> {
    if rustix::process::geteuid().is_root() { Ok(()) } else { Err(Error::NotRoot) }
}

impl Line for Shown {
    fn text(&self) -> String {
        let directory = self.directory.display();
        match (self.state, self.files.len()) {
            (State::Mounted, 1) => format!("{directory} shows one image"),
            (State::Mounted, layers) => format!("{directory} shows {layers} layers"),
            (State::Unmounted, _) => format!("{directory} shows no layers any more"),
            (State::NotMounted, _) => format!("nothing was mounted on {directory}"),
        }
    }
}
