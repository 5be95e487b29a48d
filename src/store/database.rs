//! The durable record: two tables of JSON values in redb, changed by one transaction at a time.
//!
//! Every transaction carries a sequence number. When one fails half way, the database is opened
//! again and the number tells whether the transaction reached the disk, so that memory and disk
//! never disagree about what happened.

pub mod look;

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use redb::{Builder, Database, ReadableDatabase, ReadableTable, TableDefinition, TableError};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Error, Medium};

/// Version of the tables and of the records in them, which every transaction writes.
///
/// 2: layers of what snapshots wrote, and committed snapshots whose layer is still to be made. What version 1
/// has means the same.
///
/// 3: snapshots whose layers are merged. What version 2 has means the same.
///
/// 4: snapshots with layers that hold nothing, raw ones, and those whose disks are served at sockets. What version 3 has
/// means the same.
pub const SCHEMA_VERSION: u64 = 4;

/// Oldest version whose records are read as they are.
const OLDEST_SCHEMA_VERSION: u64 = 1;

/// All records are in the daemon's memory, so redb's own cache needs to hold little, in bytes. The pages of ten
/// thousand snapshots are some 16 MiB.
const CACHE_SIZE: usize = 32 << 20;

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const SCHEMA_VERSION_KEY: &str = "schema_version";
const SEQUENCE_KEY: &str = "sequence";

/// A table of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// Snapshots by identifier.
    Snapshots,
    /// Layers by layer key.
    Layers,
}

impl Table {
    const ALL: [Self; 2] = [Self::Snapshots, Self::Layers];

    const fn definition(self) -> TableDefinition<'static, &'static str, &'static [u8]> {
        match self {
            Self::Snapshots => TableDefinition::new("snapshots"),
            Self::Layers => TableDefinition::new("layers"),
        }
    }
}

/// Changes that happen together or not at all.
#[derive(Debug, Default)]
pub struct Batch {
    operations: Vec<(Table, String, Option<Vec<u8>>)>,
}

impl Batch {
    /// Sets the record of `key`.
    ///
    /// # Errors
    /// If `value` has no JSON form.
    pub fn put<T: Serialize>(&mut self, table: Table, key: String, value: &T) -> Result<(), Error> {
        let text = serde_json::to_vec(value).map_err(|source| Error::Encode { key: key.clone(), source })?;
        self.operations.push((table, key, Some(text)));
        Ok(())
    }

    /// Deletes the record of `key`, if there is one.
    pub fn delete(&mut self, table: Table, key: String) {
        self.operations.push((table, key, None));
    }
}

/// An open database. It has one writer: what is in it changes through [`Store::commit`] only.
#[derive(Debug)]
pub struct Store {
    medium: Box<dyn Medium>,
    /// None between a failure and the next successful opening.
    database: Option<Database>,
    /// Number of the last transaction that the caller was told about.
    sequence: u64,
}

/// What opening found.
#[derive(Debug)]
pub enum Opened {
    /// A database with records.
    Ready(Store),
    /// No database, or one that cannot be used: its records are to be collected from disk.
    Blank(Blank),
}

/// A database that has no records yet, not even none: its first transaction makes it valid.
#[derive(Debug)]
pub struct Blank {
    store: Store,
    set_aside: Option<PathBuf>,
}

impl Blank {
    /// Where the unusable database was moved, if there was one.
    #[must_use]
    pub fn set_aside(&self) -> Option<&Path> {
        self.set_aside.as_deref()
    }

    /// Writes the first records. A crash before the end leaves the database blank.
    ///
    /// # Errors
    /// If the transaction fails.
    pub fn initialise(mut self, batch: &Batch) -> Result<Store, Error> {
        self.store.commit(batch)?;
        Ok(self.store)
    }
}

impl Store {
    /// Opens the database of `medium` after checking every page of it, and repairs what a crash left.
    ///
    /// # Errors
    /// If another process has it open, if a later release wrote it, or if the operating system
    /// refuses. A damaged database is no error: it is moved aside and [`Opened::Blank`] is returned.
    pub(crate) fn open(medium: Box<dyn Medium>) -> Result<Opened, Error> {
        let mut store = Self { medium, database: None, sequence: 0 };
        match store.connect() {
            Ok(Header::Blank) => Ok(Opened::Blank(Blank { store, set_aside: None })),
            Ok(Header::Sequence(sequence)) => {
                store.sequence = sequence;
                Ok(Opened::Ready(store))
            }
            Err(Error::Damaged { reason, .. }) => store.set_aside(&reason).map(Opened::Blank),
            Err(error) => Err(error),
        }
    }

    /// Moves the database aside, beside its old name with the time appended, and starts a blank one.
    ///
    /// # Errors
    /// If the file cannot be renamed or a new one cannot be made.
    pub fn set_aside(mut self, reason: &str) -> Result<Blank, Error> {
        drop(self.database.take());
        let path = self.medium.path().to_owned();
        let aside = free_name_for_damaged(&path);
        tracing::error!(
            path = %path.display(), moved_to = %aside.display(), reason,
            "the database is damaged: it is moved aside and rebuilt from the files on disk"
        );
        fs::rename(&path, &aside).map_err(Error::io("move aside", &path))?;
        self.sequence = 0;
        match self.connect()? {
            Header::Blank => Ok(Blank { store: self, set_aside: Some(aside) }),
            Header::Sequence(_) => Err(Error::Diverged { path }),
        }
    }

    /// All records of a table.
    ///
    /// # Errors
    /// [`Error::Damaged`] if a record cannot be read.
    pub fn load<T: DeserializeOwned>(&self, table: Table) -> Result<BTreeMap<String, T>, Error> {
        let path = self.medium.path();
        let Some(database) = &self.database else { return Err(Error::Diverged { path: path.to_owned() }) };
        guarded(path, || load(database, table)).and_then(|texts| decode(path, texts))
    }

    /// Makes the changes of `batch` durable, all or none.
    ///
    /// # Errors
    /// If the disk is full or fails: then nothing changed. The next call tries again.
    pub fn commit(&mut self, batch: &Batch) -> Result<(), Error> {
        if self.database.is_none() {
            self.reconnect()?;
        }
        let Some(database) = &self.database else {
            return Err(Error::Diverged { path: self.medium.path().to_owned() });
        };
        let attempt = self.sequence + 1;
        match guarded(self.medium.path(), || write(database, attempt, batch)) {
            Ok(()) => {
                self.sequence = attempt;
                Ok(())
            }
            Err(error) => self.settle(attempt, error),
        }
    }

    /// The error for records that make no sense together.
    pub(crate) fn damaged(&self, reason: &str) -> Error {
        Error::Damaged { path: self.medium.path().to_owned(), reason: reason.to_owned() }
    }

    /// Whether it is known of every transaction if it happened.
    #[must_use]
    pub const fn is_settled(&self) -> bool {
        self.database.is_some()
    }

    /// After a failed transaction: finds out whether it reached the disk.
    fn settle(&mut self, attempt: u64, error: Error) -> Result<(), Error> {
        drop(self.database.take());
        match self.connect() {
            Ok(Header::Sequence(found)) if found == attempt => {
                tracing::warn!(%error, "a transaction failed after it was durable: it counts as done");
                self.sequence = attempt;
                Ok(())
            }
            Ok(_) => Err(error),
            Err(reopening) => {
                tracing::error!(%reopening, "the database cannot be opened again after a failed transaction");
                Err(error)
            }
        }
    }

    /// Opens the database again after a failure that could not be settled at once.
    fn reconnect(&mut self) -> Result<(), Error> {
        match self.connect()? {
            Header::Sequence(found) if found == self.sequence => Ok(()),
            Header::Blank if self.sequence == 0 => Ok(()),
            // The transaction that failed is on disk after all, but its caller was told otherwise.
            _ => {
                self.database = None;
                Err(Error::Diverged { path: self.medium.path().to_owned() })
            }
        }
    }

    fn connect(&mut self) -> Result<Header, Error> {
        let path = self.medium.path().to_owned();
        let medium = &self.medium;
        let database = guarded(&path, || {
            let mut builder = Builder::new();
            builder.set_cache_size(CACHE_SIZE).set_check_integrity_on_open(true);
            Ok(medium.open(&builder)?)
        })?;
        let header = guarded(&path, || read_header(&database))?.validated(&path)?;
        self.database = Some(database);
        Ok(header)
    }
}

/// What the meta table says.
enum Header {
    /// Nothing: no transaction was ever completed.
    Blank,
    /// The schema is ours and this was the last transaction.
    Sequence(u64),
}

struct RawHeader {
    schema_version: Option<u64>,
    sequence: Option<u64>,
}

impl RawHeader {
    fn validated(self, path: &Path) -> Result<Header, Error> {
        match (self.schema_version, self.sequence) {
            (None, None) => Ok(Header::Blank),
            (Some(found), _) if found > SCHEMA_VERSION => {
                Err(Error::NewerSchema { path: path.to_owned(), found, supported: SCHEMA_VERSION })
            }
            (Some(OLDEST_SCHEMA_VERSION..=SCHEMA_VERSION), Some(sequence)) => Ok(Header::Sequence(sequence)),
            (version, _) => Err(Error::Damaged {
                path: path.to_owned(),
                reason: format!("its meta table names schema version {version:?}"),
            }),
        }
    }
}

fn read_header(database: &impl ReadableDatabase) -> Result<RawHeader, redb::Error> {
    let transaction = database.begin_read()?;
    let meta = match transaction.open_table(META) {
        Err(TableError::TableDoesNotExist(_)) => {
            return Ok(RawHeader { schema_version: None, sequence: None });
        }
        meta => meta?,
    };
    let value = |key| Ok::<_, redb::Error>(meta.get(key)?.map(|value| value.value()));
    Ok(RawHeader { schema_version: value(SCHEMA_VERSION_KEY)?, sequence: value(SEQUENCE_KEY)? })
}

fn load(database: &impl ReadableDatabase, table: Table) -> Result<Vec<(String, Vec<u8>)>, redb::Error> {
    let transaction = database.begin_read()?;
    let records = match transaction.open_table(table.definition()) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        records => records?,
    };
    let mut texts = Vec::new();
    for entry in records.iter()? {
        let (key, text) = entry?;
        texts.push((key.value().to_owned(), text.value().to_owned()));
    }
    Ok(texts)
}

fn decode<T: DeserializeOwned>(
    path: &Path,
    texts: Vec<(String, Vec<u8>)>,
) -> Result<BTreeMap<String, T>, Error> {
    texts
        .into_iter()
        .map(|(key, text)| match serde_json::from_slice(&text) {
            Ok(record) => Ok((key, record)),
            Err(error) => {
                Err(Error::Damaged { path: path.to_owned(), reason: format!("record {key:?}: {error}") })
            }
        })
        .collect()
}

fn write(database: &Database, sequence: u64, batch: &Batch) -> Result<(), redb::Error> {
    // No quick repair: it would cost a second fdatasync in each transaction, some of which run inside
    // containerd's own, to save a scan at open that the integrity check makes anyway.
    let transaction = database.begin_write()?;
    {
        let mut meta = transaction.open_table(META)?;
        meta.insert(SCHEMA_VERSION_KEY, SCHEMA_VERSION)?;
        meta.insert(SEQUENCE_KEY, sequence)?;
    }
    for table in Table::ALL {
        let mut operations = batch.operations.iter().filter(|(of, ..)| *of == table).peekable();
        // Merely opened, a table costs a look-up, and pages of its own the first time.
        if operations.peek().is_none() {
            continue;
        }
        let mut records = transaction.open_table(table.definition())?;
        for (_, key, text) in operations {
            match text {
                Some(text) => drop(records.insert(key.as_str(), text.as_slice())?),
                None => drop(records.remove(key.as_str())?),
            }
        }
    }
    Ok(transaction.commit()?)
}

/// Runs redb code. It trusts its file and panics on some damage; that, too, is an answer.
fn guarded<T>(path: &Path, work: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, Error> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(|error| classify(path, error)),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let reason = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("panic");
            Err(Error::Damaged { path: path.to_owned(), reason: reason.to_owned() })
        }
    }
}

/// Tells damage, for which the remedy is to rebuild, from failures for which it is not.
fn classify(path: &Path, error: redb::Error) -> Error {
    use std::io::ErrorKind::{InvalidData, UnexpectedEof};
    let path = path.to_owned();
    match error {
        redb::Error::DatabaseAlreadyOpen => Error::InUse { path },
        redb::Error::Io(io) if !matches!(io.kind(), InvalidData | UnexpectedEof) => {
            Error::Io { operation: "use the database", path, source: io }
        }
        redb::Error::Corrupted(_)
        | redb::Error::Io(_)
        | redb::Error::RepairAborted
        | redb::Error::UpgradeRequired(_)
        | redb::Error::TableTypeMismatch { .. }
        | redb::Error::TableIsMultimap(_)
        | redb::Error::TypeDefinitionChanged { .. } => Error::Damaged { path, reason: error.to_string() },
        _ => Error::Database { operation: "use the database", path, source: Box::new(error) },
    }
}

fn free_name_for_damaged(path: &Path) -> PathBuf {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs());
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".corrupt-{seconds}"));
    let mut candidate = PathBuf::from(&name);
    let mut attempt = 1;
    while candidate.symlink_metadata().is_ok() {
        let mut numbered = name.clone();
        numbered.push(format!(".{attempt}"));
        candidate = PathBuf::from(numbered);
        attempt += 1;
    }
    candidate
}

#[cfg(test)]
mod tests;
