//! A blob into containerd's content store, piece by piece as it is made.
//!
//! The protocol is one answer for each request, in turn (`plugins/services/content/contentserver` in
//! containerd): what was written is known to be there before the next piece goes.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use nexuserofs_proto::containerd::services::content::v1::{
    AbortRequest, Info, InfoRequest, UpdateRequest, WriteAction, WriteContentRequest, WriteContentResponse,
};
use prost_types::FieldMask;
use rustix::rand::{GetRandomFlags, getrandom};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::Bytes;
use tonic::{Code, Status, Streaming};

use super::error::Error;
use super::lease;
use crate::diff::content::{Caller, ContentStore};
use crate::diff::pass::Measured;

/// An upload with all its bytes. Dropped before it is committed, it is given up.
pub(super) struct Upload<'c> {
    content: &'c ContentStore,
    caller: &'c Caller,
    // Dropped before the ingest is given up, which then has no writer any more.
    session: Session,
    ingest: Ingest,
}

/// The stream of requests and answers.
struct Session {
    requests: mpsc::Sender<WriteContentRequest>,
    answers: Streaming<WriteContentResponse>,
    /// Bytes that were sent.
    offset: i64,
}

/// An upload that containerd keeps until it is committed or given up.
struct Ingest {
    content: ContentStore,
    caller: Caller,
    reference: String,
    is_open: bool,
}

/// Uploads `pieces` until they end. `reference` names the upload; whatever an earlier one of this name
/// left is replaced. Empty, it stands for a name that no one else has.
pub(super) async fn write<'c>(
    content: &'c ContentStore,
    caller: &'c Caller,
    reference: &str,
    mut pieces: mpsc::Receiver<Bytes>,
) -> Result<Upload<'c>, Error> {
    let reference = if reference.is_empty() { unique_reference() } else { reference.to_owned() };
    let (session, ingest) = open(content, caller, reference).await?;
    let mut upload = Upload { content, caller, session, ingest };
    while let Some(data) = pieces.recv().await {
        upload.write(data).await?;
    }
    Ok(upload)
}

impl Upload<'_> {
    async fn write(&mut self, data: Bytes) -> Result<(), Error> {
        let sent = self.session.offset + data.len() as i64;
        // At offset 0, what an earlier upload of this name left is cut off.
        let request = WriteContentRequest {
            action: WriteAction::Write.into(),
            offset: self.session.offset,
            data,
            ..WriteContentRequest::default()
        };
        let answer = self.session.ask(request).await;
        let found = answer.map_err(|status| self.refused("write to the content store", &status))?.offset;
        if found != sent {
            return Err(Error::Offset { sent: sent.cast_unsigned(), found });
        }
        self.session.offset = sent;
        Ok(())
    }

    /// Turns the upload into a blob with these labels. If there is one already, it gets the labels.
    pub(super) async fn commit(
        mut self,
        blob: &Measured,
        labels: BTreeMap<String, String>,
    ) -> Result<(), Error> {
        let request = WriteContentRequest {
            action: WriteAction::Commit.into(),
            offset: self.session.offset,
            total: self.session.offset,
            expected: blob.digest.to_string(),
            labels: labels.clone(),
            ..WriteContentRequest::default()
        };
        match self.session.ask(request).await {
            Ok(_) => {}
            Err(status) if status.code() == Code::AlreadyExists => self.adopt(blob, labels).await?,
            Err(status) => return Err(self.refused("commit to the content store", &status)),
        }
        self.ingest.is_open = false;
        Ok(())
    }

    /// Makes a blob that was there before as if it had just been uploaded.
    async fn adopt(&self, blob: &Measured, mut labels: BTreeMap<String, String>) -> Result<(), Error> {
        lease::keep(self.content, self.caller, &blob.digest).await?;
        let digest = blob.digest.to_string();
        let request = self.caller.request(InfoRequest { digest: digest.clone() })?;
        let known = self.content.content().info(request).await;
        let known = known.map_err(|status| self.refused("look at the blob", &status))?.into_inner().info;
        let known = known.unwrap_or_default().labels;
        labels.retain(|key, value| known.get(key) != Some(value));
        if labels.is_empty() {
            return Ok(());
        }
        let paths = labels.keys().map(|key| format!("labels.{key}")).collect();
        let info = Some(Info { digest, labels, ..Info::default() });
        let request = self.caller.request(UpdateRequest { info, update_mask: Some(FieldMask { paths }) })?;
        let updated = self.content.content().update(request).await;
        updated.map(drop).map_err(|status| self.refused("label the blob", &status))
    }

    fn refused(&self, operation: &'static str, status: &Status) -> Error {
        self.content.refused(operation, self.caller, status).into()
    }
}

/// Opens an upload, and finds out whether nobody else has one of this name under way.
async fn open(
    content: &ContentStore,
    caller: &Caller,
    reference: String,
) -> Result<(Session, Ingest), Error> {
    let failed = |status: &Status| content.refused("open an upload in the content store", caller, status);
    let (requests, receiver) = mpsc::channel(1);
    let stat = WriteContentRequest {
        action: WriteAction::Stat.into(),
        r#ref: reference.clone(),
        ..WriteContentRequest::default()
    };
    // The server answers nothing, not even that it listens, before it has the first request.
    let sent = requests.try_send(stat);
    sent.map_err(|_| failed(&Status::internal("the channel is closed")))?;
    let request = caller.request(ReceiverStream::new(receiver))?;
    let answers = content.content().write(request).await.map_err(|status| failed(&status))?.into_inner();
    let mut session = Session { requests, answers, offset: 0 };
    session.answer().await.map_err(|status| failed(&status))?;
    let ingest = Ingest { content: content.clone(), caller: caller.clone(), reference, is_open: true };
    Ok((session, ingest))
}

impl Session {
    async fn ask(&mut self, request: WriteContentRequest) -> Result<WriteContentResponse, Status> {
        if self.requests.send(request).await.is_err() {
            // The reason is what the server said last.
            return Err(self.answer().await.err().unwrap_or_else(cut_off));
        }
        self.answer().await
    }

    async fn answer(&mut self) -> Result<WriteContentResponse, Status> {
        self.answers.message().await?.ok_or_else(cut_off)
    }
}

fn cut_off() -> Status {
    Status::unavailable("the connection was closed in the middle of an upload")
}

impl Drop for Ingest {
    fn drop(&mut self) {
        if !self.is_open {
            return;
        }
        let (content, reference) = (self.content.clone(), std::mem::take(&mut self.reference));
        let request = self.caller.request(AbortRequest { r#ref: reference.clone() });
        let (Ok(request), Ok(runtime)) = (request, tokio::runtime::Handle::try_current()) else { return };
        runtime.spawn(async move {
            if let Err(status) = content.content().abort(request).await {
                tracing::warn!(%status, reference, "an upload that was given up stays until containerd collects it");
            }
        });
    }
}

/// A name that no other upload has: the time, for whoever looks at a list, and chance.
fn unique_reference() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut chance = [0; 8];
    // Should the kernel have none, the time alone is nearly as unique.
    let _ = getrandom(&mut chance, GetRandomFlags::empty());
    format!("nexuserofs-diff-{}-{:016x}", now.as_nanos(), u64::from_ne_bytes(chance))
}
