//! The life of the daemon: from settings to a served socket, and down again.
//!
//! [`run`] is the whole of it, in order: signals, the claim on root (`directory`) and address
//! (`socket`), the services (`assemble`), serving and draining (`serve`). Each step undoes
//! itself when it is dropped, so a failure in the middle leaves no socket behind.

mod assemble;
mod background;
mod damage;
mod directory;
mod error;
mod holder;
mod lock;
mod serve;
mod service_manager;
mod signals;
mod socket;

pub use error::Error;
pub use holder::Holder;
pub use serve::Ended;
pub use signals::Signal;

use crate::config::Settings;

/// Runs the daemon until a signal ends it. Once in a process.
///
/// # Errors
/// When another daemon has the root or the socket, and when the operating system refuses
/// something that the daemon cannot do without.
pub async fn run(settings: Settings) -> Result<Ended, Error> {
    let signals = signals::install()?;
    // Threads of a call that was given up may still write when this function returns, so only the
    // end of the process frees the root.
    directory::claim_root(settings.root.as_path())?.keep();
    let socket = socket::listen(&settings.address).await?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        root = %settings.root,
        address = %settings.address.display(),
        profiles = %profile_names(&settings),
        "starting"
    );
    let assembled = assemble::assemble(&settings)?;
    serve::serve(socket, assembled, signals, serve::DRAIN).await
}

fn profile_names(settings: &Settings) -> String {
    settings.profiles.keys().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}
