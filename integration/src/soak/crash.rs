//! The daemon's ends, and what is known after a kill in the middle of work.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use nexuserofs_proto::containerd::services::snapshots::v1::Kind;
use tonic::Code;

use super::Soak;
use super::model::Namespace;
use super::steps::extract;
use crate::client::{Client, Labels};
use crate::harness::eventually;
use crate::images::Layer;

/// The daemon is killed within this time of the beginning of work.
const BUSY: Duration = Duration::from_millis(300);

/// An unpacking during which the daemon may have been killed.
#[derive(Debug)]
struct Attempt {
    namespace: Namespace,
    key: String,
    name: String,
    parent: String,
    layer: Layer,
}

impl Soak {
    pub(super) fn restart(&mut self) -> Result<()> {
        let daemon = self.daemon()?;
        let status = daemon.stop()?;
        ensure!(status.success(), "the daemon ended with {status} on SIGTERM");
        daemon.restart()?;
        self.wait_until_connected()
    }

    pub(super) fn kill(&mut self) -> Result<()> {
        let daemon = self.daemon()?;
        daemon.kill()?;
        daemon.restart()?;
        self.wait_until_connected()
    }

    /// Kills the daemon while it unpacks in both namespaces.
    pub(super) fn kill_busy(&mut self) -> Result<()> {
        let moment = BUSY.mul_f64(self.random.fraction());
        let mut planned = Vec::new();
        for namespace in Namespace::ALL {
            planned.push((self.client(namespace)?, self.attempts(namespace)?));
        }
        let killed = AtomicBool::new(false);
        thread::scope(|scope| {
            let threads: Vec<_> = planned
                .iter()
                .map(|(client, attempts)| {
                    let killed = &killed;
                    scope.spawn(move || attempt_until(killed, client, attempts))
                })
                .collect();
            thread::sleep(moment);
            self.node.daemon()?.kill()?;
            killed.store(true, Ordering::SeqCst);
            threads
                .into_iter()
                .try_for_each(|thread| thread.join().map_err(|_| anyhow!("an unpacking thread panicked")))
        })?;
        self.daemon()?.restart()?;
        self.wait_until_connected()?;
        let attempts: Vec<Attempt> = planned.into_iter().flat_map(|(_, attempts)| attempts).collect();
        attempts.iter().try_for_each(|attempt| self.settle(attempt).with_context(|| format!("{attempt:?}")))
    }

    /// More unpackings than can be done before the kill.
    fn attempts(&mut self, namespace: Namespace) -> Result<Vec<Attempt>> {
        let attempts = (0..50).map(|_| {
            let (key, name) = (self.unused("extract"), self.unused("image"));
            let parent = self.any_parent(namespace);
            Ok(Attempt { namespace, key, name, parent, layer: self.any_layer()?.layer })
        });
        attempts.collect()
    }

    /// Finds out what became of an attempt. What was not committed is removed, whatever is left of it.
    fn settle(&mut self, attempt: &Attempt) -> Result<()> {
        let client = self.client(attempt.namespace)?;
        match client.stat(&attempt.name) {
            Ok(info) => {
                ensure!(info.kind() == Kind::Committed, "its name is that of something uncommitted");
                self.put_committed(attempt.namespace, &attempt.name, &attempt.parent, &attempt.layer);
            }
            // A commit that was done, but not answered, is known to the daemon alone.
            Err(status) if status.code() == Code::NotFound => {
                self.model.discard(attempt.namespace, &attempt.name);
            }
            Err(status) => return Err(status.into()),
        }
        match client.remove(&attempt.key) {
            Err(status) if status.code() != Code::NotFound => return Err(status.into()),
            _ => self.model.discard(attempt.namespace, &attempt.key),
        }
        Ok(())
    }

    /// Waits until containerd has dialled the daemon again, for which it takes up to three seconds.
    fn wait_until_connected(&mut self) -> Result<()> {
        let client = self.client(Namespace::One)?;
        let probe = self.unused("probe");
        eventually(|| Ok(client.prepare(&probe, "", &Labels::new()).err().map(|status| status.to_string())))?;
        client.remove(&probe)?;
        self.model.discard(Namespace::One, &probe);
        Ok(())
    }
}

/// Unpacks until the daemon is gone. How a call ends then is not to be known.
fn attempt_until(killed: &AtomicBool, client: &Client, attempts: &[Attempt]) {
    for Attempt { key, name, parent, layer, .. } in attempts {
        if killed.load(Ordering::SeqCst) || extract(client, layer, key, name, parent).is_err() {
            return;
        }
    }
}
