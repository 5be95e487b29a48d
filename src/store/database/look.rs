//! A look at a database that changes nothing: for tools, beside a daemon or without one.

use std::path::Path;

use redb::ReadOnlyDatabase;

use super::{Header, Table, guarded, load, read_header};
use crate::store::Error;

/// In which state a database is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// There is none: the next start makes it.
    Absent,
    /// A process has it open.
    InUse,
    /// The last process that had it open did not end by itself: the next start checks and repairs it.
    Unclean,
    /// It was closed properly.
    Closed {
        /// Number of snapshots on record.
        snapshots: usize,
        /// Number of layers on record.
        layers: usize,
    },
}

/// Looks at the database in the file `path`.
///
/// # Errors
/// If it is damaged, if a later release wrote it, or if it cannot be read.
pub fn look(path: &Path) -> Result<Look, Error> {
    if !path.try_exists().map_err(Error::io("look at", path))? {
        return Ok(Look::Absent);
    }
    let opened = guarded(path, || match ReadOnlyDatabase::open(path) {
        Err(redb::DatabaseError::RepairAborted) => Ok(None),
        opened => Ok(Some(opened?)),
    });
    let database = match opened {
        Err(Error::InUse { .. }) => return Ok(Look::InUse),
        opened => opened?,
    };
    let Some(database) = database else { return Ok(Look::Unclean) };
    let header = guarded(path, || read_header(&database))?.validated(path)?;
    let count = |table| guarded(path, || load(&database, table)).map(|records| records.len());
    match header {
        Header::Blank => Ok(Look::Absent),
        Header::Sequence(_) => {
            Ok(Look::Closed { snapshots: count(Table::Snapshots)?, layers: count(Table::Layers)? })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::store::FileMedium;
    use crate::store::database::{Batch, Opened, Store};

    #[test]
    fn each_state_is_told_and_none_is_changed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("metadata.redb");
        assert_eq!(look(&path).unwrap(), Look::Absent);
        let Opened::Blank(blank) = Store::open(Box::new(FileMedium(path.clone()))).unwrap() else {
            panic!("there is a database before any was made")
        };
        let mut batch = Batch::default();
        batch.put(Table::Layers, "a".into(), &1).unwrap();
        let store = blank.initialise(&batch).unwrap();
        assert_eq!(look(&path).unwrap(), Look::InUse);
        // What a kill leaves is the file as it is while the database is open.
        let killed = directory.path().join("killed.redb");
        fs::copy(&path, &killed).unwrap();
        assert_eq!(look(&killed).unwrap(), Look::Unclean);
        drop(store);
        let before = fs::read(&path).unwrap();
        assert_eq!(look(&path).unwrap(), Look::Closed { snapshots: 0, layers: 1 });
        assert!(fs::read(&path).unwrap() == before, "a look changed the file");
    }

    #[test]
    fn what_is_no_database_is_damage() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("metadata.redb");
        fs::write(&path, [7; 9000]).unwrap();
        assert!(matches!(look(&path), Err(Error::Damaged { .. })));
    }
}
