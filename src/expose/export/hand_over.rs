//! How a process is told what to serve: over a socket, which is its standard input.
//!
//! ```text
//! daemon                                process
//! length (u32, little-endian), JSON  →
//! a byte and up to 250 files, …      →
//!                                    ←  length, JSON: nothing, or why it cannot serve
//! a byte: go on                      →
//! ```
//!
//! The process serves once it is told to go on, and ends if the daemon ends before: so there is none that nobody knows.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Error;
use super::specification::{Files, Specification, VERSION, invalid};

/// Files in one message. The kernel takes 253 (`SCM_MAX_FD`).
const FILES_AT_ONCE: usize = 250;

/// Longest JSON in bytes: that of 128 layers with long paths is a hundredth of it.
const LONGEST: u32 = 16 << 20;

/// Most files: a disk of 128 layers and its metadata, a block, and what the process needs besides, twice.
const MOST_FILES: usize = 512;

/// The byte that goes with files, and the one that says to go on.
const MARK: u8 = 1;

/// Tells a process what to serve.
pub(super) fn send(socket: &UnixStream, specification: &Specification, files: &Files) -> Result<(), Error> {
    send_json(socket, specification).map_err(Error::HandOver)?;
    let files: Vec<BorrowedFd<'_>> = files.remaining().into_iter().map(AsFd::as_fd).collect();
    files.chunks(FILES_AT_ONCE).try_for_each(|chunk| send_files(socket, chunk)).map_err(Error::HandOver)
}

/// What this process is to serve.
pub(super) fn receive(socket: &UnixStream) -> Result<(Specification, Files), Error> {
    let specification: Specification = receive_json(socket)?;
    if specification.version != VERSION || specification.files > MOST_FILES {
        let Specification { version, files, .. } = specification;
        return Err(invalid(&format_args!(
            "version {version} with {files} files, here is version {VERSION}"
        )));
    }
    let mut files = Vec::new();
    while files.len() < specification.files {
        receive_files(socket, &mut files).map_err(Error::HandOver)?;
    }
    Ok((specification, Files::of(files)))
}

/// Says whether this process can serve, and waits until it is told to.
pub(super) fn answer(mut socket: &UnixStream, outcome: &Result<(), String>) -> Result<(), Error> {
    send_json(socket, outcome).map_err(Error::HandOver)?;
    let mut mark = [0];
    socket.read_exact(&mut mark).map_err(Error::HandOver)
}

/// Waits until the process can serve, and tells it to.
pub(super) fn confirm(mut socket: &UnixStream) -> Result<(), Error> {
    let outcome: Result<(), String> = receive_json(socket)?;
    outcome.map_err(|reason| Error::Refused { reason })?;
    socket.write_all(&[MARK]).map_err(Error::HandOver)
}

fn send_json(mut socket: &UnixStream, value: &impl Serialize) -> io::Result<()> {
    let text = serde_json::to_vec(value)?;
    let length = u32::try_from(text.len()).map_err(io::Error::other)?;
    socket.write_all(&length.to_le_bytes())?;
    socket.write_all(&text)
}

fn receive_json<T: DeserializeOwned>(mut socket: &UnixStream) -> Result<T, Error> {
    let mut length = [0; 4];
    socket.read_exact(&mut length).map_err(Error::HandOver)?;
    let length = u32::from_le_bytes(length);
    if length > LONGEST {
        return Err(invalid(&format_args!("it has {length} bytes")));
    }
    let mut text = vec![0; length as usize];
    socket.read_exact(&mut text).map_err(Error::HandOver)?;
    serde_json::from_slice(&text).map_err(|error| invalid(&error))
}

fn send_files(socket: &UnixStream, files: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES_AT_ONCE))];
    let mut buffer = SendAncillaryBuffer::new(&mut space);
    if !buffer.push(SendAncillaryMessage::ScmRights(files)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    sendmsg(socket, &[IoSlice::new(&[MARK])], &mut buffer, SendFlags::NOSIGNAL)?;
    Ok(())
}

fn receive_files(socket: &UnixStream, files: &mut Vec<OwnedFd>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES_AT_ONCE))];
    let mut buffer = RecvAncillaryBuffer::new(&mut space);
    let mut mark = [0];
    let received = recvmsg(socket, &mut [IoSliceMut::new(&mut mark)], &mut buffer, RecvFlags::CMSG_CLOEXEC)?;
    let before = files.len();
    for message in buffer.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            files.extend(descriptors);
        }
    }
    match received.bytes > 0 && files.len() > before {
        true => Ok(()),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    use super::*;
    use crate::config::{LogFormat, LogLevel, LogSettings};
    use crate::expose::export::specification::{Identity, Slot};

    fn specification(files: usize) -> Specification {
        Specification {
            version: VERSION,
            files,
            lock: Slot(0),
            tally: Slot(files - 1),
            identity: Identity::NOBODY,
            log: LogSettings { level: LogLevel::Info, format: LogFormat::Text },
            disks: Vec::new(),
        }
    }

    #[test]
    fn many_files_arrive_in_their_order() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let mut files = Files::default();
        for number in 0..300_u16 {
            let path = directory.path().join(number.to_string());
            std::fs::write(&path, number.to_le_bytes()).unwrap();
            files.add(File::open(path).unwrap());
        }
        let sent = specification(300);
        std::thread::scope(|scope| {
            scope.spawn(|| send(&ours, &sent, &files).unwrap());
            let (received, mut files) = receive(&theirs).unwrap();
            assert_eq!((received.lock, received.tally), (sent.lock, sent.tally));
            for number in 0..300_u16 {
                let file = File::from(files.take(Slot(number.into())).unwrap());
                let mut bytes = [0; 2];
                file.read_exact_at(&mut bytes, 0).unwrap();
                assert_eq!(u16::from_le_bytes(bytes), number);
            }
        });
    }

    #[test]
    fn a_process_goes_on_only_if_it_is_told_to() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        std::thread::scope(|scope| {
            let answered = scope.spawn(|| answer(&theirs, &Ok(())));
            confirm(&ours).unwrap();
            answered.join().unwrap().unwrap();
            let answered = scope.spawn(|| answer(&theirs, &Err("no memory".to_owned())));
            let error = confirm(&ours).unwrap_err();
            assert!(error.to_string().contains("no memory"), "{error}");
            drop(ours);
            answered.join().unwrap().unwrap_err();
        });
    }

    #[test]
    fn another_version_is_refused() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        send_json(&ours, &Specification { version: VERSION + 1, ..specification(1) }).unwrap();
        assert!(matches!(receive(&theirs), Err(Error::Specification { .. })));
    }
}
