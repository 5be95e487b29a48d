use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex};

use super::*;
use crate::error::{Classify, Kind};
use crate::store::FileMedium;
use crate::store::faults::{FaultyMedium, Script};

type Records = BTreeMap<String, Vec<u64>>;

fn put(entries: &[(&str, u64)]) -> Batch {
    let mut batch = Batch::default();
    for (key, value) in entries {
        batch.put(Table::Snapshots, (*key).to_owned(), &vec![*value; 100]).unwrap();
        batch.put(Table::Layers, (*key).to_owned(), &vec![*value; 3]).unwrap();
    }
    batch
}

/// The values by key; both tables must tell the same.
fn content(store: &Store) -> BTreeMap<String, u64> {
    let snapshots: Records = store.load(Table::Snapshots).unwrap();
    let layers: Records = store.load(Table::Layers).unwrap();
    let first =
        |records: &Records| records.iter().map(|(k, v)| (k.clone(), v[0])).collect::<BTreeMap<_, _>>();
    assert_eq!(first(&snapshots), first(&layers), "one transaction, two tables");
    first(&snapshots)
}

fn expected(entries: &[(&str, u64)]) -> BTreeMap<String, u64> {
    entries.iter().map(|(key, value)| ((*key).to_owned(), *value)).collect()
}

fn open(path: &Path) -> Result<Opened, Error> {
    Store::open(Box::new(FileMedium(path.to_owned())))
}

fn ready(opened: Opened) -> Store {
    match opened {
        Opened::Ready(store) => store,
        Opened::Blank(blank) => panic!("{blank:?}"),
    }
}

fn blank(opened: Opened) -> Blank {
    match opened {
        Opened::Blank(blank) => blank,
        Opened::Ready(store) => panic!("{store:?}"),
    }
}

/// A database with the records a and b.
fn two_records(medium: Box<dyn Medium>) -> Store {
    blank(Store::open(medium).unwrap()).initialise(&put(&[("a", 1), ("b", 1)])).unwrap()
}

fn two_records_at(path: &Path) {
    drop(two_records(Box::new(FileMedium(path.to_owned()))));
}

fn faulty(path: &Path) -> (Store, Arc<Script>) {
    let (medium, script) = FaultyMedium::new(path.to_owned());
    (two_records(Box::new(medium)), script)
}

#[test]
fn records_survive_and_change_together() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("metadata.redb");
    two_records_at(&path);
    let mut store = ready(open(&path).unwrap());
    assert_eq!(content(&store), expected(&[("a", 1), ("b", 1)]));
    let mut batch = put(&[("b", 2), ("c", 2)]);
    batch.delete(Table::Snapshots, "a".to_owned());
    batch.delete(Table::Layers, "a".to_owned());
    batch.delete(Table::Layers, "never there".to_owned());
    store.commit(&batch).unwrap();
    drop(store);
    assert_eq!(content(&ready(open(&path).unwrap())), expected(&[("b", 2), ("c", 2)]));
}

#[test]
fn a_database_is_blank_until_its_first_transaction_even_if_that_is_empty() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("metadata.redb");
    drop(blank(open(&path).unwrap()));
    let second = blank(open(&path).unwrap());
    assert_eq!(second.set_aside(), None);
    drop(second.initialise(&Batch::default()).unwrap());
    assert!(content(&ready(open(&path).unwrap())).is_empty());
}

#[test]
fn a_transaction_that_fails_at_any_operation_is_undone_or_done() {
    let root = tempfile::tempdir().unwrap();
    let (mut failures, mut fault) = (0, 0);
    loop {
        let path = root.path().join(format!("{fault}.redb"));
        let (mut store, script) = faulty(&path);
        script.fail(fault..fault + 1);
        let result = store.commit(&put(&[("a", 2), ("c", 2)]));
        let reached = script.done() > fault;
        script.fail(0..0);
        failures += u32::from(result.is_err());
        let after = match result {
            Ok(()) => expected(&[("a", 2), ("b", 1), ("c", 2)]),
            Err(error) => {
                assert!(matches!(error.kind(), Kind::ResourceExhausted), "{error}");
                expected(&[("a", 1), ("b", 1)])
            }
        };
        assert_eq!(content(&store), after, "fault {fault}");
        store.commit(&put(&[("d", 3)])).unwrap();
        drop(store);
        let mut last = after;
        last.insert("d".to_owned(), 3);
        assert_eq!(content(&ready(open(&path).unwrap())), last, "fault {fault}");
        if !reached {
            break;
        }
        fault += 1;
    }
    assert!(failures > 3, "the faults must have hit the transaction, {failures} did");
}

#[test]
fn while_the_disk_fails_nothing_is_acknowledged_and_afterwards_nothing_is_confused() {
    let root = tempfile::tempdir().unwrap();
    let operations = {
        let (mut store, script) = faulty(&root.path().join("count.redb"));
        script.fail(0..0);
        store.commit(&put(&[("a", 2)])).unwrap();
        script.done()
    };
    for fault in 0..operations {
        let path = root.path().join(format!("{fault}.redb"));
        let (mut store, script) = faulty(&path);
        script.fail(fault..u64::MAX);
        store.commit(&put(&[("a", 2)])).unwrap_err();
        store.commit(&put(&[("a", 3)])).unwrap_err();
        script.fail(0..0);
        let healed = store.commit(&put(&[("e", 4)]));
        drop(store);
        let found = content(&ready(open(&path).unwrap()));
        match healed {
            Ok(()) => assert_eq!(found, expected(&[("a", 1), ("b", 1), ("e", 4)]), "fault {fault}"),
            // The caller was told that a=2 failed; it did not, so the store refuses to go on.
            Err(Error::Diverged { .. }) => {
                assert_eq!(found, expected(&[("a", 2), ("b", 1)]), "fault {fault}")
            }
            Err(error) => panic!("fault {fault}: {error}"),
        }
    }
}

#[test]
fn a_kill_at_any_operation_leaves_the_old_records_or_the_new() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("metadata.redb");
    let (mut store, script) = faulty(&path);
    let copies = Arc::new(Mutex::new(Vec::new()));
    let (from, to) = (path.clone(), Arc::clone(&copies));
    script.observe(move || to.lock().unwrap().push(std::fs::read(&from).unwrap()));
    store.commit(&put(&[("a", 2), ("c", 2)])).unwrap();
    script.ignore();
    let old = expected(&[("a", 1), ("b", 1)]);
    let new = expected(&[("a", 2), ("b", 1), ("c", 2)]);
    let mut outcomes = Vec::new();
    for (moment, bytes) in copies.lock().unwrap().iter().enumerate() {
        let copy = root.path().join("copy.redb");
        fs::write(&copy, bytes).unwrap();
        let found = content(&ready(open(&copy).unwrap()));
        assert!(found == old || found == new, "moment {moment}: {found:?}");
        outcomes.push(found == new);
    }
    assert!(outcomes.is_sorted(), "once new, never old again: {outcomes:?}");
    assert_eq!(outcomes.first(), Some(&false));
    assert_eq!(outcomes.last(), Some(&true));
}

/// Damages a good database and expects that it is kept aside.
fn set_aside_after(damage: impl FnOnce(&Path)) {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("metadata.redb");
    two_records_at(&path);
    damage(&path);
    let found = blank(open(&path).unwrap());
    let aside = found.set_aside().unwrap().to_owned();
    assert!(aside.to_str().unwrap().contains("metadata.redb.corrupt-"), "{aside:?}");
    // Not compared byte by byte: redb shrinks a file that it can open.
    assert!(!fs::read(&aside).unwrap().is_empty());
    drop(found.initialise(&put(&[("z", 9)])).unwrap());
    assert_eq!(content(&ready(open(&path).unwrap())), expected(&[("z", 9)]));
}

#[test]
fn a_file_that_is_no_database_is_set_aside() {
    set_aside_after(|path| fs::write(path, vec![0x5a; 70_000]).unwrap());
}

#[test]
fn a_truncated_database_is_set_aside() {
    set_aside_after(|path| OpenOptions::new().write(true).open(path).unwrap().set_len(6000).unwrap());
}

#[test]
fn a_database_with_other_tables_is_set_aside() {
    set_aside_after(|path| {
        let database = Database::create(path).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction.delete_table(META).unwrap();
        let other: TableDefinition<'_, u64, &str> = TableDefinition::new("meta");
        transaction.open_table(other).unwrap().insert(1, "x").unwrap();
        transaction.commit().unwrap();
    });
}

#[test]
fn damage_anywhere_is_noticed_or_harmless() {
    let root = tempfile::tempdir().unwrap();
    let good = root.path().join("good.redb");
    two_records_at(&good);
    let bytes = fs::read(&good).unwrap();
    let path = root.path().join("metadata.redb");
    let mut noticed = 0;
    for offset in (0..bytes.len() as u64).step_by(4099) {
        fs::write(&path, &bytes).unwrap();
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(&[bytes[offset as usize] ^ 0xff; 16], offset).unwrap();
        match open(&path) {
            Ok(Opened::Blank(_)) => noticed += 1,
            Ok(Opened::Ready(store)) => {
                assert_eq!(content(&store), expected(&[("a", 1), ("b", 1)]), "offset {offset}");
            }
            Err(error) => panic!("offset {offset}: {error}"),
        }
    }
    assert!(noticed > 0);
}

#[test]
fn a_record_that_is_no_json_is_damage() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("metadata.redb");
    two_records_at(&path);
    let store = ready(open(&path).unwrap());
    let wrong: Result<BTreeMap<String, String>, _> = store.load(Table::Layers);
    assert!(matches!(wrong, Err(Error::Damaged { .. })));
    let aside = store.set_aside("test").unwrap();
    assert!(aside.set_aside().unwrap().exists());
}

#[test]
fn an_older_schema_is_read_and_becomes_the_current_one_with_the_next_change() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("metadata.redb");
    two_records_at(&path);
    let set = |version: u64| {
        let database = Database::create(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction.open_table(META).unwrap().insert(SCHEMA_VERSION_KEY, version).unwrap();
        transaction.commit().unwrap();
    };
    set(1);
    let mut store = ready(open(&path).unwrap());
    assert_eq!(content(&store), expected(&[("a", 1), ("b", 1)]));
    store.commit(&put(&[("c", 2)])).unwrap();
    drop(store);
    let database = Database::create(&path).unwrap();
    assert_eq!(read_header(&database).unwrap().schema_version, Some(SCHEMA_VERSION));
    drop(database);
    set(0);
    assert!(blank(open(&path).unwrap()).set_aside().is_some(), "there never was a version 0");
}

#[test]
fn a_newer_schema_is_refused_and_left_alone() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("metadata.redb");
    two_records_at(&path);
    {
        let database = Database::create(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction.open_table(META).unwrap().insert(SCHEMA_VERSION_KEY, SCHEMA_VERSION + 1).unwrap();
        transaction.commit().unwrap();
    }
    let error = open(&path).unwrap_err();
    let is_newer = |found| found == SCHEMA_VERSION + 1;
    assert!(
        matches!(error, Error::NewerSchema { found, supported: SCHEMA_VERSION, .. } if is_newer(found)),
        "{error}"
    );
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
}

#[test]
fn a_second_process_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("metadata.redb");
    let store = two_records(Box::new(FileMedium(path.clone())));
    assert!(matches!(open(&path), Err(Error::InUse { .. })));
    drop(store);
    drop(ready(open(&path).unwrap()));
}

#[test]
fn names_of_damaged_databases_are_not_reused() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("metadata.redb");
    for _ in 0..3 {
        fs::write(&path, "garbage that is no database").unwrap();
        drop(blank(open(&path).unwrap()));
        fs::remove_file(&path).unwrap();
    }
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 3);
}
