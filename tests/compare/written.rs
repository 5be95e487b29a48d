//! Comparisons of active snapshots.

use std::fs::{self, Permissions};
use std::io::Read as _;
use std::os::unix::fs::{PermissionsExt, symlink};

use nexuserofs::diff::CompareRequest;
use nexuserofs::image::digest::Digest;
use nexuserofs::image::tree::Timestamp;

use crate::archive::Entry;
use crate::listing::list;
use crate::skipped::skip;
use crate::{Bench, TAR, UNCOMPRESSED, request};

/// What is listed of a difference, without the times at which the test wrote and its own identity.
fn timeless(tar: &[u8]) -> Vec<String> {
    let is_kept = |word: &&str| !word.starts_with('@') && !word.contains(&owner());
    let line = |line: String| line.split(' ').filter(is_kept).collect::<Vec<_>>().join(" ");
    list(tar).into_iter().map(line).collect()
}

fn owner() -> String {
    format!("{}:{}", rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw())
}

fn bench() -> Bench {
    let bench = Bench::new();
    bench.layer("base", None, &[Entry::directory("./").mode(0o755), Entry::file("kept", "base")]);
    bench
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_is_the_difference_in_every_encoding() {
    let bench = bench();
    let (right, upper) = bench.active("active", Some("base"));
    fs::create_dir(upper.join("d")).unwrap();
    fs::write(upper.join("d/file"), vec![b'x'; 3 << 20]).unwrap();
    fs::set_permissions(upper.join("d/file"), Permissions::from_mode(0o4750)).unwrap();
    fs::hard_link(upper.join("d/file"), upper.join("again")).unwrap();
    symlink("d/file", upper.join("link")).unwrap();
    let mut tars = Vec::new();
    for suffix in ["", "+gzip", "+zstd", "default"] {
        let media_type = if suffix == "default" { String::new() } else { format!("{TAR}{suffix}") };
        let request = || CompareRequest {
            media_type: media_type.clone(),
            ..request(bench.view(&format!("left{suffix}"), Some("base")), right.clone())
        };
        let compared = bench.compare(request()).await.unwrap();
        bench.snapshots.remove(crate::PROFILE, &format!("left{suffix}")).unwrap();
        let again = bench.compare(request()).await.unwrap();
        assert_eq!(again.digest, compared.digest, "the same bytes every time");
        let blob = bench.store.blob(&compared.digest);
        let (expected, tar) = match suffix {
            "" => (media_type, blob.bytes.clone()),
            "+zstd" => (media_type, zstd::stream::decode_all(blob.bytes.as_slice()).unwrap()),
            _ => {
                let mut tar = Vec::new();
                flate2::read::GzDecoder::new(blob.bytes.as_slice()).read_to_end(&mut tar).unwrap();
                (format!("{TAR}+gzip"), tar)
            }
        };
        assert_eq!(compared.media_type, expected);
        assert_eq!(blob.labels[UNCOMPRESSED], Digest::of(&tar).to_string());
        tars.push(tar);
    }
    assert!(tars.iter().all(|tar| *tar == tars[0]));
    assert_eq!(
        timeless(&tars[0]),
        [
            "/ d0755 implicit",
            "/again f4750 \"3145728 bytes\"",
            "/d d0755",
            "/d/file = /again",
            "/link l0777 -> d/file",
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_root_is_named_only_if_it_changed() {
    let bench = bench();
    let (right, upper) = bench.active("active", Some("base"));
    let left = bench.view("left", Some("base"));
    let unchanged = bench.difference(request(left.clone(), right.clone())).await;
    // The owner of the image's root is 0, which only root can give to a directory.
    match rustix::process::getuid().is_root() {
        true => assert_eq!(unchanged.bytes, [0; 1024]),
        false => {
            skip("the_root_is_named_only_if_it_changed", "only root makes a root directory that is as before")
        }
    }
    fs::set_permissions(&upper, Permissions::from_mode(0o1777)).unwrap();
    let changed = bench.difference(request(left, right)).await;
    assert_eq!(timeless(&changed.bytes), ["/ d1777"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_time_is_later_than_the_source_date_epoch() {
    let bench = bench();
    let (right, upper) = bench.active("active", None);
    fs::write(upper.join("file"), "data").unwrap();
    let epoch = Timestamp { seconds: 1000, nanoseconds: 5 };
    let clamped = CompareRequest { source_date_epoch: Some(epoch), ..request(vec![], right) };
    let blob = bench.difference(clamped).await;
    let line = list(&blob.bytes).pop().unwrap();
    assert!(line.contains("@1000.000000005"), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_and_the_layers_below_it_are_one_difference() {
    let bench = bench();
    bench.layer("upper", Some("base"), &[Entry::file("d/both", "lower"), Entry::file("d/lower", "lower")]);
    let (right, upper) = bench.active("active", Some("upper"));
    fs::create_dir(upper.join("d")).unwrap();
    fs::write(upper.join("d/both"), "written").unwrap();
    let blob = bench.difference(request(bench.view("left", Some("base")), right)).await;
    assert_eq!(
        timeless(&blob.bytes),
        ["/ d0755 implicit", "/d d0755", "/d/both f0644 \"written\"", "/d/lower f0644 \"lower\""]
    );
}
