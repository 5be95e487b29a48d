//! Stat, Update, List, Usage, Cleanup.

use nexuserofs_proto::containerd::services::snapshots::v1::{
    CleanupRequest, Info, Kind, UpdateSnapshotRequest, UsageRequest, UsageResponse,
};
use prost_types::FieldMask;
use tonic::{Code, Status};

use crate::server::{EXTRACTION, PROFILE, Server, labels, refusal};

async fn update(
    server: &mut Server,
    name: &str,
    pairs: &[(&str, &str)],
    paths: &[&str],
) -> Result<Info, Status> {
    let info = Info { name: name.to_owned(), labels: labels(pairs), ..Info::default() };
    let paths = paths.iter().map(|path| (*path).to_owned()).collect();
    let request = UpdateSnapshotRequest {
        snapshotter: PROFILE.to_owned(),
        info: Some(info),
        update_mask: Some(FieldMask { paths }),
    };
    Ok(server.client.update(request).await?.into_inner().info.unwrap())
}

async fn usage(server: &mut Server, key: &str) -> Result<UsageResponse, Status> {
    let request = UsageRequest { snapshotter: PROFILE.to_owned(), key: key.to_owned() };
    Ok(server.client.usage(request).await?.into_inner())
}

fn names(infos: &[Info]) -> Vec<&str> {
    infos.iter().map(|info| info.name.as_str()).collect()
}

fn time(time: Option<prost_types::Timestamp>) -> (i64, i32) {
    let time = time.expect("times are always set");
    (time.seconds, time.nanos)
}

#[tokio::test]
async fn a_record_is_complete() {
    let mut server = Server::start().await;
    server.committed("layer", "").await;
    server.prepare_labelled("container", "layer", &[("a", "1")]).await.unwrap();
    let info = server.stat("container").await.unwrap();
    assert_eq!((info.name.as_str(), info.parent.as_str()), ("container", "layer"));
    assert_eq!(info.kind(), Kind::Active);
    assert_eq!(info.labels, labels(&[("a", "1")]));
    assert!(time(info.created_at).0 > 1_700_000_000);
    assert_eq!(time(info.created_at), time(info.updated_at));
    refusal(server.stat("absent").await, Code::NotFound);
}

#[tokio::test]
async fn an_update_changes_the_labels_that_the_mask_names() {
    let mut server = Server::start().await;
    server.prepare_labelled("key", "", &[("a", "1"), ("b", "2")]).await.unwrap();
    let before = server.stat("key").await.unwrap();

    let info = update(&mut server, "key", &[("a", "3"), ("c", "4")], &["labels.a"]).await.unwrap();
    assert_eq!(info.labels, labels(&[("a", "3"), ("b", "2")]));
    assert!(time(info.updated_at) > time(before.updated_at));
    assert_eq!(info.created_at, before.created_at);
    assert_eq!(server.stat("key").await.unwrap(), info);

    let info = update(&mut server, "key", &[("x", "y")], &["labels.a", "labels.x"]).await.unwrap();
    assert_eq!(info.labels, labels(&[("b", "2"), ("x", "y")]));
    let info = update(&mut server, "key", &[("c", "5")], &["labels"]).await.unwrap();
    assert_eq!(info.labels, labels(&[("c", "5")]));
    let info = update(&mut server, "key", &[("d", "6"), ("e", "")], &[]).await.unwrap();
    assert_eq!(info.labels, labels(&[("d", "6")]));
}

#[tokio::test]
async fn an_update_of_anything_else_is_refused() {
    let mut server = Server::start().await;
    server.prepare("key", "").await.unwrap();
    for path in ["parent", "name", "labels.", "created_at"] {
        let text = refusal(update(&mut server, "key", &[], &[path]).await, Code::InvalidArgument);
        assert!(text.contains(path), "{text}");
    }
    refusal(update(&mut server, "absent", &[], &["labels"]).await, Code::NotFound);
    let empty = UpdateSnapshotRequest { snapshotter: PROFILE.to_owned(), ..UpdateSnapshotRequest::default() };
    refusal(server.client.update(empty).await, Code::InvalidArgument);
}

#[tokio::test]
async fn a_list_comes_in_blocks() {
    let mut server = Server::start().await;
    assert_eq!(server.list(&[]).await.unwrap().0, [0; 0]);
    for number in 0..201 {
        server.prepare(&format!("key-{number:03}"), "").await.unwrap();
    }
    let (blocks, infos) = server.list(&[]).await.unwrap();
    assert_eq!(blocks, [100, 100, 1]);
    let mut names = names(&infos);
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 201);
}

#[tokio::test]
async fn no_block_of_a_list_is_larger_than_clients_take() {
    let mut server = Server::start().await;
    // Three of them are more than the 16 MiB that containerd takes in one message.
    let text = "x".repeat(6 << 20);
    for key in ["a", "b", "c"] {
        server.prepare_labelled(key, "", &[("large", &text)]).await.unwrap();
    }
    let (_, infos) = server.list(&[]).await.unwrap();
    let names: Vec<_> = infos.iter().map(|info| info.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c"]);
}

#[tokio::test]
async fn a_list_holds_what_the_filters_pass() {
    let mut server = Server::start().await;
    server.committed("sha256:12", "").await;
    server.committed("sha256:34", "sha256:12").await;
    server.prepare("container", "sha256:34").await.unwrap();
    // The first one is what containerd asks after a remote snapshot was reported.
    let adopted = format!("labels.\"{EXTRACTION}\"==sha256:34,parent==\"sha256:12\"");
    for (filters, expected) in [
        (vec![adopted.as_str()], vec!["sha256:34"]),
        (vec!["kind==active"], vec!["container"]),
        (vec!["kind==committed,parent==\"\""], vec!["sha256:12"]),
        (vec!["name==container", "name~=/12$/"], vec!["container", "sha256:12"]),
        (vec!["kind==view"], vec![]),
        (vec![""], vec!["container", "sha256:12", "sha256:34"]),
    ] {
        let (_, infos) = server.list(&filters).await.unwrap();
        let mut found = names(&infos);
        found.sort_unstable();
        assert_eq!(found, expected, "{filters:?}");
    }
    let text = refusal(server.list(&["kind=active"]).await, Code::InvalidArgument);
    assert!(text.contains("kind=active"), "{text}");
}

#[tokio::test]
async fn usage_is_what_the_layer_takes() {
    let mut server = Server::start().await;
    server.committed("layer", "").await;
    let used = usage(&mut server, "layer").await.unwrap();
    assert!(used.size >= 8192 && used.inodes >= 1, "{used:?}");
    server.prepare("container", "layer").await.unwrap();
    usage(&mut server, "container").await.unwrap();
    refusal(usage(&mut server, "absent").await, Code::NotFound);
}

#[tokio::test]
async fn a_cleanup_is_answered() {
    let mut server = Server::start().await;
    server.prepare("key", "").await.unwrap();
    server.remove("key").await.unwrap();
    server.client.cleanup(CleanupRequest { snapshotter: PROFILE.to_owned() }).await.unwrap();
}
