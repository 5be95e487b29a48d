//! One layer, unpacked through containerd's services, timed: Prepare, Apply, Commit and nothing else.
//!
//! The content is in containerd's store before. The calls and labels are those of containerd's own unpacker
//! (2.3, `core/unpack/unpacker.go`), the same for every snapshotter; which differ takes a layer is decided by
//! containerd's diff service. A lease keeps what is unpacked, so that deleting it removes everything at once.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nexuserofs_proto::containerd::services::diff::v1::ApplyRequest;
use nexuserofs_proto::containerd::services::diff::v1::diff_client::DiffClient;
use nexuserofs_proto::containerd::services::leases::v1::leases_client::LeasesClient;
use nexuserofs_proto::containerd::services::leases::v1::{CreateRequest, DeleteRequest};
use nexuserofs_proto::containerd::services::snapshots::v1::snapshots_client::SnapshotsClient;
use nexuserofs_proto::containerd::services::snapshots::v1::{CommitSnapshotRequest, PrepareSnapshotRequest};
use nexuserofs_proto::containerd::types::{Descriptor, Mount};
use tokio::task::JoinSet;
use tonic::Request;

use crate::images::Layer;
use crate::node::connection::{Caller, Connection};

/// What happens to a peer's file before its snapshot is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// What the differ does by itself.
    AsIs,
    /// The file is synced to disk. containerd's own erofs differ never does that.
    Synced,
}

/// Unpacks layers through one containerd.
#[derive(Debug)]
pub struct Unpacker {
    connection: Connection,
    /// Numbers keys and leases.
    next: AtomicU64,
}

impl Unpacker {
    /// An unpacker that calls over this connection.
    #[must_use]
    pub fn new(connection: Connection) -> Self {
        Self { connection, next: AtomicU64::new(0) }
    }

    /// Unpacks layers, all at the same time, each into a chain of its own, and tells what that took.
    /// `processes` are those whose CPU time counts. What was made is removed again before this returns.
    ///
    /// # Errors
    /// A call fails, or a layer's content has another digest than the image says.
    pub fn time(
        &self,
        snapshotter: &str,
        layers: &[Layer],
        durability: Durability,
        processes: &[u32],
    ) -> Result<Cost> {
        let caller = self.connection.caller();
        let mut leases = LeasesClient::new(caller.channel.clone());
        self.connection.wait_for(async {
            let lease = format!("unpack-{}", self.number());
            let request = CreateRequest { id: lease.clone(), labels: BTreeMap::new() };
            leases.create(caller.request(request, None)?).await?;
            let work = layers.iter().map(|layer| One {
                caller: caller.clone(),
                lease: lease.clone(),
                snapshotter: snapshotter.to_owned(),
                key: format!("extract-{} {}", self.number(), layer.diff_id),
                layer: layer.clone(),
                durability,
            });
            let cost = cost_of(together(work.collect()), processes).await;
            leases.delete(caller.request(DeleteRequest { id: lease, sync: true }, None)?).await?;
            cost
        })
    }

    fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }
}

async fn together(work: Vec<One>) -> Result<()> {
    let mut unpacking = JoinSet::new();
    for one in work {
        unpacking.spawn(one.unpack());
    }
    while let Some(ended) = unpacking.join_next().await {
        ended.context("an unpacking task panicked")??;
    }
    Ok(())
}

/// What an unpacking took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// From the first call to the last answer.
    pub wall: Duration,
    /// CPU time of the processes, in seconds.
    pub cpu_seconds: f64,
}

async fn cost_of(work: impl Future<Output = Result<()>>, processes: &[u32]) -> Result<Cost> {
    let (begun, before) = (Instant::now(), cpu_seconds(processes)?);
    work.await?;
    Ok(Cost { wall: begun.elapsed(), cpu_seconds: cpu_seconds(processes)? - before })
}

/// The unpacking of one layer.
struct One {
    caller: Caller,
    lease: String,
    snapshotter: String,
    key: String,
    layer: Layer,
    durability: Durability,
}

impl One {
    async fn unpack(self) -> Result<()> {
        let mounts = self.prepare().await.with_context(|| format!("Prepare {}", self.key))?;
        let file = layer_file(&mounts);
        self.apply(mounts).await.with_context(|| format!("Apply {}", self.layer.blob.digest))?;
        if self.durability == Durability::Synced {
            sync(file).await?;
        }
        self.commit().await.with_context(|| format!("Commit {}", self.key))
    }

    async fn prepare(&self) -> Result<Vec<Mount>> {
        let request = PrepareSnapshotRequest {
            snapshotter: self.snapshotter.clone(),
            key: self.key.clone(),
            parent: String::new(),
            labels: self.labels(),
        };
        let answer =
            SnapshotsClient::new(self.caller.channel.clone()).prepare(self.request(request)?).await?;
        Ok(answer.into_inner().mounts)
    }

    async fn apply(&self, mounts: Vec<Mount>) -> Result<()> {
        let blob = &self.layer.blob;
        let diff = Descriptor {
            media_type: blob.media_type.clone(),
            digest: blob.digest.clone(),
            size: i64::try_from(blob.size)?,
            annotations: BTreeMap::new(),
        };
        let request = ApplyRequest { diff: Some(diff), mounts, payloads: BTreeMap::new(), sync_fs: false };
        let answer = DiffClient::new(self.caller.channel.clone()).apply(self.request(request)?).await?;
        let applied = answer.into_inner().applied.context("the answer has no descriptor")?;
        ensure!(
            applied.digest == self.layer.diff_id,
            "the diffID is {}, not {}",
            applied.digest,
            self.layer.diff_id
        );
        Ok(())
    }

    async fn commit(&self) -> Result<()> {
        let request = CommitSnapshotRequest {
            snapshotter: self.snapshotter.clone(),
            // The chain of a single layer is named after it.
            name: self.layer.diff_id.clone(),
            key: self.key.clone(),
            labels: self.labels(),
            parent: String::new(),
        };
        SnapshotsClient::new(self.caller.channel.clone()).commit(self.request(request)?).await?;
        Ok(())
    }

    fn labels(&self) -> BTreeMap<String, String> {
        ["containerd.io/snapshot.ref", "containerd.io/snapshot/diff-id"]
            .map(|label| (label.to_owned(), self.layer.diff_id.clone()))
            .into()
    }

    fn request<T>(&self, message: T) -> Result<Request<T>> {
        self.caller.request(message, Some(&self.lease))
    }
}

/// Where containerd's erofs snapshotter keeps the file of a layer that is unpacked into these mounts: beside
/// the directory that it hands out.
fn layer_file(mounts: &[Mount]) -> Option<PathBuf> {
    Some(Path::new(&mounts.first()?.source).parent()?.join("layer.erofs"))
}

async fn sync(file: Option<PathBuf>) -> Result<()> {
    let file = file.context("the mounts name no directory")?;
    tokio::task::spawn_blocking(move || {
        File::open(&file).and_then(|file| file.sync_all()).with_context(|| format!("sync {}", file.display()))
    })
    .await?
}

/// Seconds of CPU that processes and their ended children have used, from `/proc/PID/stat`.
///
/// # Errors
/// One of them runs no more.
pub fn cpu_seconds(pids: &[u32]) -> Result<f64> {
    let ticks_per_second = rustix::param::clock_ticks_per_second();
    let mut ticks = 0;
    for pid in pids {
        let path = format!("/proc/{pid}/stat");
        let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        // The name, in parentheses, may hold anything; utime, stime, cutime and cstime are fields 14 to 17.
        let (_, fields) = text.rsplit_once(") ").with_context(|| format!("unexpected content of {path}"))?;
        for field in fields.split(' ').skip(11).take(4) {
            ticks += field.parse::<u64>().with_context(|| format!("unexpected content of {path}"))?;
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "counts of hundredths of seconds are small")]
    Ok(ticks as f64 / ticks_per_second as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_of_children_counts() {
        let own = [std::process::id()];
        let before = cpu_seconds(&own).unwrap();
        crate::command::Run::new("sh")
            .args(["-c", "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done"])
            .run()
            .unwrap();
        assert!(cpu_seconds(&own).unwrap() > before);
    }
}
