//! Layers as one: single cases, and that what is merged shows the same as what it was merged from.

use std::collections::BTreeMap;
use std::io::{self, Read};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::{Error, Layer, Merged, Place, XATTR_METACOPY, XATTR_REDIRECT, flatten, is_whiteout, merge};
use crate::image::tar::{XATTR_IMPLICIT, XATTR_OPAQUE};
use crate::image::tree::{Contents, DeviceNumber, Directory, FileData, Inode, InodeId, Metadata, Node, Tree};

/// A layer with the text of its files.
#[derive(Clone, Debug)]
struct Made {
    tree: Tree,
    texts: BTreeMap<InodeId, String>,
}

impl Contents for Made {
    fn open(&self, inode: InodeId) -> io::Result<Box<dyn Read + '_>> {
        let text = self.texts.get(&inode).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Box::new(text.as_bytes()))
    }
}

/// What an entry of a layer is made as.
#[derive(Clone, Debug)]
enum Entry {
    Directory,
    /// The mode tells it from others.
    File(&'static str, u16),
    Whiteout,
    LinkTo(&'static str),
}

const DIRECTORY: Entry = Entry::Directory;
const WHITEOUT: Entry = Entry::Whiteout;

fn file(text: &'static str) -> Entry {
    Entry::File(text, 0o644)
}

impl Made {
    fn new() -> Self {
        let mut made = Self { tree: Tree { inodes: Vec::new() }, texts: BTreeMap::new() };
        made.push(Node::Directory(Directory::default()), 0o755);
        made
    }

    /// A layer with these entries, parents first.
    fn of(entries: &[(&str, Entry)]) -> Self {
        let mut made = Self::new();
        for (path, entry) in entries {
            made.add(path, entry.clone());
        }
        made
    }

    fn push(&mut self, node: Node, mode: u16) -> InodeId {
        self.tree.inodes.push(Inode { metadata: Metadata { mode, ..Metadata::default() }, node });
        InodeId(self.tree.inodes.len() as u32 - 1)
    }

    fn add(&mut self, path: &str, entry: Entry) {
        let id = match entry {
            Entry::Directory => self.push(Node::Directory(Directory::default()), 0o755),
            Entry::Whiteout => self.push(Node::CharacterDevice(DeviceNumber::default()), 0),
            Entry::LinkTo(other) => self.find(other).unwrap(),
            Entry::File(text, mode) => {
                let id =
                    self.push(Node::Regular(FileData { size: text.len() as u64, extents: Vec::new() }), mode);
                self.texts.insert(id, text.to_owned());
                id
            }
        };
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let parent = self.find(parent).unwrap();
        let Node::Directory(directory) = &mut self.tree.inodes[parent.0 as usize].node else {
            panic!("{path} is below no directory");
        };
        directory.entries.insert(name.into(), id);
    }

    fn find(&self, path: &str) -> Option<InodeId> {
        path.split('/').filter(|name| !name.is_empty()).try_fold(Tree::ROOT, |id, name| {
            match &self.tree.inode(id).node {
                Node::Directory(directory) => directory.entries.get(name.as_bytes()).copied(),
                _ => None,
            }
        })
    }

    fn mark(mut self, path: &str, xattr: &[u8], value: &str) -> Self {
        let id = self.find(path).unwrap();
        self.tree.inodes[id.0 as usize].metadata.xattrs.insert(xattr.to_vec(), value.into());
        self
    }

    fn opaque(self, path: &str) -> Self {
        self.mark(path, XATTR_OPAQUE, "y")
    }
}

fn layers(made: &[Made]) -> Vec<Layer<'_>> {
    made.iter().map(|made| Layer { tree: &made.tree, contents: made }).collect()
}

/// Whether a listing tells which names have the same inode.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Links {
    Shown,
    Hidden,
}

/// One line for each path: its type, mode, marks and text.
fn show(merged: &Merged<'_>, links: Links) -> Vec<String> {
    let mut lines = Vec::new();
    let mut first: BTreeMap<InodeId, String> = BTreeMap::new();
    let mut todo = vec![(String::new(), Tree::ROOT)];
    while let Some((path, id)) = todo.pop() {
        let inode = merged.tree().inode(id);
        let marks = inode.metadata.xattrs.keys().map(|name| match name.as_slice() {
            XATTR_OPAQUE => " opaque".to_owned(),
            XATTR_IMPLICIT => " implicit".to_owned(),
            other => format!(" {}", other.escape_ascii()),
        });
        let marks: String = marks.collect();
        let line =
            match &inode.node {
                Node::Directory(directory) => {
                    todo.extend(
                        directory.entries.iter().rev().map(|(name, &child)| {
                            (format!("{path}/{}", String::from_utf8_lossy(name)), child)
                        }),
                    );
                    format!("{path}/{marks}")
                }
                Node::Regular(data) => {
                    let mut text = String::new();
                    merged.open(id).unwrap().read_to_string(&mut text).unwrap();
                    assert_eq!(text.len() as u64, data.size);
                    format!("{path} {:o} {text}{marks}", inode.metadata.mode)
                }
                _ if is_whiteout(inode, false) => format!("{path} gone{marks}"),
                other => panic!("{other:?}"),
            };
        let is_directory = matches!(inode.node, Node::Directory(_));
        match first.get(&id) {
            Some(first) if links == Links::Shown && !is_directory => lines.push(format!("{path} = {first}")),
            _ => lines.push(line),
        }
        first.entry(id).or_insert(path);
    }
    lines
}

fn merged(made: &[Made], changed: usize) -> Vec<String> {
    show(&merge(&layers(made), changed).unwrap(), Links::Shown)
}

#[test]
fn one_layer_stays_as_it_is() {
    let layer = Made::of(&[
        ("d", DIRECTORY),
        ("d/a", file("a")),
        ("d/b", Entry::LinkTo("d/a")),
        ("d/gone", WHITEOUT),
        ("e", DIRECTORY),
    ])
    .opaque("e");
    assert_eq!(merged(&[layer], 1), ["/", "/d/", "/d/a 644 a", "/d/b = /d/a", "/d/gone gone", "/e/ opaque"]);
}

#[test]
fn the_upper_of_two_layers_counts_and_whiteouts_stay() {
    let upper = Made::of(&[("d", DIRECTORY), ("d/both", file("upper")), ("d/deleted", WHITEOUT)]);
    let lower = Made::of(&[
        ("d", DIRECTORY),
        ("d/both", file("lower")),
        ("d/deleted", file("lower")),
        ("d/lower", file("lower")),
        ("d/older", WHITEOUT),
    ]);
    assert_eq!(
        merged(&[upper, lower], 2),
        ["/", "/d/", "/d/both 644 upper", "/d/deleted gone", "/d/lower 644 lower", "/d/older gone"]
    );
}

#[test]
fn a_directory_over_something_else_hides_what_is_further_below() {
    for between in [WHITEOUT, file("between")] {
        let made = [Made::of(&[("d", DIRECTORY), ("d/a", file("a"))]), Made::of(&[("d", between)])];
        assert_eq!(merged(&made, 2), ["/", "/d/ opaque", "/d/a 644 a"]);
        // Below what is merged it is hidden by that layer itself.
        assert_eq!(merged(&made, 1), ["/", "/d/", "/d/a 644 a"]);
    }
}

#[test]
fn an_opaque_directory_cuts_off_the_layers_below() {
    let upper = Made::of(&[("d", DIRECTORY), ("d/a", file("a"))]).opaque("d");
    let lower = Made::of(&[("d", DIRECTORY), ("d/b", file("b"))]);
    assert_eq!(merged(&[upper, lower], 2), ["/", "/d/ opaque", "/d/a 644 a"]);
}

#[test]
fn whiteouts_by_attribute_are_whiteouts() {
    let layer = Made::of(&[("d", DIRECTORY), ("d/gone", file("")), ("d/empty", file(""))])
        .mark("d", XATTR_OPAQUE, "x")
        .mark("d/gone", b"trusted.overlay.whiteout", "y");
    assert_eq!(merged(&[layer], 1), ["/", "/d/", "/d/empty 644 ", "/d/gone gone"]);
}

#[test]
fn a_renamed_directory_becomes_whole_and_hides_its_new_place() {
    let upper = Made::of(&[
        ("new", DIRECTORY),
        ("new/added", file("added")),
        ("new/deleted", WHITEOUT),
        ("old", WHITEOUT),
    ])
    .mark("new", XATTR_REDIRECT, "/old");
    let below = Made::of(&[
        ("old", DIRECTORY),
        ("old/kept", file("kept")),
        ("old/deleted", file("deleted")),
        ("old/inner", DIRECTORY),
        ("old/inner/link", file("link")),
        ("old/inner/other", Entry::LinkTo("old/inner/link")),
    ]);
    assert_eq!(
        merged(&[upper, below], 1),
        [
            "/",
            "/new/ opaque",
            "/new/added 644 added",
            "/new/inner/",
            "/new/inner/link 644 link",
            "/new/inner/other = /new/inner/link",
            "/new/kept 644 kept",
            "/old gone",
        ]
    );
}

#[test]
fn a_directory_renamed_twice_is_followed_to_the_bottom() {
    let top = Made::of(&[("third", DIRECTORY), ("second", WHITEOUT)]).mark("third", XATTR_REDIRECT, "second");
    let middle = Made::of(&[("second", DIRECTORY), ("first", WHITEOUT), ("second/middle", file("m"))]).mark(
        "second",
        XATTR_REDIRECT,
        "/first",
    );
    let bottom = Made::of(&[("first", DIRECTORY), ("first/bottom", file("b"))]);
    let expected = ["/third/bottom 644 b", "/third/middle 644 m"];
    assert_eq!(
        merged(&[top.clone(), middle.clone(), bottom.clone()], 1),
        ["/", "/second gone", "/third/ opaque", expected[0], expected[1]]
    );
    assert_eq!(
        merged(&[top, middle, bottom], 2),
        ["/", "/first gone", "/second gone", "/third/ opaque", expected[0], expected[1]]
    );
}

#[test]
fn a_file_without_data_takes_that_from_below() {
    let upper =
        Made::of(&[("d", DIRECTORY), ("d/f", Entry::File("", 0o600)), ("moved", Entry::File("", 0o640))])
            .mark("d/f", XATTR_METACOPY, "")
            .mark("moved", XATTR_METACOPY, "")
            .mark("moved", XATTR_REDIRECT, "/d/g");
    let below = Made::of(&[("d", DIRECTORY), ("d/f", file("data")), ("d/g", file("other"))]);
    assert_eq!(merged(&[upper.clone(), below], 1), ["/", "/d/", "/d/f 600 data", "/moved 640 other"]);
    let error = merge(&layers(&[upper, Made::new()]), 1).unwrap_err();
    assert_eq!(error, Error::NoData { name: "moved".to_owned() });
}

#[test]
fn a_directory_that_nothing_names_keeps_the_metadata_of_one_below() {
    let upper = Made::of(&[("d", DIRECTORY), ("d/a", file("a"))]).mark("d", XATTR_IMPLICIT, "y");
    let lower = Made::of(&[("d", DIRECTORY)]).mark("d", b"user.named", "");
    assert_eq!(merged(&[upper.clone(), lower.clone()], 1), ["/", "/d/ implicit", "/d/a 644 a"]);
    assert_eq!(merged(&[upper, lower], 2), ["/", "/d/ user.named", "/d/a 644 a"]);
}

#[test]
fn a_flat_tree_has_no_marks_and_tells_where_data_is() {
    let made = [
        Made::of(&[
            ("moved", DIRECTORY),
            ("moved/new", file("new")),
            ("copied", Entry::File("12345", 0o600)),
            ("again", Entry::LinkTo("copied")),
            ("gone", WHITEOUT),
            ("opaque", DIRECTORY),
            ("never", WHITEOUT),
            ("unnamed", DIRECTORY),
        ])
        .mark("moved", XATTR_REDIRECT, "/old")
        .mark("copied", XATTR_METACOPY, "")
        .mark("copied", XATTR_REDIRECT, "/copied")
        .mark("copied", b"user.kept", "")
        .mark("unnamed", XATTR_IMPLICIT, "y")
        .opaque("opaque")
        .opaque(""),
        Made::of(&[
            ("old", DIRECTORY),
            ("old/kept", file("kept")),
            ("old/new", file("older")),
            ("copied", file("12345")),
            ("gone", file("gone")),
            ("opaque", DIRECTORY),
            ("opaque/hidden", file("hidden")),
            ("unnamed", DIRECTORY),
        ])
        .mark("unnamed", b"user.below", ""),
    ];
    let trees = [&made[0].tree, &made[1].tree];
    let flat = flatten(&trees).unwrap();
    let whole = Made { tree: flat.tree, texts: BTreeMap::new() };
    let names = |path: &str| match &whole.tree.inode(whole.find(path).unwrap()).node {
        Node::Directory(directory) => {
            directory.entries.keys().map(|name| name.escape_ascii().to_string()).collect()
        }
        _ => Vec::new(),
    };
    assert_eq!(names(""), ["again", "copied", "moved", "old", "opaque", "unnamed"]);
    assert_eq!(names("moved"), ["kept", "new"]);
    assert_eq!(names("opaque"), Vec::<String>::new());
    let origin = |path: &str| flat.origins[whole.find(path).unwrap().0 as usize];
    let place = |layer: usize, path: &str| Some(Place { layer, inode: made[layer].find(path).unwrap() });
    assert_eq!(origin("moved/new"), place(0, "moved/new"));
    assert_eq!(origin("moved/kept"), place(1, "old/kept"));
    assert_eq!(origin("copied"), place(1, "copied"));
    assert_eq!(whole.find("again"), whole.find("copied"));
    let copied = &whole.tree.inode(whole.find("copied").unwrap()).metadata;
    assert_eq!((copied.mode, copied.xattrs.len()), (0o600, 1));
    let marked = whole
        .tree
        .inodes
        .iter()
        .filter(|inode| inode.metadata.xattrs.keys().any(|name| super::is_private(name)));
    assert_eq!(marked.count(), 0);
    assert!(
        whole.tree.inode(whole.find("unnamed").unwrap()).metadata.xattrs.is_empty(),
        "what overlayfs shows"
    );
}

/// Layers whose paths meet each other often.
fn any_layer() -> impl Strategy<Value = Made> {
    let name = || select(vec!["a", "b", "c"]);
    let path = vec(name(), 1..4).prop_map(|names| names.join("/"));
    let entry = prop_oneof![
        3 => Just(DIRECTORY),
        3 => select(vec!["x", "y", "z"]).prop_map(file),
        2 => Just(WHITEOUT),
    ];
    let redirect = prop_oneof![
        name().prop_map(str::to_owned),
        vec(name(), 1..3).prop_map(|names| format!("/{}", names.join("/"))),
    ];
    let mark =
        prop_oneof![4 => Just(None), 1 => Just(Some(None)), 1 => redirect.prop_map(|to| Some(Some(to)))];
    vec((path, entry, mark), 0..12).prop_map(|entries| {
        let mut made = Made::new();
        for (path, entry, mark) in entries {
            let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
            let can_hold =
                made.find(parent).is_some_and(|id| matches!(made.tree.inode(id).node, Node::Directory(_)));
            if !can_hold || made.find(&path).is_some() {
                continue;
            }
            let is_directory = matches!(entry, Entry::Directory);
            made.add(&path, entry);
            made = match mark {
                Some(None) if is_directory => made.opaque(&path),
                Some(Some(to)) if is_directory => made.mark(&path, XATTR_REDIRECT, &to),
                _ => made,
            };
        }
        made
    })
}

/// What all layers show, whiteouts and marks left out: they hide nothing any more. In random layers two
/// redirects can lead to the same file, which no rename leaves behind: then links do not survive.
fn shown(layers: &[Layer<'_>]) -> Vec<String> {
    let lines = show(&merge(layers, layers.len()).unwrap(), Links::Hidden);
    let lines = lines.into_iter().filter(|line| !line.ends_with(" gone"));
    lines.map(|line| line.replace(" opaque", "")).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    /// The difference, put on what it was made against, shows what everything showed.
    #[test]
    fn a_merge_shows_what_its_layers_show(made in vec(any_layer(), 1..5), changed in 0..5_usize) {
        let all = layers(&made);
        let changed = changed.min(all.len());
        let difference = merge(&all, changed).unwrap();
        let mut again = vec![Layer { tree: difference.tree(), contents: &difference }];
        again.extend(&all[changed..]);
        prop_assert_eq!(shown(&again), shown(&all));
    }
}
