//! What the environment asks of a test program.

use std::env;
use std::str::FromStr;
use std::time::SystemTime;

use anyhow::{Context, Result};

/// The number in a variable, if it is set.
///
/// # Errors
/// It holds something else.
pub fn number<T: FromStr>(variable: &str) -> Result<Option<T>> {
    let Some(text) = env::var_os(variable) else { return Ok(None) };
    let text = text.to_string_lossy();
    Ok(Some(text.parse().ok().with_context(|| format!("{variable}={text} is not a number"))?))
}

/// The seed of this run: `NEXUSEROFS_SEED`, or one from the clock.
///
/// # Errors
/// The variable holds something else than a number.
pub fn seed() -> Result<u64> {
    let clock = || Ok(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_micros() as u64);
    number("NEXUSEROFS_SEED")?.map_or_else(clock, Ok)
}
