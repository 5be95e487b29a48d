//! A process that serves: started, found again, ended.
//!
//! It is found by the lock that it holds. The kernel says which process that is, and forgets it with the process, so that
//! no number on a disk has to be believed; and from then on it is held by a descriptor, which never means another.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{
    Flock, FlockType, Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, fcntl_getlk, pidfd_open,
    pidfd_send_signal, waitid,
};

use super::{Error, Launch, Place, Wanted, hand_over};
use crate::store;

/// How long a process may take until it can serve.
const START: Duration = Duration::from_secs(30);

/// A process that serves.
#[derive(Clone, Debug)]
pub struct Running {
    descriptor: Arc<OwnedFd>,
    pid: Pid,
}

impl Running {
    /// The process that serves in this place, if there is one.
    ///
    /// # Errors
    /// If the lock cannot be looked at.
    pub fn find(place: &Place) -> Result<Option<Self>, Error> {
        let lock = match place.lock() {
            Err(error) if error.is_not_found() => return Ok(None),
            lock => lock?,
        };
        let holder = || {
            let holder = fcntl_getlk(&lock, &Flock::from(FlockType::WriteLock));
            holder
                .map(|held| held.and_then(|held| held.pid))
                .map_err(store::Error::io("look at", place.directory()))
        };
        let Some(pid) = holder()? else { return Ok(None) };
        let descriptor = match pidfd_open(pid, PidfdFlags::empty()) {
            Err(Errno::SRCH) => return Ok(None),
            opened => opened.map_err(store::Error::io("find the process of", place.directory()))?,
        };
        // It had the lock, and has it now that it is held fast: no other has its number.
        Ok((holder()? == Some(pid)).then(|| Self { descriptor: Arc::new(descriptor), pid }))
    }

    /// Starts a process for these disks.
    pub(super) fn start(place: &Place, wanted: &Wanted, launch: &Launch) -> Result<Self, Error> {
        let (specification, files) = wanted.open(place, launch.identity, launch.log)?;
        let (ours, theirs) = UnixStream::pair().map_err(Error::HandOver)?;
        ours.set_read_timeout(Some(START)).map_err(Error::HandOver)?;
        ours.set_write_timeout(Some(START)).map_err(Error::HandOver)?;
        let running = spawn(launch, theirs)?;
        let told = hand_over::send(&ours, &specification, &files).and_then(|()| hand_over::confirm(&ours));
        match told {
            Ok(()) => Ok(running),
            Err(error) => {
                running.end();
                Err(error)
            }
        }
    }

    /// Its number, for people.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Ends it at once, and waits until it has. What a guest wrote is in its file by then.
    pub(super) fn end(&self) {
        let ended = pidfd_send_signal(&self.descriptor, Signal::KILL);
        if let Err(error) = ended.or_else(|error| if error == Errno::SRCH { Ok(()) } else { Err(error) }) {
            tracing::warn!(pid = self.pid(), %error, "a process that serves disks cannot be ended");
            return;
        }
        let mut waited = [PollFd::new(&*self.descriptor, PollFlags::IN)];
        while poll(&mut waited, None) == Err(Errno::INTR) {}
        self.reap();
    }

    /// Forgets it, if it ended. The children of an earlier daemon are init's.
    pub(super) fn reap(&self) {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let _ = waitid(WaitId::PidFd(self.descriptor.as_fd()), options);
    }
}

impl AsFd for Running {
    /// Readable once it ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// A process of its own, with this as its standard input. It inherits standard error, which is the log.
fn spawn(launch: &Launch, input: UnixStream) -> Result<Running, Error> {
    let failed = |source: io::Error| Error::Program { program: launch.program.clone(), source };
    let mut child = Command::new(&launch.program)
        .args(["export", "--told"])
        .env_clear()
        .current_dir("/")
        .stdin(OwnedFd::from(input))
        .stdout(Stdio::null())
        .spawn()
        .map_err(failed)?;
    let pid = Pid::from_child(&child);
    // It is ours and not waited for, so its number is no other's.
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(descriptor) => Ok(Running { descriptor: Arc::new(descriptor), pid }),
        Err(error) => {
            // Nobody would wait for it. It has heard nothing yet, so nothing is lost with it.
            let _ = child.kill().and_then(|()| child.wait());
            Err(failed(error.into()))
        }
    }
}
