//! One monitor after the other.

use std::fs::File;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use vhost::vhost_user::Listener;
use vhost_user_backend::VhostUserDaemon;

use super::Stop;
use super::backend::{Backend, MOST_QUEUES};
use super::presence::Presence;
use crate::expose::vhost_user::device::Device;
use crate::expose::vhost_user::{Counters, Disk, Error, Serial};

/// A disk that monitors can connect to, one at a time.
#[derive(Debug)]
pub struct Export {
    device: Arc<Device>,
    queues: u16,
    presence: Option<Presence>,
}

impl Export {
    /// An export of `disk` with that many queues, each of which has a thread while a monitor is connected.
    ///
    /// # Errors
    /// If it has none, or more than [`MOST_QUEUES`].
    pub fn new(disk: Disk, serial: Serial, queues: u16) -> Result<Self, Error> {
        if queues == 0 || queues > MOST_QUEUES {
            return Err(Error::Queues { queues, most: MOST_QUEUES });
        }
        Ok(Self { device: Arc::new(Device::new(disk, serial)), queues, presence: None })
    }

    /// The same, which tells others by a lock for reading on `file` that a monitor is connected. Nobody connects while
    /// another has a lock for writing on it.
    #[must_use]
    pub fn with_presence(self, file: File) -> Self {
        Self { presence: Some(Presence::new(file)), ..self }
    }

    /// What it did up to now, for any thread to look at.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.device.counters)
    }

    /// Serves one monitor after the other that connects to `listener`, until `stop` is requested. The next one waits
    /// in the socket meanwhile.
    ///
    /// # Errors
    /// If waiting for a connection fails, or no thread can be started for one. What a monitor does wrong ends its
    /// connection and no more.
    pub fn serve(&self, listener: UnixListener, stop: &Stop) -> Result<(), Error> {
        let blocking = listener.set_nonblocking(false);
        blocking.map_err(Error::socket("prepare the socket of an export"))?;
        let accepting = listener.try_clone().map_err(Error::socket("prepare the socket of an export"))?;
        let mut accepting = Listener::from(accepting);
        while wait_for_connection(&listener, stop)? {
            self.serve_one(&mut accepting, stop)?;
        }
        Ok(())
    }

    fn serve_one(&self, listener: &mut Listener, stop: &Stop) -> Result<(), Error> {
        // Before the connection is accepted, and until the last thread has ended that serves it.
        let present = self.presence.as_ref().map(Presence::begin).transpose();
        let _present = present.map_err(Error::socket("say that a monitor is connected"))?;
        let backend = Arc::new(Backend::new(Arc::clone(&self.device), self.queues)?);
        let memory = backend.memory();
        let name = format!("vhost-{}", self.device.serial);
        let daemon = VhostUserDaemon::new(name, Arc::clone(&backend), memory);
        let mut daemon = daemon.map_err(|error| Error::Start { reason: error.to_string() })?;
        daemon.start(listener).map_err(|error| Error::Start { reason: error.to_string() })?;
        self.device.counters.connections.fetch_add(1, Ordering::Relaxed);
        if let Some(connection) = daemon.shutdown_handle() {
            stop.begin(connection);
        }
        let ended = daemon.wait();
        stop.end();
        self.device.counters.disconnections.fetch_add(1, Ordering::Relaxed);
        backend.close();
        if let Err(error) = ended {
            let serial = &self.device.serial;
            tracing::debug!(%serial, %error, "a monitor's connection ended");
        }
        Ok(())
    }
}

/// Whether somebody connects before the end is requested.
fn wait_for_connection(listener: &UnixListener, stop: &Stop) -> Result<bool, Error> {
    loop {
        let mut waited =
            [PollFd::new(listener, PollFlags::IN), PollFd::from_borrowed_fd(stop.event(), PollFlags::IN)];
        match poll(&mut waited, None) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(error) => return Err(Error::socket("wait for a monitor")(error)),
        }
        let [connection, end] = waited;
        if !end.revents().is_empty() {
            return Ok(false);
        }
        if !connection.revents().is_empty() {
            return Ok(true);
        }
    }
}
