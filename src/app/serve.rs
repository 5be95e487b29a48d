//! Serving, and the way down: no new calls, the running ones finish, then the end.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::service::Routes;
use tonic::transport::Server;

use super::error::Error;
use super::instance::Instance;
use super::service_manager::{self, Heartbeat};
use super::signals::Signal;

/// How long running calls may take to finish once the daemon was asked to end.
const DRAIN: Duration = Duration::from_secs(10);

/// Pause after a connection could not be accepted. The usual cause is a lack of file
/// descriptors, and trying again at once would only burn the processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How the daemon came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Every running call had finished.
    Drained,
    /// Calls were still running when the time to drain was over.
    TimedOut,
    /// A second signal asked not to wait.
    Interrupted(Signal),
}

/// Answers calls until the first signal, then drains. The claim is given up at the very end.
pub(super) async fn serve(
    instance: Instance,
    routes: Routes,
    mut signals: mpsc::Receiver<Signal>,
) -> Result<Ended, Error> {
    let Instance { listener, claim: _claim } = instance;
    let (stop, stopped) = oneshot::channel::<()>();
    let server = Server::builder().serve_with_incoming_shutdown(routes, accept(listener), async {
        // An error means that the sender is gone, which is a reason to stop as well.
        let _ = stopped.await;
    });
    let mut server = pin!(server);
    let _heartbeat = Heartbeat::start();
    service_manager::ready();
    tracing::info!("serving");

    let signal = tokio::select! {
        result = &mut server => return Err(result.err().map_or(Error::SocketClosed, Error::Serve)),
        signal = next(&mut signals) => signal,
    };
    service_manager::stopping();
    tracing::info!(%signal, "stopping: finishing running calls");
    drop(stop);
    drain(server, &mut signals).await
}

async fn drain(
    server: impl Future<Output = Result<(), tonic::transport::Error>>,
    signals: &mut mpsc::Receiver<Signal>,
) -> Result<Ended, Error> {
    tokio::select! {
        result = server => {
            result?;
            tracing::info!("stopped");
            Ok(Ended::Drained)
        }
        () = tokio::time::sleep(DRAIN) => {
            tracing::warn!(seconds = DRAIN.as_secs(), "stopped with calls still running");
            Ok(Ended::TimedOut)
        }
        signal = next(signals) => {
            tracing::warn!(%signal, "stopped at once, calls may have been running");
            Ok(Ended::Interrupted(signal))
        }
    }
}

/// The next signal. Waits forever once no more can come.
async fn next(signals: &mut mpsc::Receiver<Signal>) -> Signal {
    match signals.recv().await {
        Some(signal) => signal,
        None => std::future::pending().await,
    }
}

fn accept(listener: UnixListener) -> impl Stream<Item = io::Result<UnixStream>> {
    UnixListenerStream::new(listener).then(|accepted| async {
        if let Err(error) = &accepted {
            tracing::error!(%error, "cannot accept a connection; check the limit of open files");
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
        accepted
    })
}
