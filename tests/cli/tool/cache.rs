//! `nexuserofs cache`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nexuserofs::image::digest::Digest;

use super::super::daemon::Place;
use super::{DATA, USAGE, layout, lines, refused, tar, text, tool};

/// State and diffID of each line that the tool prints.
fn states(arguments: &[&str]) -> Vec<(String, String)> {
    lines(arguments).iter().map(|line| (text(line, "state"), text(line, "diff_id"))).collect()
}

fn file_of(cache: &Path, diff_id: &str) -> PathBuf {
    let hex = diff_id.trim_start_matches("sha256:");
    cache.join("sha256").join(&hex[..2]).join(format!("{hex}.erofs"))
}

#[test]
fn a_tar_is_added_once_listed_and_verified() {
    let place = Place::new();
    let (cache, one, two) = (place.arg("cache"), tar(&place, "one"), tar(&place, "two"));
    let added = states(&["cache", "add", &cache, &one, &two]);
    assert!(added.iter().all(|(state, _)| state == "added"), "{added:?}");
    assert_eq!(added.len(), 2);
    let compressed = Command::new("gzip").args(["--keep", &one]).status();
    assert!(compressed.expect("gzip").success());
    let again = states(&["cache", "add", &cache, &format!("{one}.gz")]);
    assert_eq!(again, [("present".to_owned(), added[0].1.clone())], "another blob of the same tar");
    assert_eq!(states(&["cache", "list", &cache]).len(), 2);
    assert!(states(&["cache", "verify", &cache]).iter().all(|(state, _)| state == "whole"));
}

#[test]
fn what_is_damaged_is_named_and_replaced() {
    let place = Place::new();
    let (cache, one) = (place.arg("cache"), tar(&place, "one"));
    let diff_id = states(&["cache", "add", &cache, &one])[0].1.clone();
    let file = file_of(&place.path("cache"), &diff_id);
    let whole = fs::read(&file).expect("file");
    fs::write(&file, &whole[..4096]).expect("cut");
    let verified = tool(&["cache", "verify", &cache]);
    assert_eq!(verified.status.code(), Some(DATA));
    let said = String::from_utf8(verified.stdout).expect("UTF-8");
    assert!(said.contains(&diff_id) && said.contains("refused: it has 4096 bytes"), "{said}");
    assert_eq!(states(&["cache", "add", &cache, &one])[0].0, "added");
    assert_eq!(fs::read(&file).expect("file"), whole);
}

#[test]
fn layers_of_an_image_layout_are_added_if_they_are_what_it_says() {
    let place = Place::new();
    let cache = place.arg("cache");
    let bytes = fs::read(tar(&place, "one")).expect("tar");
    let diff_id = Digest::of(&bytes);
    let good = layout(&place, "good", &bytes, diff_id);
    assert_eq!(states(&["cache", "add", &cache, &good]), [("added".to_owned(), diff_id.to_string())]);
    assert_eq!(states(&["cache", "add", &cache, &good]), [("present".to_owned(), diff_id.to_string())]);

    let lying = layout(&place, "lying", &bytes, Digest::of(b"another layer"));
    let damaged = layout(&place, "damaged", &bytes, Digest::of(b"a third layer"));
    let file = place.path("damaged").join("blobs/sha256").join(diff_id.hex());
    fs::write(file, fs::read(tar(&place, "two")).expect("tar")).expect("damage");
    for (source, what) in [(&lying, "its diffID is"), (&damaged, "its digest is")] {
        refused(&["cache", "add", &cache, source], DATA, what);
    }
    assert_eq!(states(&["cache", "list", &cache]).len(), 1, "nothing of the others");
}

#[test]
fn a_mistake_is_told_from_damage() {
    let place = Place::new();
    let cache = place.arg("cache");
    for (arguments, code, words) in [
        (&["cache"][..], USAGE, "Usage"),
        (&["cache", "add", &cache], USAGE, "required"),
        (&["cache", "add", &cache, &place.arg("missing")], USAGE, "name the tar of a layer"),
        (&["cache", "add", &cache, env!("CARGO_BIN_EXE_nexuserofs")], DATA, "cannot make a layer of"),
    ] {
        refused(arguments, code, words);
    }
    assert_eq!(tool(&["cache", "list", &place.arg("missing")]).status.code(), Some(70));
    assert_eq!(fs::read_dir(place.path("cache")).expect("cache").count(), 0, "nothing half-made");
}

#[test]
fn every_verb_is_in_the_operators_reference() {
    let help = String::from_utf8(tool(&["cache", "--help"]).stdout).expect("UTF-8");
    let reference = include_str!("../../../docs/operations.md");
    for verb in ["add", "export", "list", "verify"] {
        assert!(help.contains(verb), "{help}");
        assert!(reference.contains(&format!("nexuserofs cache {verb}")), "{verb}");
    }
}
