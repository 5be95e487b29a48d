//! Serving, and the way down: no new calls, the running ones finish, then the end.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::transport::Server;

use super::assemble::Assembled;
use super::error::Error;
use super::service_manager::{self, Heartbeat};
use super::signals::Signal;
use super::socket::Socket;

/// How long running calls may take to finish once the daemon was asked to end.
pub(super) const DRAIN: Duration = Duration::from_secs(10);

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

/// Answers calls until the first signal, then waits for the running ones, at most for `limit`.
/// The socket is removed at the very end.
pub(super) async fn serve(
    socket: Socket,
    Assembled { routes, probe, background }: Assembled,
    mut signals: mpsc::Receiver<Signal>,
    limit: Duration,
) -> Result<Ended, Error> {
    let Socket { listener, file: _file } = socket;
    let (stop, stopped) = oneshot::channel::<()>();
    let server = Server::builder().serve_with_incoming_shutdown(routes, accept(listener), async {
        // An error means that the sender is gone, which is a reason to stop as well.
        let _ = stopped.await;
    });
    let mut server = pin!(server);
    let _heartbeat = Heartbeat::start(probe);
    service_manager::ready();
    tracing::info!("serving");

    let signal = tokio::select! {
        result = &mut server => return Err(result.err().map_or(Error::SocketClosed, Error::Serve)),
        signal = next(&mut signals) => signal,
    };
    service_manager::stopping();
    tracing::info!(%signal, "stopping: finishing running calls");
    drop(stop);
    background.stop();
    drain(server, &mut signals, limit).await
}

async fn drain(
    server: impl Future<Output = Result<(), tonic::transport::Error>>,
    signals: &mut mpsc::Receiver<Signal>,
    limit: Duration,
) -> Result<Ended, Error> {
    tokio::select! {
        result = server => {
            result?;
            tracing::info!("stopped");
            Ok(Ended::Drained)
        }
        () = tokio::time::sleep(limit) => {
            tracing::warn!(seconds = limit.as_secs(), "stopped with calls still running");
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

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::path::Path;
    use std::pin::Pin;
    use std::sync::Arc;
    use std::task::{Context, Poll};

    use tokio::sync::Notify;
    use tokio::task::JoinHandle;
    use tonic::body::Body;
    use tonic::codegen::{Service, http};
    use tonic::server::NamedService;
    use tonic::service::Routes;
    use tonic::transport::{Channel, Endpoint};
    use tower::ServiceExt as _;

    use super::*;
    use crate::app::background::Background;
    use crate::app::service_manager::Probe;
    use crate::app::socket::listen;

    /// A service with one call, which runs until the gate is opened.
    #[derive(Clone, Default)]
    struct Gate {
        entered: Arc<Notify>,
        open: Arc<Notify>,
    }

    impl NamedService for Gate {
        const NAME: &'static str = "test.Gate";
    }

    impl Service<http::Request<Body>> for Gate {
        type Response = http::Response<Body>;
        type Error = Infallible;
        type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: http::Request<Body>) -> Self::Future {
            let gate = self.clone();
            Box::pin(async move {
                gate.entered.notify_one();
                gate.open.notified().await;
                Ok(http::Response::new(Body::empty()))
            })
        }
    }

    /// A served gate with one call in it.
    struct Served {
        gate: Gate,
        signals: mpsc::Sender<Signal>,
        server: JoinHandle<Result<Ended, Error>>,
        call: JoinHandle<Result<http::Response<Body>, tonic::transport::Error>>,
        /// Open and idle once the call is over, as containerd's is.
        _channel: Channel,
        directory: tempfile::TempDir,
    }

    impl Served {
        async fn start(limit: Duration) -> Self {
            Self::start_with(limit, |_| {}).await
        }

        /// `at_stop` is what ending the background does to the call.
        async fn start_with(limit: Duration, at_stop: impl FnOnce(&Gate) + Send + 'static) -> Self {
            let directory = tempfile::tempdir().expect("temporary directory");
            let address = directory.path().join("s.sock");
            let socket = listen(&address).await.expect("free");
            let gate = Gate::default();
            let (signals, received) = mpsc::channel(2);
            let waited_for = gate.clone();
            let background = Background::new(move || at_stop(&waited_for));
            let assembled =
                Assembled { routes: Routes::new(gate.clone()), probe: Probe::new(|| {}), background };
            let server = tokio::spawn(serve(socket, assembled, received, limit));
            let mut channel = connect(&address).await.expect("served");
            let request = http::Request::post("http://localhost/test.Gate/Pass").body(Body::empty());
            let request = request.expect("a request");
            let idle = channel.clone();
            let mut call = tokio::spawn(async move { channel.ready().await?.call(request).await });
            tokio::select! {
                () = gate.entered.notified() => {}
                early = &mut call => panic!("the call ended at once: {early:?}"),
            }
            Self { gate, signals, server, call, _channel: idle, directory }
        }

        async fn signal(&self, signal: Signal) {
            self.signals.send(signal).await.expect("somebody listens");
        }

        async fn ended(self) -> Ended {
            let ended = self.server.await.expect("no panic").expect("no error");
            assert!(!self.directory.path().join("s.sock").exists(), "the socket is gone");
            ended
        }
    }

    async fn connect(address: &Path) -> Result<Channel, tonic::transport::Error> {
        let address = address.to_owned();
        Endpoint::from_static("http://localhost")
            .connect_with_connector(tower::service_fn(move |_: http::Uri| {
                let address = address.clone();
                async move { UnixStream::connect(address).await.map(hyper_util::rt::TokioIo::new) }
            }))
            .await
    }

    #[tokio::test]
    async fn a_running_call_finishes_and_no_new_one_begins() {
        let mut served = Served::start(Duration::from_secs(600)).await;
        served.signal(Signal::Terminate).await;
        let address = served.directory.path().join("s.sock");
        while connect(&address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        assert!(!served.server.is_finished(), "the running call is waited for");
        served.gate.open.notify_one();
        let response = (&mut served.call).await.expect("no panic").expect("an answer");
        assert_eq!(response.status(), http::StatusCode::OK);
        assert_eq!(served.ended().await, Ended::Drained);
    }

    #[tokio::test]
    async fn a_call_that_does_not_finish_is_given_up() {
        let served = Served::start(Duration::from_millis(20)).await;
        served.signal(Signal::Terminate).await;
        assert_eq!(served.ended().await, Ended::TimedOut);
    }

    #[tokio::test]
    async fn a_call_that_waits_for_what_goes_on_behind_it_holds_nobody_up() {
        let served = Served::start_with(Duration::from_secs(600), |gate| gate.open.notify_one()).await;
        served.signal(Signal::Terminate).await;
        assert_eq!(served.ended().await, Ended::Drained);
    }

    #[tokio::test]
    async fn a_second_signal_ends_at_once() {
        let served = Served::start(Duration::from_secs(600)).await;
        served.signal(Signal::Terminate).await;
        served.signal(Signal::Interrupt).await;
        assert_eq!(served.ended().await, Ended::Interrupted(Signal::Interrupt));
    }
}
