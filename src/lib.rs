//! An external containerd snapshotter and differ that keeps container image layers as EROFS files.
//!
//! # Floors
//!
//! Each room uses only the rooms below it; `tests/floors/` fails on an import that runs upward.
//!
//! ```text
//! bin → cli → app → service → snapshot, diff → layer, store, expose, trust, client → image
//! config, error, telemetry: usable above image
//! sys: the only unsafe code, used by layer, expose and snapshot
//! ```
//!
//! `docs/architecture.md` says what each room is for and how a pull runs through them.

pub mod app;
pub mod cli;
pub mod client;
pub mod config;
pub mod diff;
pub mod error;
pub mod expose;
pub mod image;
pub mod layer;
pub mod service;
#[cfg(test)]
#[path = "../tests/helpers/skipped.rs"]
mod skipped;
pub mod snapshot;
pub mod store;
pub mod sys;
pub mod telemetry;
pub mod trust;
#[cfg(test)]
#[path = "../tests/helpers/unmounting.rs"]
mod unmounting;
