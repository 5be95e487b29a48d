//! The daemon as its operator and the service manager see it: the real program, started, refused,
//! signalled and ended.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that cannot go on says why")]

mod daemon;
mod end;
mod instance;
mod service_manager;
mod settings;
#[path = "../helpers/skipped.rs"]
mod skipped;
mod tool;
#[path = "../helpers/unmounting.rs"]
mod unmounting;
