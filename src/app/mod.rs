//! The life of the daemon: from settings to a served socket, and down again.
//!
//! [`run`] is the whole of it, in order: signals, the claim on root and address ([`instance`]),
//! the services ([`assemble`]), serving and draining ([`serve`]). Each step undoes itself when it
//! is dropped, so a failure in the middle leaves no socket behind.

mod assemble;
mod error;
mod holder;
mod instance;
mod lock;
mod pending;
mod serve;
mod service_manager;
mod signals;
mod socket;

pub use error::Error;
pub use holder::Holder;
pub use serve::Ended;
pub use signals::Signal;

use crate::config::Settings;

/// Runs the daemon until a signal ends it.
///
/// # Errors
/// When another daemon has the root or the socket, and when the operating system refuses
/// something that the daemon cannot do without.
pub async fn run(settings: Settings) -> Result<Ended, Error> {
    let signals = signals::install()?;
    let instance = instance::Instance::claim(&settings.root, &settings.address)?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        root = %settings.root.display(),
        address = %settings.address.display(),
        profiles = %profile_names(&settings),
        "starting"
    );
    pending::report(&settings);
    let routes = assemble::assemble(&settings)?;
    serve::serve(instance, routes, signals).await
}

fn profile_names(settings: &Settings) -> String {
    settings.profiles.keys().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}
