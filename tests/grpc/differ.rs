//! Apply and Diff.

use nexuserofs::image::digest::Digest;
use nexuserofs_proto::containerd::services::diff::v1::{ApplyRequest, ApplyResponse, DiffRequest};
use nexuserofs_proto::containerd::types::{Descriptor, Mount};
use tonic::{Code, Response, Status};

use crate::server::{EXTRACTION, Server, refusal};

fn layer() -> Descriptor {
    Descriptor {
        media_type: "application/vnd.oci.image.layer.v1.tar+gzip".to_owned(),
        digest: Digest::of(b"layer").to_string(),
        size: 5,
        ..Descriptor::default()
    }
}

async fn apply(
    server: &mut Server,
    diff: Option<Descriptor>,
    mounts: Vec<Mount>,
) -> Result<Response<ApplyResponse>, Status> {
    server.differ.apply(ApplyRequest { diff, mounts, ..ApplyRequest::default() }).await
}

#[tokio::test]
async fn what_is_not_ours_is_left_to_the_next_differ() {
    let mut server = Server::start().await;
    let foreign = Mount {
        r#type: "bind".to_owned(),
        source: "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/1/fs".to_owned(),
        ..Mount::default()
    };
    refusal(apply(&mut server, Some(layer()), vec![foreign.clone()]).await, Code::Unimplemented);
    refusal(apply(&mut server, Some(layer()), vec![]).await, Code::Unimplemented);
    // What else is wrong is for the differ of that snapshotter to say.
    let other_digest = Descriptor { digest: format!("sha512:{}", "0".repeat(128)), ..layer() };
    let negative = Descriptor { size: -1, ..layer() };
    for diff in [Some(other_digest), Some(negative), None] {
        refusal(apply(&mut server, diff, vec![foreign.clone()]).await, Code::Unimplemented);
    }
}

#[tokio::test]
async fn a_layer_that_no_client_describes_is_refused() {
    let mut server = Server::start().await;
    let mounts = server.prepare_labelled("extract-1 layer", "", &[(EXTRACTION, "layer")]).await.unwrap();
    refusal(apply(&mut server, None, mounts.clone()).await, Code::InvalidArgument);
    let negative = Descriptor { size: -1, ..layer() };
    refusal(apply(&mut server, Some(negative), mounts.clone()).await, Code::InvalidArgument);
    let other_digest = Descriptor { digest: format!("sha512:{}", "0".repeat(128)), ..layer() };
    let text = refusal(apply(&mut server, Some(other_digest), mounts).await, Code::InvalidArgument);
    assert!(text.contains("SHA-256") && text.contains("sha512:"), "{text}");
}

#[tokio::test]
async fn a_layer_that_containerd_does_not_give_is_unavailable_and_the_snapshot_stays() {
    let mut server = Server::start().await;
    let mounts = server.prepare_labelled("extract-1 layer", "", &[(EXTRACTION, "layer")]).await.unwrap();
    let text = refusal(apply(&mut server, Some(layer()), mounts).await, Code::Unavailable);
    assert!(text.contains(server.containerd.to_str().unwrap()), "{text}");
    server.stat("extract-1 layer").await.unwrap();
}

#[tokio::test]
async fn snapshots_of_others_are_left_to_the_next_differ_to_compare() {
    let mut server = Server::start().await;
    let text = refusal(server.differ.diff(DiffRequest::default()).await, Code::Unimplemented);
    assert!(text.contains("right"), "{text}");
}

#[tokio::test]
async fn a_comparison_that_containerd_takes_nothing_of_is_unavailable() {
    let mut server = Server::start().await;
    let right = server.prepare("container", "").await.unwrap();
    let request = DiffRequest { right, ..DiffRequest::default() };
    let text = refusal(server.differ.diff(request).await, Code::Unavailable);
    assert!(text.contains(server.containerd.to_str().unwrap()), "{text}");
}
