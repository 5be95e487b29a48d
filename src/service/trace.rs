//! One span for each call, and one line in the log at its end.

use std::future::Future;
use std::time::Instant;

use tonic::{Code, Status};
use tracing::{Instrument, Span};

use super::scope::Scope;

/// Whether a call changes anything. containerd asks all the time; what it asks is for debugging only.
#[derive(Clone, Copy, Debug)]
pub(super) enum Effect {
    Query,
    Change,
}

/// What the log tells of a request.
pub(super) trait Traced {
    /// Name of the method.
    const METHOD: &'static str;
    /// What the method does.
    const EFFECT: Effect;

    /// Name of the snapshotter, if the request has one.
    fn snapshotter(&self) -> Option<&str>;

    /// What the request is about: key or name of a snapshot, digest of a layer.
    fn key(&self) -> Option<&str>;
}

/// What stands for the namespace of a call that names none. No namespace of containerd has this form.
const NO_NAMESPACE: &str = "(none)";

/// The span of a call.
pub(super) fn span<R: Traced>(scope: &Scope, request: &R) -> Span {
    tracing::info_span!(
        "rpc",
        method = R::METHOD,
        namespace = scope.namespace.as_deref().unwrap_or(NO_NAMESPACE),
        lease = scope.lease,
        snapshotter = request.snapshotter(),
        key = request.key(),
    )
}

/// Runs `work` in `span` and logs how it ended, also if the caller goes away before.
pub(super) async fn observe<T>(
    span: Span,
    effect: Effect,
    work: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    let mut call = Call { span: span.clone(), effect, start: Instant::now(), outcome: None };
    let result = work.instrument(span).await;
    call.outcome = Some(match &result {
        Ok(_) => Outcome { code: Code::Ok, message: None },
        Err(status) => Outcome { code: status.code(), message: Some(status.message().to_owned()) },
    });
    result
}

struct Outcome {
    code: Code,
    message: Option<String>,
}

/// A call in progress. Its end is logged when it is dropped, which is the one thing that always happens.
struct Call {
    span: Span,
    effect: Effect,
    start: Instant,
    /// `None` until the work is done.
    outcome: Option<Outcome>,
}

impl Drop for Call {
    fn drop(&mut self) {
        let _entered = self.span.enter();
        // Whole microseconds, so that the log shows three decimals and not fifteen.
        let duration_ms = self.start.elapsed().as_micros() as f64 / 1e3;
        let Some(Outcome { code, message }) = self.outcome.take() else {
            tracing::info!(duration_ms, "call given up by the caller");
            return;
        };
        let error = message.as_deref();
        match (is_fault(code), self.effect) {
            (true, _) => tracing::error!(?code, duration_ms, error, "call failed"),
            (false, Effect::Change) => tracing::info!(?code, duration_ms, error, "call answered"),
            (false, Effect::Query) => tracing::debug!(?code, duration_ms, error, "call answered"),
        }
    }
}

/// Whether an operator has to look into it; the other codes are answers that the protocol provides for.
const fn is_fault(code: Code) -> bool {
    matches!(
        code,
        Code::Internal
            | Code::Unknown
            | Code::DataLoss
            | Code::ResourceExhausted
            | Code::PermissionDenied
            | Code::Unavailable
    )
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use tracing::subscriber;

    use super::*;

    struct Request {
        key: Option<&'static str>,
    }

    impl Traced for Request {
        const METHOD: &'static str = "Prepare";
        const EFFECT: Effect = Effect::Change;

        fn snapshotter(&self) -> Option<&str> {
            Some("nexuserofs")
        }

        fn key(&self) -> Option<&str> {
            self.key
        }
    }

    /// What was logged.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Log {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Catches what this thread logs from the level info on.
    fn catch_log() -> (Log, subscriber::DefaultGuard) {
        let log = Log::default();
        let writer = log.clone();
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        (log, subscriber::set_default(subscriber))
    }

    fn test_span(key: Option<&'static str>) -> Span {
        span(&Scope { namespace: Some("k8s.io".to_owned()), lease: None }, &Request { key })
    }

    #[tokio::test]
    async fn an_answer_is_logged_with_what_it_was_about() {
        let (log, _guard) = catch_log();
        observe(test_span(Some("a b")), Effect::Change, async { Ok(()) }).await.unwrap();
        let text = log.text();
        for part in [
            "INFO",
            "method=\"Prepare\"",
            "namespace=\"k8s.io\"",
            "snapshotter=\"nexuserofs\"",
            "key=\"a b\"",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(text.contains("code=Ok duration_ms="), "{text}");
        assert!(!text.contains("lease"), "{text}");
    }

    #[tokio::test]
    async fn a_call_without_a_namespace_is_not_given_one() {
        let (log, _guard) = catch_log();
        let span = span(&Scope { namespace: None, lease: None }, &Request { key: Some("a") });
        observe(span, Effect::Change, async { Ok(()) }).await.unwrap();
        assert!(log.text().contains("namespace=\"(none)\""), "{}", log.text());
    }

    #[tokio::test]
    async fn questions_are_logged_for_debugging_only() {
        let (log, _guard) = catch_log();
        let absent: Result<(), _> =
            observe(test_span(None), Effect::Query, async { Err(Status::not_found("x")) }).await;
        assert!(absent.is_err());
        assert_eq!(log.text(), "");
    }

    #[tokio::test]
    async fn faults_are_errors_in_the_log() {
        let (log, _guard) = catch_log();
        let failed: Result<(), _> =
            observe(test_span(None), Effect::Query, async { Err(Status::internal("broken")) }).await;
        assert!(failed.is_err());
        let text = log.text();
        assert!(
            text.contains("ERROR") && text.contains("broken") && text.contains("code=Internal"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn a_caller_that_goes_away_is_logged() {
        let (log, _guard) = catch_log();
        let call = observe(test_span(Some("a")), Effect::Change, std::future::pending::<Result<(), _>>());
        assert!(tokio::time::timeout(std::time::Duration::ZERO, call).await.is_err());
        assert!(log.text().contains("call given up by the caller"), "{}", log.text());
    }
}
