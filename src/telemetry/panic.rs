//! Panics, as lines of the log.

use std::backtrace::Backtrace;
use std::panic::PanicHookInfo;

/// Writes every later panic to the log instead of plain text to standard error.
///
/// The panicking task still unwinds: one broken request must not end the others.
pub fn log_panics() {
    std::panic::set_hook(Box::new(log_panic));
}

fn log_panic(info: &PanicHookInfo<'_>) {
    let message = info.payload_as_str().unwrap_or("a value that is no text");
    let location = info.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current();
    tracing::error!(
        location,
        thread = thread.name().unwrap_or_default(),
        backtrace = %Backtrace::capture(),
        "panic: {message}; this is a bug, please report it with these lines"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LogLevel;
    use crate::telemetry::kept::Kept;
    use crate::telemetry::log::text;

    #[test]
    fn a_panic_is_logged_and_unwinds() {
        let kept = Kept::default();
        let writer = kept.clone();
        let hook = std::panic::take_hook();
        log_panics();
        let caught =
            tracing::subscriber::with_default(text(LogLevel::Error, false, move || writer.clone()), || {
                std::panic::catch_unwind(|| panic!("cannot {}", "count"))
            });
        std::panic::set_hook(hook);
        assert!(caught.is_err());
        let log = kept.text();
        assert!(log.contains("ERROR") && log.contains("panic: cannot count"), "{log}");
        assert!(log.contains("src/telemetry/panic.rs:"), "{log}");
    }
}
