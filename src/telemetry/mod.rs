//! Logs: `tracing` to standard error, as text or JSON, and panics among them.

#[cfg(test)]
mod kept;
mod log;
mod panic;

pub use log::{LogAlreadySet, start};
pub use panic::log_panics;
