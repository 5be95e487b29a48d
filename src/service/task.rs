//! Where the domain's work runs: away from the threads that speak gRPC.
//!
//! A panic in the work ends that call alone. Left to itself it would end the connection, and with it every
//! other call that containerd has under way on it.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::{JoinError, JoinSet, block_in_place, spawn_blocking};
use tonic::Status;
use tracing::{Instrument, Span};

use super::status::Failure;

/// Runs work that touches the disk. It runs to its end even if the caller goes away.
///
/// It runs in the thread that it was asked for in, while another takes that one's place: to wake a thread for the work and
/// then the first one again took about a fourteenth of a Prepare.
///
/// # Errors
///
/// The error of the work, and `INTERNAL` if it panicked.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Status> {
    let span = Span::current();
    let work = AssertUnwindSafe(move || span.in_scope(work));
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::MultiThread => {
            let result = block_in_place(|| catch_unwind(work));
            Ok(result.map_err(|panic| broken(panic.as_ref()))??)
        }
        // Nobody could take the place of the only thread.
        _ => Ok(spawn_blocking(work.0).await.map_err(lost)??),
    }
}

/// Runs long work that stops when the caller goes away.
///
/// # Errors
///
/// The error of the work, and `INTERNAL` if it panicked.
pub(super) async fn cancellable<T: Send + 'static>(
    work: impl Future<Output = Result<T, Failure>> + Send + 'static,
) -> Result<T, Status> {
    // A set with one task: dropping it aborts the task.
    let mut tasks = JoinSet::new();
    tasks.spawn(work.instrument(Span::current()));
    match tasks.join_next().await {
        Some(result) => Ok(result.map_err(lost)??),
        None => Err(Status::internal("the work of this call was lost")),
    }
}

fn lost(error: JoinError) -> Status {
    match error.try_into_panic() {
        Ok(panic) => broken(panic.as_ref()),
        Err(_) => Status::unavailable("the daemon is shutting down; try again"),
    }
}

fn broken(panic: &(dyn Any + Send)) -> Status {
    let text = panic_text(panic);
    Status::internal(format!("a defect in the daemon stopped this call ({text}); its log says where"))
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("panic")
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use tonic::Code;

    use super::*;
    use crate::error::{Classify, Kind};

    #[derive(Debug, thiserror::Error)]
    #[error("gone")]
    struct Gone;

    impl Classify for Gone {
        fn kind(&self) -> Kind {
            Kind::NotFound
        }
    }

    #[tokio::test]
    async fn results_and_errors_come_back() {
        assert_eq!(blocking(|| Ok(7)).await.unwrap(), 7);
        assert_eq!(blocking(|| Err::<(), _>(Gone.into())).await.unwrap_err().code(), Code::NotFound);
        assert_eq!(cancellable(async { Ok(7) }).await.unwrap(), 7);
        assert_eq!(
            cancellable(async { Err::<(), _>(Gone.into()) }).await.unwrap_err().code(),
            Code::NotFound
        );
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn work_keeps_nobody_waiting_and_its_panic_becomes_internal() {
        let call = tokio::spawn(async {
            let (told, news) = std::sync::mpsc::channel();
            // The only worker has both to do.
            let other = tokio::spawn(async move { told.send(7).unwrap() });
            let answer = blocking(move || Ok(news.recv().unwrap())).await.unwrap();
            other.await.unwrap();
            answer
        });
        assert_eq!(call.await.unwrap(), 7);
        let status = blocking(|| -> Result<(), Failure> { panic!("broken {}", 1) }).await.unwrap_err();
        assert_eq!(status.code(), Code::Internal);
        assert!(status.message().contains("broken 1"), "{status}");
    }

    #[tokio::test]
    async fn a_panic_becomes_internal() {
        let status = blocking(|| -> Result<(), Failure> { panic!("broken {}", 1) }).await.unwrap_err();
        assert_eq!(status.code(), Code::Internal);
        assert!(status.message().contains("broken 1"), "{status}");
        let status = cancellable(async { panic!("broken") as Result<(), Failure> }).await.unwrap_err();
        assert_eq!(status.code(), Code::Internal);
    }

    #[tokio::test]
    async fn dropping_a_cancellable_call_drops_its_work() {
        let (alive, mut dropped) = tokio::sync::oneshot::channel::<Infallible>();
        let (started, running) = tokio::sync::oneshot::channel();
        let call = tokio::spawn(cancellable(async move {
            let _alive = alive;
            let _ = started.send(());
            std::future::pending::<Result<(), Failure>>().await
        }));
        running.await.unwrap();
        assert!(dropped.try_recv().is_err());
        call.abort();
        assert!(dropped.await.is_err(), "the sender is dropped with the work");
    }
}
