//! A client that does what clients do, in random order, and knows after each step what must exist.
//!
//! It works on one node in two namespaces, in each with another of our snapshotters. Everything goes through containerd, whose garbage collection
//! decides when our daemon is told to remove something; the daemon is asked as well, at its own socket.
//! Steps are chosen by a seed. What the scheduler decides is not repeated by it: which of two calls comes
//! first, and what a kill interrupts.
//!
//! * [`model`]: what must exist;
//! * [`library`]: the layers that are unpacked;
//! * `steps`: what the client does; `writing`: what containers do to their snapshots;
//! * `crash`: what it does around a kill;
//! * `check`: what must hold after each step;
//! * `layers`: where the daemon keeps layers.

mod check;
mod crash;
mod layers;
pub mod library;
pub mod model;
mod steps;
mod writing;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use self::model::{Model, Namespace};
use self::steps::Step;
use crate::bed::Bed;
use crate::client::Client;
use crate::images::tiny::TinyLayer;
use crate::node::connection::Connection;
use crate::node::{Daemon, DaemonOptions, HOST_SNAPSHOTTER, Node, NodeOptions, SNAPSHOTTER};
use crate::random::Random;

/// The snapshotter of what is in a namespace.
const fn snapshotter(namespace: Namespace) -> &'static str {
    match namespace {
        Namespace::One => SNAPSHOTTER,
        Namespace::Two => HOST_SNAPSHOTTER,
    }
}

/// A randomised client and the node that it works on.
#[derive(Debug)]
pub struct Soak {
    node: Node,
    /// Asks containerd, in each namespace, without a lease.
    clients: BTreeMap<Namespace, Client>,
    /// Asks the daemon, about each snapshotter.
    below: Vec<Client>,
    random: Random,
    library: Vec<TinyLayer>,
    model: Model,
    /// The lease that keeps what is in a namespace.
    leases: BTreeMap<Namespace, String>,
    /// Numbers keys and leases.
    last_number: u64,
    /// Layer files that fsck.erofs saw.
    checked: Vec<PathBuf>,
}

impl Soak {
    /// Starts a node and makes the layers.
    ///
    /// # Errors
    /// Something does not come up.
    pub fn start(bed: &Bed, name: &str, options: DaemonOptions, seed: u64) -> Result<Self> {
        let options = NodeOptions { daemon: Some(options), ..NodeOptions::default() };
        let node = Node::start(&bed.place, name, &options)?;
        let mut random = Random::new(seed);
        let library = library::layers(&mut random)?;
        let clients = Namespace::ALL.map(|namespace| {
            let connection = node.containerd.connect(namespace.name())?;
            Ok((namespace, Client::new(Arc::new(connection), snapshotter(namespace))))
        });
        let socket = node.daemon.as_ref().context("no daemon")?.socket();
        let below = Client::new(Arc::new(Connection::open(socket, Namespace::One.name())?), "");
        let mut soak = Self {
            clients: clients.into_iter().collect::<Result<_>>()?,
            below: Namespace::ALL.map(|namespace| below.of(snapshotter(namespace))).into(),
            node,
            random,
            library,
            model: Model::default(),
            leases: BTreeMap::new(),
            last_number: 0,
            checked: Vec::new(),
        };
        for namespace in Namespace::ALL {
            soak.open_lease(namespace)?;
        }
        Ok(soak)
    }

    /// Takes random steps for so long, checks after each, and takes everything down again.
    ///
    /// # Errors
    /// A call was answered in another way than it must be, or something does not hold after a step.
    pub fn run(mut self, how_long: Duration) -> Result<()> {
        let begun = Instant::now();
        let mut taken: BTreeMap<Step, u32> = BTreeMap::new();
        let mut number = 0;
        while begun.elapsed() < how_long {
            let step = Step::any(&mut self.random);
            number += 1;
            self.take(step)
                .and_then(|()| self.check())
                .with_context(|| format!("step {number}, {step:?}, with {} snapshots", self.model.len()))?;
            *taken.entry(step).or_default() += 1;
        }
        println!("{number} steps: {taken:?}; {} layer files checked", self.checked.len());
        self.finish()
    }

    /// Removes everything: nothing may be left.
    fn finish(mut self) -> Result<()> {
        for namespace in Namespace::ALL {
            self.close_lease(namespace)?;
        }
        self.collect()?;
        self.check()?;
        self.check_empty()
    }

    /// A client under the namespace's lease.
    fn client(&self, namespace: Namespace) -> Result<Client> {
        let (client, lease) = (self.clients.get(&namespace), self.leases.get(&namespace));
        Ok(client.context("no client")?.under(lease.context("no lease")?))
    }

    /// Makes a lease for a namespace, with the content of all layers.
    fn open_lease(&mut self, namespace: Namespace) -> Result<()> {
        let lease = self.unused("lease");
        self.clients.get(&namespace).context("no client")?.create_lease(&lease)?;
        self.leases.insert(namespace, lease);
        let client = self.client(namespace)?;
        self.library.iter().try_for_each(|tiny| Ok(client.write(&tiny.layer, tiny.blob.clone())?))
    }

    /// Deletes the lease of a namespace, and with it whatever is in the namespace.
    fn close_lease(&mut self, namespace: Namespace) -> Result<()> {
        let lease = self.leases.remove(&namespace).context("no lease")?;
        self.clients.get(&namespace).context("no client")?.delete_lease(&lease)?;
        self.model.discard_all(namespace);
        Ok(())
    }

    fn daemon(&mut self) -> Result<&mut Daemon> {
        self.node.daemon()
    }

    /// A key that was not used before.
    fn unused(&mut self, prefix: &str) -> String {
        self.last_number += 1;
        format!("{prefix}-{}", self.last_number)
    }

    fn any_namespace(&mut self) -> Namespace {
        if self.random.one_in(2) { Namespace::One } else { Namespace::Two }
    }

    /// A committed snapshot of a namespace; sometimes, and where there is none, the empty name.
    fn any_parent(&mut self, namespace: Namespace) -> String {
        if self.random.one_in(5) {
            return String::new();
        }
        let committed = self.model.committed(namespace);
        self.random.pick(&committed).cloned().unwrap_or_default()
    }

    fn any_layer(&mut self) -> Result<TinyLayer> {
        self.random.pick(&self.library).cloned().context("the library is empty")
    }
}
