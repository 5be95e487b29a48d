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
