//! The daemon as its operator and the service manager see it: the real program, started, refused,
//! signalled and ended.

#![allow(clippy::expect_used, reason = "a test that cannot go on says why")]

mod daemon;
mod end;
mod instance;
mod service_manager;
mod settings;
mod tool;
