//! containerd's settings file, as far as it concerns snapshotters and differs.
//!
//! Format: `docs/man/containerd-config.toml.5.md` in containerd. Files that `imports` names come after the one that
//! names them: their tables are merged key by key, but for those of proxy plugins, and all other values replace, lists
//! too (`cmd/containerd/server/config`, and `containerd config dump` of 2.2 to 2.4). containerd 1.7 replaces the
//! table of each plugin as a whole, which is not told apart here.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::{Table, Value};

/// Where containerd looks unless it is told otherwise.
const USUAL: &str = "/etc/containerd/config.toml";

/// The table of proxy plugins. One of a later file replaces all that an earlier one says of it.
const PROXIES: &str = "proxy_plugins";

/// Keys of plugins' settings.
const DIFF_SERVICE: &str = "io.containerd.service.v1.diff-service";
const TRANSFER: &str = "io.containerd.transfer.v1.local";
/// CRI's images, in containerd 2 and before.
const CRI: [&str; 2] = ["io.containerd.cri.v1.images", "io.containerd.grpc.v1.cri"];

/// A proxy plugin.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Proxy {
    /// `snapshot`, `diff` or `content`.
    pub(super) r#type: String,
    /// The socket of the program that it stands for.
    pub(super) address: String,
    pub(super) capabilities: Vec<String>,
    pub(super) exports: BTreeMap<String, String>,
}

/// What the transfer service unpacks with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Unpack {
    pub(super) platform: String,
    pub(super) snapshotter: String,
    /// Empty where containerd is to choose.
    pub(super) differ: String,
}

/// What CRI does with images.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct CriImages {
    /// The snapshotter of all images; none where that is containerd's own choice.
    pub(super) snapshotter: Option<String>,
    pub(super) discard_unpacked_layers: bool,
}

/// The settings that concern us.
#[derive(Debug)]
pub(super) struct Configuration {
    pub(super) proxies: BTreeMap<String, Proxy>,
    /// The differs in the order in which the diff service asks them; none where that is containerd's own choice.
    pub(super) differs: Option<Vec<String>>,
    /// None where that is containerd's own choice.
    pub(super) unpack: Option<Vec<Unpack>>,
    pub(super) cri: CriImages,
}

/// Why containerd's settings are not known.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreadable {
    #[error("cannot read {path}: {source}", path = path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{path} is not containerd's settings: {source}", path = path.display())]
    Syntax { path: PathBuf, source: Box<toml::de::Error> },
}

/// The settings file of the containerd that runs as `process`, as its command line names it.
pub(super) fn file_of(process: Option<u32>) -> PathBuf {
    let words = process.and_then(|pid| fs::read(format!("/proc/{pid}/cmdline")).ok()).unwrap_or_default();
    let words: Vec<String> =
        words.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    let Some(named) = named(&words) else { return USUAL.into() };
    // A path that is not absolute begins where the process is.
    let directory = process.and_then(|pid| fs::read_link(format!("/proc/{pid}/cwd")).ok());
    directory.unwrap_or_default().join(named)
}

/// The settings file that a command line of containerd names.
fn named(words: &[String]) -> Option<PathBuf> {
    let flags = ["--config", "-config", "-c", "--c"];
    let mut words = words.iter().skip(1);
    while let Some(word) = words.next() {
        if flags.contains(&word.as_str()) {
            return words.next().map(PathBuf::from);
        }
        let parts = word.split_once('=').filter(|(flag, _)| flags.contains(flag));
        if let Some((_, value)) = parts {
            return Some(value.into());
        }
    }
    None
}

impl Configuration {
    /// Reads the settings in the file `path` and those that it imports.
    pub(super) fn read(path: &Path) -> Result<Self, Unreadable> {
        let table = merged(path)?;
        let wrong = |source| Unreadable::Syntax { path: path.to_owned(), source: Box::new(source) };
        let own = Own::deserialize(Value::Table(table)).map_err(wrong)?;
        let plugin = |key: &str| own.plugins.get(key).and_then(Value::as_table);
        let list = |key: &str, name: &str| plugin(key).and_then(|settings| settings.get(name)).cloned();
        let differs = list(DIFF_SERVICE, "default").map(Value::try_into).transpose().map_err(wrong)?;
        let unpack = list(TRANSFER, "unpack_config").map(Value::try_into).transpose().map_err(wrong)?;
        let cri = CRI.iter().find_map(|key| plugin(key)).map(cri).unwrap_or_default();
        Ok(Self { proxies: own.proxy_plugins, differs, unpack, cri })
    }
}

#[derive(Deserialize)]
struct Own {
    #[serde(default)]
    proxy_plugins: BTreeMap<String, Proxy>,
    #[serde(default)]
    plugins: BTreeMap<String, Value>,
}

/// In containerd 1.7, what concerns images is in a table of its own.
fn cri(settings: &Table) -> CriImages {
    let older = settings.get("containerd").and_then(Value::as_table);
    let value = |name: &str| settings.get(name).or_else(|| older?.get(name));
    CriImages {
        snapshotter: value("snapshotter").and_then(Value::as_str).map(str::to_owned),
        discard_unpacked_layers: value("discard_unpacked_layers").and_then(Value::as_bool).unwrap_or(false),
    }
}

/// The table of a file with those of the files that it imports, and that these import. Each is read once, however
/// often it is imported, and those that a file imports come after all that are waiting.
fn merged(path: &Path) -> Result<Table, Unreadable> {
    let mut table = Table::new();
    let mut known = BTreeSet::new();
    let mut pending = VecDeque::from([path.to_owned()]);
    while let Some(path) = pending.pop_front() {
        let failed = |source| Unreadable::File { path: path.clone(), source };
        if !known.insert(fs::canonicalize(&path).map_err(failed)?) {
            continue;
        }
        let text = fs::read_to_string(&path).map_err(failed)?;
        let own: Table = toml::from_str(&text)
            .map_err(|source| Unreadable::Syntax { path: path.clone(), source: Box::new(source) })?;
        let imports = own.get("imports").and_then(Value::as_array).into_iter().flatten();
        pending.extend(imports.filter_map(Value::as_str).flat_map(|pattern| matching(&path, pattern)));
        merge_file(&mut table, own);
    }
    Ok(table)
}

/// The files that an import names: beside the file that has it, unless its path is absolute.
fn matching(importer: &Path, pattern: &str) -> Vec<PathBuf> {
    let path = importer.parent().unwrap_or(Path::new("/")).join(pattern);
    if !pattern.contains('*') {
        return vec![path];
    }
    let found = path.to_str().and_then(|pattern| glob::glob(pattern).ok());
    found.into_iter().flatten().flatten().collect()
}

/// Adds the table of a whole file.
fn merge_file(into: &mut Table, mut from: Table) {
    if let (Some(Value::Table(proxies)), Some(Value::Table(later))) =
        (into.get_mut(PROXIES), from.get_mut(PROXIES))
    {
        proxies.extend(std::mem::take(later));
    }
    merge(into, from);
}

fn merge(into: &mut Table, from: Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Table(old)), Value::Table(new)) => merge(old, new),
            (_, value) => drop(into.insert(key, value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_read() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("kata-config/containerd.toml");
        let found = Configuration::read(&path).unwrap();
        assert_eq!(found.proxies["nexuserofs"].r#type, "snapshot");
        assert!(found.differs.unwrap().contains(&"nexuserofs-diff".to_owned()));
        assert!(found.unpack.unwrap().iter().any(|unpack| unpack.differ == "nexuserofs-diff"));
    }

    /// A directory with `config.toml`, which imports what is in `conf.d`, and what is there.
    fn files(main: &str, imported: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        fs::create_dir(directory.path().join("conf.d")).unwrap();
        write("config.toml", &format!("imports = [\"conf.d/*.toml\"]\n{main}"));
        imported.iter().for_each(|(name, text)| write(&format!("conf.d/{name}.toml"), text));
        directory
    }

    fn read(directory: &tempfile::TempDir) -> Result<Configuration, Unreadable> {
        Configuration::read(&directory.path().join("config.toml"))
    }

    const FIRST: &str = "[plugins.\"io.containerd.service.v1.diff-service\"]\ndefault = [\"a\"]\n\
         [proxy_plugins.a]\ntype = \"diff\"\naddress = \"/old\"\ncapabilities = [\"x\"]\n\
         [proxy_plugins.kept]\ntype = \"snapshot\"\n\
         [plugins.\"io.containerd.grpc.v1.cri\".containerd]\nsnapshotter = \"old\"\ndiscard_unpacked_layers = true\n";

    #[test]
    fn imports_come_after_the_file_that_names_them() {
        let second = "[plugins.\"io.containerd.service.v1.diff-service\"]\ndefault = [\"b\", \"c\"]\n\
             [proxy_plugins.a]\ntype = \"diff\"\naddress = \"/new\"\n\
             [plugins.\"io.containerd.grpc.v1.cri\".containerd]\nsnapshotter = \"x\"\n";
        let found = read(&files(FIRST, &[("1", second)])).unwrap();
        assert_eq!(found.differs.unwrap(), ["b", "c"], "a list is replaced");
        let a = Proxy { r#type: "diff".to_owned(), address: "/new".to_owned(), ..Proxy::default() };
        assert_eq!(found.proxies["a"], a, "a proxy plugin is replaced as a whole");
        assert_eq!(found.proxies["kept"].r#type, "snapshot");
        let cri = CriImages { snapshotter: Some("x".to_owned()), discard_unpacked_layers: true };
        assert_eq!(found.cri, cri, "other tables are merged");
    }

    #[test]
    fn files_that_import_each_other_are_read_once() {
        let again = "imports = [\"../config.toml\", \"../conf.d/*.toml\"]\n";
        let last = "[plugins.\"io.containerd.service.v1.diff-service\"]\ndefault = [\"last\"]\n";
        let found = read(&files(FIRST, &[("1", again), ("2", &format!("{again}{last}"))])).unwrap();
        assert_eq!(found.differs.unwrap(), ["last"]);
        assert_eq!(found.proxies["a"].address, "/old");
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let damaged = read(&files(FIRST, &[("1", "= 3")])).unwrap_err();
        assert!(matches!(&damaged, Unreadable::Syntax { path, .. } if path.ends_with("conf.d/1.toml")));
        let missing = read(&files(FIRST, &[("1", "imports = [\"2.toml\"]")])).unwrap_err();
        assert!(matches!(&missing, Unreadable::File { path, .. } if path.ends_with("conf.d/2.toml")));
    }

    #[test]
    fn the_file_that_a_command_line_names_is_found() {
        let of = |line: &str| named(&line.split(' ').map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(of("containerd --config /a.toml --log-level info"), Some("/a.toml".into()));
        assert_eq!(of("containerd -l debug -c=b.toml"), Some("b.toml".into()));
        assert_eq!(of("--config /a.toml"), None, "a program may be called anything");
        assert_eq!(of("containerd --log-level --config"), None);
        assert_eq!(file_of(None), Path::new(USUAL));
    }
}
