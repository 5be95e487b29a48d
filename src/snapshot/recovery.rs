//! From what a stop or a crash left to a consistent start.
//!
//! Every operation puts a directory in place before the record that names it, and takes the record
//! away before the directory. So after a kill there may be directories without a record, which are
//! swept, but no record without its directory.
//!
//! After a power cut there may be: layers are synced, but the place of a snapshot's directory is
//! not, since that would cost every Prepare more than all else that it does. Such a directory is made
//! again as it was when the snapshot was new, and reported: what was written to it is lost.
//!
//! Layers that are still to be made of what was written are made after a start as before.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::directory::{Content, Directories, WRITABLE_NAMES};
use super::index::{Below, Change, Index};
use super::ledger::{Ledger, batch};
use super::record::{Record, SnapshotId, State};
use super::settings::SnapshotSettings;
use super::stock::{READY_NAME, Stock};
use super::{Error, Kind};
use super::{exported, host, merging};
use crate::expose::export::{self, Exports, Launch};
use crate::expose::host::{Adoption, LayerMounts, mounting};
use crate::layer::chain::{ChainKey, ChainShelf};
use crate::layer::empty;
use crate::layer::protection::has_fsverity;
use crate::layer::shelf::Found;
use crate::layer::{LayerKey, LayerRecord, RootAttributes, Shelf};
use crate::store::database::{Blank, Opened, Store, Table};
use crate::store::staging::StagingArea;
use crate::store::trash::Trash;
use crate::store::{self, Medium};

/// The directory in the root in which the daemon mounts layers.
pub(super) const MOUNTS_NAME: &str = "mnt";
/// The directory in the root with the layers that hold nothing.
pub(super) const EMPTY_NAME: &str = "empty";
/// The database in the root directory.
pub const DATABASE_NAME: &str = "metadata.redb";
/// Where snapshot directories go whose record is unreadable while the database is rebuilt.
const UNREADABLE_NAME: &str = "unreadable";

/// What was found and done at a start.
#[derive(Debug, Default)]
pub struct RecoveryReport {
    /// Whether the records were collected from disk because there was no usable database. Not so at
    /// the first start, when there is nothing to collect.
    pub rebuilt: bool,
    /// Where the unusable database is now.
    pub set_aside: Option<PathBuf>,
    /// What no record named and is being deleted.
    pub swept: Vec<PathBuf>,
    /// What no record named and could not be taken away, such as a mount point.
    pub unswept: Vec<PathBuf>,
    /// What a record names and is not there.
    pub missing: Vec<Missing>,
    /// Snapshot directories whose record could not be read, at the place where they are kept.
    pub unreadable: Vec<PathBuf>,
    /// What became of the layers that an earlier daemon mounted.
    pub mounts: Adoption,
}

/// Something that a record names and that is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The directory of a snapshot.
    Directory {
        /// Profile of the snapshot.
        profile: String,
        /// Its key or name.
        key: String,
        /// What it is.
        kind: Kind,
        /// Whether it was made again, without what was written to it. A writable block is not, and
        /// nothing is that a layer is still to be made of.
        remade: bool,
    },
    /// The parent of a snapshot.
    Parent {
        /// Profile of both.
        profile: String,
        /// The snapshot.
        key: String,
        /// Name of the parent.
        parent: String,
    },
    /// A layer, or its file in the size that the record says.
    Layer {
        /// The layer.
        key: LayerKey,
        /// What is wrong.
        reason: String,
    },
    /// The merged image that a snapshot's plan names, and it could not be made again.
    Chain {
        /// The chain.
        key: ChainKey,
        /// Why not.
        reason: String,
    },
}

/// A consistent start.
pub(super) struct Recovered {
    pub(super) ledger: Ledger,
    pub(super) staging: StagingArea,
    pub(super) report: RecoveryReport,
}

/// Opens what lies below the root of these settings.
pub(super) fn recover(
    settings: &SnapshotSettings,
    database: Box<dyn Medium>,
    launch: Launch,
) -> Result<Recovered, Error> {
    let root = settings.root.as_path();
    let protection = settings.protection;
    let ready = StagingArea::new(make_directory(&root.join(READY_NAME))?);
    // What lies there was made by an earlier start.
    let stale = entries(ready.path())?;
    let directories = Directories::new(make_directory(&root.join("snapshots"))?, Stock::start(ready)?);
    let shelf = Shelf::new(make_directory(&root.join(Shelf::DIRECTORY))?).with_protection(protection);
    let staging = StagingArea::new(make_directory(&root.join("staging"))?);
    if protection.fsverity && !has_fsverity(staging.path())? {
        return Err(Error::NoFsverity { root: root.to_owned() });
    }
    let mut report = RecoveryReport::default();
    let (store, index) = open_records(root, database, &directories, &shelf, &mut report)?;
    let chains = ChainShelf::open(make_directory(&root.join(ChainShelf::DIRECTORY))?)?;
    let mounts = LayerMounts::open(&make_directory(&root.join(MOUNTS_NAME))?, shelf.path(), chains.path())?;
    let trash = Trash::start(staging.clone(), mounting::detach)?;
    stale.into_iter().for_each(|path| trash.delete(path));
    empty::place(&make_directory(&root.join(EMPTY_NAME))?, &staging, &trash)?;
    let exports = Exports::new(root.join(export::place::DIRECTORY), launch);
    let ledger = Ledger::new(index, store, directories, shelf, chains, mounts, trash, exports)
        .with_strict(settings.strict());
    report_missing(&ledger, &staging, &mut report);
    restore_verity(&ledger);
    drop_unusable_layers(&ledger, &mut report)?;
    merging::restore(&ledger, &staging, &mut report);
    sweep(&ledger, &staging, &mut report)?;
    exported::sweep(&ledger)?;
    report.mounts = host::adopt(&ledger)?;
    report.log();
    Ok(Recovered { ledger, staging, report })
}

fn open_records(
    root: &Path,
    database: Box<dyn Medium>,
    directories: &Directories,
    shelf: &Shelf,
    report: &mut RecoveryReport,
) -> Result<(Store, Index), Error> {
    let blank = match Store::open(database)? {
        Opened::Blank(blank) => blank,
        Opened::Ready(store) => match load(&store) {
            Ok(index) => return Ok((store, index)),
            Err(store::Error::Damaged { reason, .. }) => store.set_aside(&reason)?,
            Err(error) => return Err(error.into()),
        },
    };
    rebuild(root, blank, directories, shelf, report)
}

/// The records of a database. Those that contradict each other are damage.
fn load(store: &Store) -> Result<Index, store::Error> {
    let snapshots: BTreeMap<String, Record> = store.load(Table::Snapshots)?;
    let layers: BTreeMap<String, LayerRecord> = store.load(Table::Layers)?;
    let fits = snapshots.iter().all(|(id, record)| record.id.to_string() == *id)
        && layers.iter().all(|(key, record)| record.key.as_str() == key && record.is_consistent());
    let index = if fits { Index::new(snapshots.into_values(), layers.into_values()) } else { None };
    index.ok_or_else(|| store.damaged("its records contradict each other"))
}

/// Fills a blank database with the records that lie beside the data.
fn rebuild(
    root: &Path,
    blank: Blank,
    directories: &Directories,
    shelf: &Shelf,
    report: &mut RecoveryReport,
) -> Result<(Store, Index), Error> {
    report.set_aside = blank.set_aside().map(Path::to_owned);
    let layers = collect_layers(shelf)?;
    let snapshots = collect_snapshots(root, directories, report)?;
    let changes: Vec<Change> = snapshots
        .iter()
        .map(|record| Change::AddSnapshot(record.clone().into()))
        .chain(layers.iter().map(|record| Change::AddLayer(record.clone().into())))
        .collect();
    report.rebuilt = report.set_aside.is_some() || !changes.is_empty() || !report.unreadable.is_empty();
    // The index first: it would refuse two snapshots of one name, which collecting must not leave.
    let index = Index::new(snapshots, layers).unwrap_or_default();
    let store = blank.initialise(&batch(&changes)?)?;
    Ok((store, index))
}

fn collect_layers(shelf: &Shelf) -> Result<Vec<LayerRecord>, Error> {
    let mut layers = Vec::new();
    for path in entries(shelf.path())? {
        let Some(key) = name_of(&path).and_then(|name| name.parse::<LayerKey>().ok()) else { continue };
        match shelf.read_record(&key) {
            Ok(record) if record.key == key && record.is_consistent() => layers.push(record),
            Ok(_) => tracing::error!(layer = %key, "the record beside a layer is of another layer"),
            Err(error) => tracing::error!(%error, layer = %key, "the record beside a layer is unreadable"),
        }
    }
    Ok(layers)
}

/// The records of all snapshot directories. Directories without a readable one are moved where
/// nothing sweeps them: there may be a container's data in them.
fn collect_snapshots(
    root: &Path,
    directories: &Directories,
    report: &mut RecoveryReport,
) -> Result<Vec<Record>, Error> {
    let mut records: BTreeMap<(String, String), Record> = BTreeMap::new();
    for path in entries(directories.path())? {
        let Some(id) = name_of(&path).and_then(|name| name.parse::<SnapshotId>().ok()) else { continue };
        let record = match directories.read_record(id) {
            Ok(record) if record.id == id => record,
            Ok(_) => {
                keep_unreadable(root, &path, "its record is of another snapshot", report)?;
                continue;
            }
            Err(error) => {
                keep_unreadable(root, &path, &error.to_string(), report)?;
                continue;
            }
        };
        let name = (record.profile.clone(), record.key.clone());
        let older = match records.remove(&name) {
            Some(other) if other.updated > record.updated => {
                records.insert(name, other);
                Some(record)
            }
            other => {
                records.insert(name, record);
                other
            }
        };
        if let Some(older) = older {
            keep_unreadable(root, &directories.of(older.id), "a later snapshot has the same name", report)?;
        }
    }
    Ok(records.into_values().collect())
}

fn keep_unreadable(root: &Path, path: &Path, reason: &str, report: &mut RecoveryReport) -> Result<(), Error> {
    let kept = make_directory(&root.join(UNREADABLE_NAME))?.join(path.file_name().unwrap_or_default());
    tracing::error!(from = %path.display(), to = %kept.display(), reason, "a snapshot directory is kept aside");
    fs::rename(path, &kept).map_err(store::Error::io("move aside", path))?;
    report.unreadable.push(kept);
    Ok(())
}

/// Notes what records name and is not there, and makes the directories again that can be.
fn report_missing(ledger: &Ledger, staging: &StagingArea, report: &mut RecoveryReport) {
    let records: Vec<_> = ledger.read(|index| index.snapshots().cloned().collect());
    for record in records {
        let (profile, key) = (record.profile.clone(), record.key.clone());
        if let Some(parent) = &record.parent
            && ledger.read(|index| index.snapshot(&profile, parent).is_none())
        {
            let (profile, key) = (profile.clone(), key.clone());
            report.missing.push(Missing::Parent { profile, key, parent: parent.clone() });
        }
        if !ledger.directories.of(record.id).exists() {
            let remade = remake(ledger, staging, &record);
            report.missing.push(Missing::Directory { profile, key, kind: record.kind(), remade });
        }
    }
}

/// Makes the directory of a snapshot as it was when the snapshot was new, if its record says enough.
fn remake(ledger: &Ledger, staging: &StagingArea, record: &Record) -> bool {
    // A chain that is broken cannot be mounted, so there it does not matter how `/` would look.
    let below = ledger.read(|index| index.below(&record.profile, record.parent.as_deref()));
    let root = match below {
        Ok(Below::Chain(chain)) => chain.root.clone(),
        Ok(Below::Unsealed(_)) | Err(_) => RootAttributes::default(),
    };
    let Some(content) = Content::without_block(&record.state, &root) else { return false };
    let made = ledger.directories.build(record, &content, staging);
    let placed = made.and_then(|made| Ok(made.publish(&ledger.directories.of(record.id))?));
    placed.inspect_err(|error| tracing::warn!(%error, "a snapshot directory cannot be made again")).is_ok()
}

/// Writes again what runtimes are told of dm-verity trees where it is not as the records say. Plans name it.
fn restore_verity(ledger: &Ledger) {
    let with_tree = |record: &&Arc<LayerRecord>| record.verity.is_some();
    let layers: Vec<_> = ledger.read(|index| index.layers().filter(with_tree).cloned().collect());
    for record in layers {
        match ledger.shelf.restore_verity(&record) {
            Ok(false) => {}
            Ok(true) => {
                tracing::warn!(layer = %record.key, "the parameters of a dm-verity tree were written again")
            }
            // The check of the layer that follows finds the same, and says what becomes of it.
            Err(error) => tracing::warn!(%error, layer = %record.key, "no parameters of a dm-verity tree"),
        }
    }
}

/// Removes the records of layers that no snapshot names or whose file is damaged. The latter come
/// back when their image is pulled again.
fn drop_unusable_layers(ledger: &Ledger, report: &mut RecoveryReport) -> Result<(), Error> {
    let broken: Vec<(LayerKey, String)> = ledger.read(|index| {
        let check = |record: &LayerRecord| match ledger.shelf.check(record) {
            Found::Whole => None,
            Found::Broken { reason } => Some((record.key.clone(), reason)),
        };
        index.layers().filter_map(|record| check(record)).collect()
    });
    let mut unusable: Vec<LayerKey> = ledger.read(|index| index.unreferenced().cloned().collect());
    for (key, reason) in broken {
        if !unusable.contains(&key) {
            unusable.push(key.clone());
            report.missing.push(Missing::Layer { key, reason });
        }
    }
    for (record, key) in named_but_unknown(ledger) {
        let reason = format!("snapshot {record:?} names it, but there is no record of it");
        report.missing.push(Missing::Layer { key, reason });
    }
    report.swept.extend(unusable.iter().map(|key| ledger.shelf.directory(key)));
    ledger.change(|_| Ok(unusable.into_iter().map(Change::RemoveLayer).collect()))
}

/// Layers of committed snapshots without a record.
fn named_but_unknown(ledger: &Ledger) -> Vec<(String, LayerKey)> {
    ledger.read(|index| {
        let committed = index.snapshots().filter_map(|record| match &record.state {
            State::Committed(committed) => Some((record.key.clone(), committed.layer.clone())),
            State::View(_) | State::Active(_) | State::Unsealed(_) => None,
        });
        committed.filter(|(_, key)| index.layer(key).is_none()).collect()
    })
}

/// Discards what no record names.
fn sweep(ledger: &Ledger, staging: &StagingArea, report: &mut RecoveryReport) -> Result<(), Error> {
    for path in entries(staging.path())? {
        ledger.trash.delete(path.clone());
        report.swept.push(path);
    }
    let snapshot = |name: &str| name.parse().is_ok_and(|id| ledger.read(|index| index.by_id(id).is_some()));
    let layer = |name: &str| name.parse().is_ok_and(|key| ledger.read(|index| index.layer(&key).is_some()));
    let chain = |name: &str| name.parse().is_ok_and(|key| ledger.chains.get(&key).is_some());
    discard_unless(&snapshot, ledger.directories.path(), ledger, report)?;
    discard_unless(&layer, ledger.shelf.path(), ledger, report)?;
    discard_unless(&chain, ledger.chains.path(), ledger, report)?;
    // What was about to be deleted once it was a layer.
    let sealed = |record: &Record| matches!(record.state, State::Committed(_)).then_some(record.id);
    let sealed: Vec<_> = ledger.read(|index| index.snapshots().filter_map(|record| sealed(record)).collect());
    for directory in sealed.into_iter().map(|id| ledger.directories.of(id)) {
        let leftover = WRITABLE_NAMES.map(|name| directory.join(name));
        leftover.into_iter().filter(|path| path.exists()).for_each(|path| ledger.trash.delete(path));
    }
    Ok(())
}

fn discard_unless(
    is_known: &dyn Fn(&str) -> bool,
    directory: &Path,
    ledger: &Ledger,
    report: &mut RecoveryReport,
) -> Result<(), Error> {
    for path in entries(directory)? {
        if name_of(&path).is_some_and(is_known) {
            continue;
        }
        match ledger.trash.discard(&path) {
            Ok(()) => report.swept.push(path),
            Err(error) => {
                tracing::warn!(%error, "something that no record names cannot be taken away");
                report.unswept.push(path);
            }
        }
    }
    Ok(())
}

impl RecoveryReport {
    fn log(&self) {
        if self.rebuilt {
            tracing::warn!(
                unreadable = self.unreadable.len(),
                "the database was made from the files on disk"
            );
        }
        for missing in &self.missing {
            tracing::error!(?missing, "a record names something that is not on disk");
        }
        let Adoption { adopted, unmounted, busy } = &self.mounts;
        if *adopted > 0 || *unmounted > 0 || !busy.is_empty() {
            tracing::info!(adopted, unmounted, busy = busy.len(), "layers were mounted already");
        }
        if !self.swept.is_empty() || !self.unswept.is_empty() {
            let (swept, unswept) = (self.swept.len(), self.unswept.len());
            tracing::info!(swept, unswept, "directories that no record names are deleted");
        }
    }
}

/// Makes a directory of ours with mode 0700, and those above it; one that exists stays as it is.
fn make_directory(path: &Path) -> Result<PathBuf, Error> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(store::Error::io("create", path))?;
    Ok(path.to_owned())
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let paths = fs::read_dir(directory)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>());
    Ok(paths.map_err(store::Error::io("read", directory))?)
}

fn name_of(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}
