//! Blobs of containerd's content store.

use std::collections::BTreeMap;
use std::io::{self, Read};

use nexuserofs_proto::containerd::services::content::v1::content_client::ContentClient;
use nexuserofs_proto::containerd::services::content::v1::{
    AbortRequest, InfoRequest, ReadContentRequest, ReadContentResponse, WriteAction, WriteContentRequest,
    WriteContentResponse,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::Bytes;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use super::{Error, Namespace};

/// Largest message, in bytes: containerd sends 1 MiB of data and its envelope.
const MAX_MESSAGE: usize = 16 << 20;
/// Bytes of a piece that is sent.
const PIECE: usize = 1 << 20;
/// Pieces on their way.
const DEPTH: usize = 2;

/// A blob that is being read.
#[derive(Debug)]
pub struct Blob {
    /// Its size in bytes.
    pub length: u64,
    namespace: Namespace,
    messages: Streaming<ReadContentResponse>,
    current: Bytes,
}

/// What a blob is called, and how it is found.
#[derive(Clone, Copy, Debug)]
pub struct NewBlob<'a> {
    /// Its digest, with its algorithm in front.
    pub digest: &'a str,
    /// Its size in bytes.
    pub length: u64,
    /// Labels, by which garbage collection knows what it refers to.
    pub labels: &'a BTreeMap<String, String>,
}

impl Namespace {
    /// Opens a blob, whose digest is the caller's to check; None if it is not there.
    ///
    /// # Errors
    /// [`Error::Call`] if containerd does not give it.
    pub fn blob(&self, digest: &str) -> Result<Option<Blob>, Error> {
        let digest = digest.to_owned();
        let mut client = self.content();
        let asked = client.info(self.request(InfoRequest { digest: digest.clone() })?);
        let info = match self.wait("tell of a blob", asked) {
            Err(Error::Call { status, .. }) if status.code() == Code::NotFound => return Ok(None),
            answer => answer?.info.unwrap_or_default(),
        };
        let asked = client.read(self.request(ReadContentRequest { digest, offset: 0, size: 0 })?);
        let messages = self.wait("give a blob", asked)?;
        let length = u64::try_from(info.size).unwrap_or(0);
        Ok(Some(Blob { length, namespace: self.clone(), messages, current: Bytes::new() }))
    }

    /// Puts a blob into the content store; what is there already is left as it is.
    ///
    /// # Errors
    /// [`Error::Call`] if containerd refuses; [`Error::Read`] if `from` cannot be read.
    pub fn add_blob(&self, blob: NewBlob<'_>, from: &mut dyn Read) -> Result<(), Error> {
        let (requests, receiver) = mpsc::channel(DEPTH);
        let reference = format!("nexuserofs-{}", blob.digest);
        let total = blob.length.cast_signed();
        let first = WriteContentRequest {
            action: WriteAction::Stat.into(),
            r#ref: reference.clone(),
            total,
            expected: blob.digest.to_owned(),
            ..WriteContentRequest::default()
        };
        // The channel has room for it, and the server answers nothing before it.
        let _ = requests.try_send(first);
        let mut client = self.content();
        let opened = self.wait("take a blob", client.write(self.request(ReceiverStream::new(receiver))?));
        let answers = match opened {
            Err(error) if is_there(&error) => return self.keep(blob.digest),
            opened => opened?,
        };
        let mut upload = Upload { namespace: self, requests, answers, offset: 0 };
        let done = upload.run(blob, from);
        if done.as_ref().is_err_and(is_there) {
            return self.keep(blob.digest);
        }
        if done.is_err() {
            // What was sent is of no use to anybody.
            let abort = self.request(AbortRequest { r#ref: reference })?;
            let _ = self.wait("give up a blob", client.abort(abort));
        }
        done
    }

    fn content(&self) -> ContentClient<Channel> {
        ContentClient::new(self.channel()).max_decoding_message_size(MAX_MESSAGE)
    }
}

/// Whether this says that there is such a blob already.
fn is_there(error: &Error) -> bool {
    matches!(error, Error::Call { status, .. } if status.code() == Code::AlreadyExists)
}

/// A blob on its way.
struct Upload<'n> {
    namespace: &'n Namespace,
    requests: mpsc::Sender<WriteContentRequest>,
    answers: Streaming<WriteContentResponse>,
    offset: i64,
}

impl Upload<'_> {
    fn run(&mut self, blob: NewBlob<'_>, from: &mut dyn Read) -> Result<(), Error> {
        // The answer to the first request.
        self.answer()?;
        let mut piece = vec![0; PIECE];
        loop {
            let read = from.read(&mut piece).map_err(Error::Read)?;
            let Some(data) = piece.get(..read).filter(|data| !data.is_empty()) else { break };
            let request = WriteContentRequest {
                action: WriteAction::Write.into(),
                offset: self.offset,
                data: Bytes::copy_from_slice(data),
                ..WriteContentRequest::default()
            };
            self.offset += data.len() as i64;
            self.ask(request)?;
        }
        let commit = WriteContentRequest {
            action: WriteAction::Commit.into(),
            offset: self.offset,
            total: blob.length.cast_signed(),
            expected: blob.digest.to_owned(),
            labels: blob.labels.clone(),
            ..WriteContentRequest::default()
        };
        self.ask(commit)
    }

    fn ask(&mut self, request: WriteContentRequest) -> Result<(), Error> {
        // If the server is gone, it says why in its answer.
        let _ = self.namespace.block_on(self.requests.send(request));
        self.answer()
    }

    fn answer(&mut self) -> Result<(), Error> {
        let answer = self.namespace.block_on(self.answers.message());
        let cut_off = || Status::unavailable("it closed the connection in the middle of a blob");
        let answer = answer.and_then(|answer| answer.ok_or_else(cut_off));
        answer.map(drop).map_err(|status| self.namespace.refused("take a blob", status))
    }
}

impl Read for Blob {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.namespace.block_on(self.messages.message()).map_err(io::Error::other)? {
                Some(message) => self.current = message.data,
                None => return Ok(0),
            }
        }
        let length = buffer.len().min(self.current.len());
        let part = self.current.split_to(length);
        buffer.get_mut(..length).unwrap_or_default().copy_from_slice(&part);
        Ok(length)
    }
}
