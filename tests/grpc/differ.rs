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
    let other_digest = Descriptor { digest: format!("sha512:{}", "0".repeat(128)), ..layer() };
    let text = refusal(apply(&mut server, Some(other_digest), vec![foreign]).await, Code::Unimplemented);
    assert!(text.contains("SHA-256") && text.contains("sha512:"), "{text}");
}

#[tokio::test]
async fn a_request_without_a_layer_is_refused() {
    let mut server = Server::start().await;
    refusal(apply(&mut server, None, vec![]).await, Code::InvalidArgument);
    let negative = Descriptor { size: -1, ..layer() };
    refusal(apply(&mut server, Some(negative), vec![]).await, Code::InvalidArgument);
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
async fn snapshots_are_not_compared() {
    let mut server = Server::start().await;
    let text = refusal(server.differ.diff(DiffRequest::default()).await, Code::Unimplemented);
    assert!(text.contains("walking"), "{text}");
}
