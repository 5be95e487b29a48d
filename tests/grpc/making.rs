//! Prepare, View, Mounts, Commit, Remove.

use nexuserofs_proto::containerd::services::snapshots::v1::{
    Kind, MountsRequest, PrepareSnapshotRequest, ViewSnapshotRequest,
};
use nexuserofs_proto::containerd::types::Mount;
use tonic::{Code, Status};

use crate::server::{EXTRACTION, PROFILE, Server, labels, refusal};

async fn view(server: &mut Server, key: &str, parent: &str) -> Result<Vec<Mount>, Status> {
    let request = ViewSnapshotRequest {
        snapshotter: PROFILE.to_owned(),
        key: key.to_owned(),
        parent: parent.to_owned(),
        labels: labels(&[]),
    };
    Ok(server.client.view(request).await?.into_inner().mounts)
}

async fn mounts(server: &mut Server, key: &str) -> Result<Vec<Mount>, Status> {
    let request = MountsRequest { snapshotter: PROFILE.to_owned(), key: key.to_owned() };
    Ok(server.client.mounts(request).await?.into_inner().mounts)
}

#[tokio::test]
async fn an_image_is_unpacked_and_used() {
    let mut server = Server::start().await;
    server.committed("lower", "").await;
    server.committed("upper", "lower").await;
    let upper = server.stat("upper").await.unwrap();
    assert_eq!((upper.kind(), upper.parent.as_str()), (Kind::Committed, "lower"));

    let plan = server.prepare("container", "upper").await.unwrap();
    assert_eq!(plan.iter().filter(|mount| mount.r#type == "erofs").count(), 2, "{plan:?}");
    assert_eq!(mounts(&mut server, "container").await.unwrap(), plan);
    assert!(!view(&mut server, "view", "upper").await.unwrap().is_empty());

    refusal(server.remove("upper").await, Code::FailedPrecondition);
    for key in ["container", "view", "upper", "lower"] {
        server.remove(key).await.unwrap();
    }
    assert_eq!(server.list(&[]).await.unwrap().1, []);
}

#[tokio::test]
async fn snapshots_without_parent_are_made() {
    let mut server = Server::start().await;
    assert!(!server.prepare("active", "").await.unwrap().is_empty());
    assert!(!view(&mut server, "view", "").await.unwrap().is_empty());
    assert_eq!(server.stat("active").await.unwrap().kind(), Kind::Active);
    assert_eq!(server.stat("view").await.unwrap().kind(), Kind::View);
}

#[tokio::test]
async fn a_new_snapshot_needs_a_free_key_and_a_committed_parent() {
    let mut server = Server::start().await;
    server.prepare("active", "").await.unwrap();
    for (key, parent, code) in [
        ("active", "", Code::AlreadyExists),
        ("new", "absent", Code::NotFound),
        ("new", "active", Code::InvalidArgument),
        ("", "", Code::InvalidArgument),
    ] {
        refusal(server.prepare(key, parent).await, code);
        refusal(view(&mut server, key, parent).await, code);
    }
}

#[tokio::test]
async fn an_unknown_snapshotter_is_refused_by_name() {
    let mut server = Server::start().await;
    let request = PrepareSnapshotRequest {
        snapshotter: "elsewhere".to_owned(),
        key: "key".to_owned(),
        ..PrepareSnapshotRequest::default()
    };
    let text = refusal(server.client.prepare(request).await, Code::InvalidArgument);
    assert!(text.contains("elsewhere") && text.contains(PROFILE), "{text}");
}

#[tokio::test]
async fn mounts_are_of_views_and_active_snapshots_only() {
    let mut server = Server::start().await;
    server.committed("layer", "").await;
    refusal(mounts(&mut server, "absent").await, Code::NotFound);
    refusal(mounts(&mut server, "layer").await, Code::FailedPrecondition);
}

#[tokio::test]
async fn a_commit_needs_an_active_snapshot_and_a_free_name() {
    let mut server = Server::start().await;
    server.committed("layer", "").await;
    view(&mut server, "view", "layer").await.unwrap();
    server.extract("extract-2 other", "", "other").await;
    for (key, name, code) in [
        ("absent", "new", Code::NotFound),
        ("view", "new", Code::FailedPrecondition),
        ("layer", "new", Code::FailedPrecondition),
        ("extract-2 other", "layer", Code::AlreadyExists),
        ("extract-2 other", "", Code::InvalidArgument),
    ] {
        refusal(server.commit(key, name, "").await, code);
    }
    server.commit("extract-2 other", "other", "").await.unwrap();
}

#[tokio::test]
async fn a_commit_of_what_was_written_makes_a_parent() {
    let mut server = Server::start().await;
    let plan = server.prepare("active", "").await.unwrap();
    let upper = plan.last().unwrap().options.iter().find_map(|option| option.strip_prefix("upperdir="));
    std::fs::write(format!("{}/file", upper.unwrap()), "written").unwrap();
    server.commit("active", "new", "").await.unwrap();
    assert_eq!(server.stat("new").await.unwrap().kind(), Kind::Committed);
    let plan = view(&mut server, "view", "new").await.unwrap();
    assert_eq!((plan.len(), plan[0].r#type.as_str()), (1, "erofs"));
    let image = std::fs::read(&plan[0].source).unwrap();
    assert!(image.windows(7).any(|bytes| bytes == b"written"));
}

#[tokio::test]
async fn layers_that_were_extracted_in_parallel_get_their_parent_at_commit() {
    let mut server = Server::start().await;
    server.extract("extract-1 lower", "", "lower").await;
    server.extract("extract-2 upper", "", "upper").await;
    refusal(server.commit("extract-2 upper", "upper", "lower").await, Code::NotFound);
    refusal(server.commit("extract-2 upper", "upper", "extract-1 lower").await, Code::FailedPrecondition);
    server.commit("extract-1 lower", "lower", "").await.unwrap();
    server.commit("extract-2 upper", "upper", "lower").await.unwrap();
    assert_eq!(server.stat("upper").await.unwrap().parent, "lower");

    server.extract("extract-3 top", "upper", "top").await;
    refusal(server.commit("extract-3 top", "top", "lower").await, Code::InvalidArgument);
    server.commit("extract-3 top", "top", "upper").await.unwrap();
}

#[tokio::test]
async fn a_commit_replaces_the_labels() {
    let mut server = Server::start().await;
    let mounts = server.prepare_labelled("key", "", &[(EXTRACTION, "name"), ("own", "1")]).await.unwrap();
    server.attach_layer(mounts, "name");
    server.commit("key", "name", "").await.unwrap();
    assert_eq!(server.stat("name").await.unwrap().labels, labels(&[(EXTRACTION, "name")]));
    refusal(server.stat("key").await, Code::NotFound);
}

#[tokio::test]
async fn a_removal_needs_a_snapshot_without_children() {
    let mut server = Server::start().await;
    server.committed("layer", "").await;
    server.prepare("container", "layer").await.unwrap();
    refusal(server.remove("absent").await, Code::NotFound);
    // containerd's test suite looks for this word.
    let text = refusal(server.remove("layer").await, Code::FailedPrecondition);
    assert!(text.contains("remove"), "{text}");
    server.remove("container").await.unwrap();
    server.remove("layer").await.unwrap();
    refusal(server.remove("layer").await, Code::NotFound);
}

#[tokio::test]
async fn messages_may_be_as_large_as_containerds() {
    let mut server = Server::start().await;
    let value = "x".repeat(15 << 20);
    server.prepare_labelled("key", "", &[("large", &value)]).await.unwrap();
}
