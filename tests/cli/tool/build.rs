//! `nexuserofs build`.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

use nexuserofs::image::digest::Digest;
use serde_json::Value;

use super::super::daemon::Place;
use super::{DATA, USAGE, layout, lines, refused, tar, text};

/// The names in a directory, in order.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("directory");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("entry").file_name().into_string().expect("UTF-8")).collect();
    names.sort();
    names
}

fn states(built: &[Value]) -> Vec<String> {
    built.iter().map(|line| text(line, "state")).collect()
}

#[test]
fn a_tar_gives_the_bytes_that_caches_and_daemons_have_however_it_comes() {
    let place = Place::new();
    let (tar, output, cache) = (tar(&place, "one"), place.arg("layers"), place.arg("cache"));
    let built = lines(&["build", "--output", &output, &tar]);
    let diff_id = Digest::of(&fs::read(&tar).expect("tar"));
    assert_eq!((text(&built[0], "diff_id"), states(&built)), (diff_id.to_string(), vec!["built".to_owned()]));
    let key = text(&built[0], "key");
    assert_eq!(names(&place.path("layers")), [format!("{key}.erofs"), format!("{key}.json")]);
    let bytes = fs::read(place.path("layers").join(format!("{key}.erofs"))).expect("layer");
    let cached = lines(&["cache", "add", &cache, &tar]);
    assert_eq!(fs::read(text(&cached[0], "file")).expect("cached"), bytes, "as the differ makes it");

    assert!(Command::new("gzip").args(["--keep", &tar]).status().expect("gzip").success());
    let piped = place.arg("piped");
    let output = Command::new(env!("CARGO_BIN_EXE_nexuserofs"))
        .args(["build", "--quiet", "--output", &piped, "-"])
        .stdin(Stdio::from(File::open(format!("{tar}.gz")).expect("gzip file")))
        .output()
        .expect("program");
    assert!(output.status.success() && output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
    assert_eq!(fs::read(place.path("piped").join(format!("{key}.erofs"))).expect("layer"), bytes);
}

#[test]
fn what_is_there_is_kept_if_it_is_whole_and_replaced_only_when_asked_for() {
    let place = Place::new();
    let (tar, output) = (tar(&place, "one"), place.arg("layers"));
    let built = lines(&["build", "--output", &output, &tar]);
    let file = text(&built[0], "file");
    let whole = fs::read(&file).expect("layer");
    assert_eq!(states(&lines(&["build", "--output", &output, &tar])), ["present"]);
    fs::write(&file, &whole[..4096]).expect("cut");
    refused(&["build", "--output", &output, &tar], USAGE, "exists: take it away, or say --force");
    assert_eq!(fs::read(&file).expect("layer"), whole[..4096]);
    assert_eq!(states(&lines(&["build", "--force", "--output", &output, &tar])), ["built"]);
    assert_eq!(fs::read(&file).expect("layer"), whole);
    assert_eq!(names(&place.path("layers")).len(), 2, "nothing half-made");
}

#[test]
fn an_image_is_taken_from_a_directory_or_its_tar_and_checked() {
    let place = Place::new();
    let bytes = fs::read(tar(&place, "one")).expect("tar");
    let good = layout(&place, "good", &bytes, Digest::of(&bytes));
    let archive = place.arg("good.tar");
    let made = Command::new("tar").args(["--create", "--file", &archive, "--directory", &good, "."]).status();
    assert!(made.expect("tar").success());
    let built = lines(&["build", "--output", &place.arg("layers"), &good]);
    assert_eq!(states(&built), ["built"], "one layer, though two indexes name it");
    assert_eq!(states(&lines(&["build", "--output", &place.arg("layers"), &archive])), ["present"]);
    let again = lines(&["build", "--output", &place.arg("again"), &archive]);
    let read = |line: &Value| fs::read(text(line, "file")).expect("layer");
    assert_eq!(read(&again[0]), read(&built[0]));

    // The tar of a layout is a tar, too.
    let layer = lines(&["build", "--layer", "--output", &place.arg("layers"), &archive]);
    assert_eq!(text(&layer[0], "diff_id"), Digest::of(&fs::read(&archive).expect("tar")).to_string());

    let lying = layout(&place, "lying", &bytes, Digest::of(b"another layer"));
    let output = place.arg("refused");
    refused(&["build", "--output", &output, &lying], DATA, "its diffID is");
    refused(&["build", "--output", &output, "--image", "latest", &good], USAGE, "has no image called");
    refused(&["build", "--output", &output, "--platform", "plan9/mips", &good], USAGE, "has no image for");
    refused(&["build", "--output", &output, "--platform", "linux", &good], USAGE, "is not a platform");
    assert_eq!(names(&place.path("refused")), [""; 0], "nothing half-made");
}
