//! Comparisons of committed snapshots.

use nexuserofs::diff::compare::Error;
use nexuserofs::error::{Classify, Kind};
use nexuserofs::expose::mount::Mount;
use nexuserofs::image::digest::Digest;
use nexuserofs::image::erofs::read::{Image, Limits};
use nexuserofs::layer::Recipe;
use tempfile::TempDir;

use crate::archive::Entry;
use crate::listing::list;
use crate::{Bench, EROFS, UNCOMPRESSED, request};

fn base() -> Vec<Entry> {
    vec![
        Entry::directory("etc/").mode(0o750).owner(1, 2),
        Entry::file("etc/hostname", "base").mtime(5),
        Entry::file("etc/gone", "base"),
        Entry::directory("opt/"),
        Entry::file("opt/old", "base"),
    ]
}

fn upper() -> Vec<Entry> {
    vec![
        Entry::file("etc/hostname", "upper").mode(0o4755).xattr("user.x", "y"),
        Entry::hard_link("etc/link", "etc/hostname").mode(0o4755),
        Entry::file("etc/.wh.gone", ""),
        Entry::file("opt/.wh..wh..opq", ""),
        Entry::file("opt/new", "upper"),
    ]
}

const UPPER: [&str; 7] = [
    "/ d0755 implicit",
    "/etc d0755 implicit",
    "/etc/gone c0000 0:0",
    "/etc/hostname f4755 \"upper\" user.x=y",
    "/etc/link = /etc/hostname",
    "/opt d0755 implicit opaque",
    "/opt/new f0644 \"upper\"",
];

fn bench() -> Bench {
    let bench = Bench::new();
    bench.layer("base", None, &base());
    bench.layer("upper", Some("base"), &upper());
    bench
}

#[tokio::test(flavor = "multi_thread")]
async fn a_committed_layer_is_the_difference_to_its_parent() {
    let bench = bench();
    let (left, right) = (bench.view("left", Some("base")), bench.view("right", Some("upper")));
    let blob = bench.difference(request(left, right)).await;
    assert_eq!(list(&blob.bytes), UPPER);
    assert_eq!(blob.labels[UNCOMPRESSED], Digest::of(&blob.bytes).to_string(), "also of a plain tar");
}

#[tokio::test(flavor = "multi_thread")]
async fn several_layers_are_merged_up_to_an_ancestor() {
    let bench = bench();
    bench.layer("top", Some("upper"), &[Entry::file("opt/new", "top"), Entry::file("etc/.wh.link", "")]);
    let (left, right) = (bench.view("left", Some("base")), bench.view("right", Some("top")));
    let blob = bench.difference(request(left, right)).await;
    let mut expected = UPPER.map(str::to_owned);
    expected[4] = "/etc/link c0000 0:0".to_owned();
    expected[6] = "/opt/new f0644 \"top\"".to_owned();
    assert_eq!(list(&blob.bytes), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_left_side_can_be_said_in_three_ways() {
    let bench = bench();
    let empty = TempDir::new().unwrap();
    let bind = Mount {
        fstype: "bind".to_owned(),
        source: empty.path().to_str().unwrap().to_owned(),
        ..Mount::default()
    };
    for (number, left) in [vec![], bench.view("nothing", None), vec![bind]].into_iter().enumerate() {
        let right = bench.view(&format!("right {number}"), Some("upper"));
        let blob = bench.difference(request(left, right)).await;
        assert_eq!(
            list(&blob.bytes),
            [
                "/ d0755 implicit",
                "/etc d0750 1:2",
                "/etc/gone c0000 0:0",
                "/etc/hostname f4755 \"upper\" user.x=y",
                "/etc/link = /etc/hostname",
                "/opt d0755 implicit opaque",
                "/opt/new f0644 \"upper\"",
            ]
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_does_not_differ_from_itself() {
    let bench = bench();
    let (left, right) = (bench.view("left", Some("upper")), bench.view("right", Some("upper")));
    let blob = bench.difference(request(left, right)).await;
    assert_eq!(blob.bytes, [0; 1024]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_applied_layer_is_the_difference_before_it_is_committed() {
    let bench = bench();
    let labels = [("containerd.io/snapshot.ref".to_owned(), "again".to_owned())].into();
    let right = bench.snapshots.prepare(crate::PROFILE, "extract again", Some("base"), labels).unwrap();
    let claim = bench.snapshots.claim(&right).unwrap().unwrap();
    let diff_id = Digest::of(&crate::archive::archive(&upper()));
    bench.snapshots.attach_existing(&claim, &Recipe::Native, &diff_id, &diff_id).unwrap().unwrap();
    drop(claim);
    let blob = bench.difference(request(bench.view("left", Some("base")), right)).await;
    assert_eq!(list(&blob.bytes), UPPER);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erofs_layer_is_the_layers_own_file_or_what_its_tar_would_become() {
    let bench = bench();
    let erofs = |left, right| nexuserofs::diff::CompareRequest {
        media_type: EROFS.to_owned(),
        ..request(left, right)
    };
    let (left, right) = (bench.view("left", Some("base")), bench.view("right", Some("upper")));
    let blob = bench.difference(erofs(left, right.clone())).await;
    let own = right.iter().find(|mount| mount.fstype == "erofs").unwrap();
    assert!(std::fs::read(&own.source).unwrap() == blob.bytes);
    assert_eq!(blob.labels[UNCOMPRESSED], Digest::of(&blob.bytes).to_string());

    let merged = bench.difference(erofs(vec![], right.clone())).await;
    let tar = bench.difference(request(vec![], right)).await;
    bench.layer_of("of the tar", None, &tar.bytes);
    let of_the_tar = bench.view("of the tar's", Some("of the tar"));
    assert!(std::fs::read(&of_the_tar[0].source).unwrap() == merged.bytes);
    Image::open(merged.bytes.as_slice(), &Limits::default()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_ours_to_compare_is_left_to_the_next_differ() {
    let bench = bench();
    bench.layer("other", None, &[Entry::file("other", "")]);
    let foreign =
        vec![Mount { fstype: "overlay".to_owned(), source: "overlay".to_owned(), ..Mount::default() }];
    let (base, upper, other) =
        (bench.view("b", Some("base")), bench.view("u", Some("upper")), bench.view("o", Some("other")));
    let (active, _) = bench.active("active", Some("base"));
    let cases = [
        (base.clone(), foreign.clone(), "right"),
        (base.clone(), vec![], "right"),
        (foreign, upper.clone(), "left"),
        (other, upper.clone(), "stands on"),
        (upper.clone(), base, "stands on"),
        (active, upper.clone(), "written to"),
    ];
    for (left, right, words) in cases {
        let error = bench.compare(request(left, right)).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Unimplemented, "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
    let unknown = nexuserofs::diff::CompareRequest {
        media_type: "application/vnd.docker.image.rootfs.diff.tar.gzip".to_owned(),
        ..request(vec![], upper)
    };
    let error = bench.compare(unknown).await.unwrap_err();
    assert!(matches!(error, Error::MediaType(_)) && error.kind() == Kind::Unimplemented, "{error}");
}
