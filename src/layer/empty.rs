//! The directories of the layers that hold nothing: `ROOT/empty/NAME/layer.erofs`, with
//! `layer.erofs.dmverity` beside it.
//!
//! Some consumers want a least number of layers. What a plan lacks is filled up with these, which belong to
//! no image and are never removed. There are several because dm-verity devices are named after the directory.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::shelf::{IMAGE_NAME, VERITY_NAME};
use super::{LAYOUT_VERSION, Verity};
use crate::image::empty::{self, EmptyLayer};
use crate::store::staging::{Scratch, StagingArea};
use crate::store::trash::Trash;
use crate::store::{Error, sidecar, sync_directory};

/// As many as a plan can lack.
const COUNT: u8 = 2;

/// Mode of the files: a virtual machine monitor that runs as another user may read them.
const FILE_MODE: u32 = 0o644;

/// The names of their directories. They are the same for one image layout.
pub fn names() -> impl Iterator<Item = String> {
    (0..COUNT).map(|number| format!("empty{LAYOUT_VERSION}-{number}"))
}

/// Sees to it that they are in `directory`, which exists. What is there and is something else goes to `trash`.
///
/// # Errors
/// If the disk is full or fails.
pub fn place(directory: &Path, staging: &StagingArea, trash: &Trash) -> Result<(), Error> {
    let layer = empty::layer().map_err(|error| Error::io("make", directory)(io::Error::other(error)))?;
    let mut changed = false;
    for name in names() {
        let home = directory.join(name);
        if !is_placed(&home, &layer) {
            let scratch = fill(staging, &layer)?;
            trash.discard(&home)?;
            scratch.publish(&home)?;
            changed = true;
        }
    }
    if changed { sync_directory(directory) } else { Ok(()) }
}

fn is_placed(home: &Path, layer: &EmptyLayer) -> bool {
    let image = fs::read(home.join(IMAGE_NAME));
    let verity = sidecar::read::<Verity>(&home.join(VERITY_NAME));
    image.is_ok_and(|image| image == layer.file) && verity.is_ok_and(|verity| verity == self::verity(layer))
}

fn fill(staging: &StagingArea, layer: &EmptyLayer) -> Result<Scratch, Error> {
    let scratch = staging.scratch()?;
    let path = scratch.path().join(IMAGE_NAME);
    let file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&path);
    let mut file = file.map_err(Error::io("create", &path))?;
    file.write_all(&layer.file).map_err(Error::io("write", &path))?;
    file.sync_data().map_err(Error::io("sync", &path))?;
    let parameters = scratch.path().join(VERITY_NAME);
    sidecar::create(&parameters, &verity(layer))?;
    sync_directory(scratch.path())?;
    Ok(scratch)
}

fn verity(layer: &EmptyLayer) -> Verity {
    Verity::of(layer.geometry, layer.root, layer.uuid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::{HashTree, build};

    struct Host {
        root: tempfile::TempDir,
        staging: StagingArea,
        trash: Trash,
    }

    impl Host {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            for name in ["staging", "empty"] {
                fs::create_dir(root.path().join(name)).unwrap();
            }
            let staging = StagingArea::new(root.path().join("staging"));
            let trash = Trash::start(staging.clone(), |_| Ok(())).unwrap();
            Self { root, staging, trash }
        }

        fn place(&self) {
            place(&self.root.path().join("empty"), &self.staging, &self.trash).unwrap();
        }

        fn images(&self) -> Vec<Vec<u8>> {
            let image = |name: String| self.root.path().join("empty").join(name).join(IMAGE_NAME);
            names().map(|name| fs::read(image(name)).unwrap()).collect()
        }
    }

    #[test]
    fn it_is_the_layer_of_an_empty_tar() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(IMAGE_NAME);
        let built = build::read(&mut &[0; 1024][..], &path, HashTree::With).unwrap();
        let built = built.seal(&empty::diff_id()).unwrap();
        let layer = empty::layer().unwrap();
        assert_eq!(fs::read(&path).unwrap(), layer.file);
        assert_eq!(built.verity, Some(verity(&layer)));
    }

    #[test]
    fn what_is_there_stays_and_what_is_damaged_is_made_again() {
        let host = Host::new();
        host.place();
        let images = host.images();
        assert_eq!(images, vec![empty::layer().unwrap().file; 2]);
        let first = host.root.path().join("empty/empty1-0");
        let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap());
        let (before, other) = (inode(&first), host.root.path().join("empty/empty1-1"));
        host.place();
        assert_eq!(inode(&first), before);
        fs::write(first.join(IMAGE_NAME), b"x").unwrap();
        fs::remove_file(other.join(VERITY_NAME)).unwrap();
        host.place();
        assert_eq!(host.images(), images);
        assert!(other.join(VERITY_NAME).exists());
    }
}
