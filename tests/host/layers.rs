//! Layers are mounted once, under names that plans keep.

use std::collections::BTreeSet;
use std::fs;

use nexuserofs::expose::mount::Mount;

use crate::archive::Entry;
use crate::node::{BLOCK, Container, DIR, Node};

fn assert_shows_the_image(container: &Container) {
    assert_eq!(["one", "two", "three", "gone"].map(|name| container.read(name)), ["a", "b", "c", ""]);
}

#[test]
fn a_container_runs_on_layers_that_are_mounted_once() {
    let Some(node) = Node::start("a_container_runs_on_layers_that_are_mounted_once") else { return };
    let image = node.image(DIR);
    let first = Container::new(&node.prepare(DIR, "first", Some(image)));
    let layers = node.layers();
    assert_eq!(layers.len(), 3);
    assert!(layers.iter().all(|layer| layer.fstype == "erofs"), "{layers:?}");
    let second = Container::new(&node.prepare(DIR, "second", Some(image)));
    assert_eq!(node.layers(), layers);
    fs::write(first.path("one"), "changed").unwrap();
    assert_eq!(first.read("one"), "changed");
    assert_shows_the_image(&second);
    assert_eq!(second.root().0, 0o1777, "the mode of / is the image's");
}

#[test]
fn profiles_share_mounted_layers() {
    let Some(node) = Node::start("profiles_share_mounted_layers") else { return };
    let image = node.image(DIR);
    node.image(BLOCK);
    let one = node.view(DIR, "view", Some(image));
    let layers = node.layers();
    assert_eq!(node.view(BLOCK, "view", Some(image)), one);
    assert_eq!(node.layers(), layers);
}

#[test]
fn views_are_read_only() {
    let Some(node) = Node::start("views_are_read_only") else { return };
    let image = node.image(DIR);
    let plan = node.view(DIR, "whole", Some(image));
    assert_eq!(plan[0].fstype, "overlay");
    let whole = Container::new(&plan);
    assert_shows_the_image(&whole);
    assert!(fs::write(whole.path("new"), "").is_err());
    let plan = node.view(DIR, "lowest", Some("a"));
    assert_eq!((plan[0].fstype.as_str(), plan[0].options.join(",").as_str()), ("bind", "ro,rbind"));
    let lowest = Container::new(&plan);
    assert_eq!(["one", "gone"].map(|name| lowest.read(name)), ["a", "a"]);
    assert!(fs::write(lowest.path("new"), "").is_err());
    let empty = Container::new(&node.view(DIR, "empty", None));
    assert!(fs::write(empty.path("new"), "").is_err());
}

#[test]
fn an_active_without_parent_is_an_empty_directory() {
    let Some(node) = Node::start("an_active_without_parent_is_an_empty_directory") else { return };
    for profile in [DIR, BLOCK] {
        let container = Container::new(&node.prepare(profile, "empty", None));
        assert_eq!(fs::read_dir(container.path("")).unwrap().count(), 0);
        fs::write(container.path("new"), "written").unwrap();
        assert_eq!(container.read("new"), "written");
    }
}

/// The option that names the lower directories.
fn lower(plan: &[Mount]) -> &str {
    plan[0].options.iter().find_map(|option| option.strip_prefix("lowerdir=")).unwrap()
}

#[test]
fn a_plan_stays_the_same_and_mounts_again_what_somebody_unmounted() {
    let test = "a_plan_stays_the_same_and_mounts_again_what_somebody_unmounted";
    let Some(node) = Node::start(test) else { return };
    let image = node.image(DIR);
    let plan = node.prepare(DIR, "key", Some(image));
    crate::node::unmount_all(&node.path(""));
    assert_eq!(node.layers(), []);
    assert_eq!(node.snapshotter().mounts(DIR, "key").unwrap(), plan);
    assert_eq!(node.layers().len(), 3);
    assert_shows_the_image(&Container::new(&plan));
}

#[test]
fn chains_of_128_layers_fit_and_are_in_order() {
    let Some(node) = Node::start("chains_of_128_layers_fit_and_are_in_order") else { return };
    let names: Vec<String> = (0..128).map(|number| format!("layer-{number}")).collect();
    let mut parent: Option<&str> = None;
    for name in &names {
        node.commit(DIR, name, parent, &[Entry::file("top", name), Entry::file(name, name)]);
        parent = Some(name);
    }
    let plan = node.prepare(DIR, "key", parent);
    assert_eq!(lower(&plan).split(':').collect::<BTreeSet<_>>().len(), 128);
    let container = Container::new(&plan);
    assert_eq!(container.read("top"), "layer-127");
    assert!(names.iter().all(|name| container.read(name) == *name));
}
