//! Where the database's bytes lie. A seam: tests put a failing disk behind it.

use std::fmt::Debug;
use std::path::{Path, PathBuf};

use redb::{Builder, Database, DatabaseError};

/// A place that holds a database and can open it again after a failure.
pub(crate) trait Medium: Debug + Send {
    /// The file, also for messages.
    fn path(&self) -> &Path;

    /// Opens the database, or makes an empty one where none is.
    fn open(&self, builder: &Builder) -> Result<Database, DatabaseError>;
}

/// A file.
#[derive(Debug)]
pub(crate) struct FileMedium(pub(crate) PathBuf);

impl Medium for FileMedium {
    fn path(&self) -> &Path {
        &self.0
    }

    fn open(&self, builder: &Builder) -> Result<Database, DatabaseError> {
        builder.create(&self.0)
    }
}
