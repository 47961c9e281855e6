//! What every service of the suite does the same way: settings, logging, identity, listening, TLS,
//! health, reflection, and ending well. It knows no contract.
//!
//! A service is an [`App`]: a name, a default address, and a function that makes its [`Services`] from
//! its own settings. Its whole `main` is [`main`]; tests drive [`App::parse`] and [`Server`] instead.
//!
//! A connection lives in `connection`, and a request in `call`. What can happen to a call besides being
//! answered is in `guard`; the order in which a process ends is in `lifecycle` and `server`.

use std::ffi::OsString;

mod call;
mod connection;
mod process;
mod server;
mod services;
mod settings;
mod state;
mod telemetry;
mod wire;

pub use pem;
pub use process::main;
pub use process::probe::Probe;
pub use server::Server;
pub use services::encoded::{Encoded, EncodedBuilder};
pub use services::producer::produced;
pub use services::request_body::RequestBody;
pub use services::{Services, health};
pub use settings::config::{Config, Invocation, LogFormat};
pub use settings::limits::{Limits, nonzero_period};
pub use state::dependency::Dependency;
pub use telemetry::logging::{Logging, start_logging};
pub use tonic::codec::CompressionEncoding as Encoding;
pub use wire::status::{invalid_argument, unavailable};

/// Anything that stops a start. Its text is one line and names the setting or the file at fault.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// The version of the suite.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// One server binary. `S` is what the service has for settings of its own.
#[derive(Debug, Clone, Copy)]
pub struct App<S> {
    /// The name of the binary.
    pub name: &'static str,
    /// What it is, in one sentence.
    pub about: &'static str,
    /// Where it listens unless told otherwise.
    pub listen: &'static str,
    /// Makes what it serves.
    pub services: fn(S) -> Result<Services, Error>,
}

impl<S: clap::Args + Send + 'static> App<S> {
    /// Reads a command line without the program's name, with `lookup` for the environment.
    pub fn parse(
        &self,
        arguments: impl IntoIterator<Item = impl Into<OsString>>,
        lookup: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Invocation<S>, clap::Error> {
        settings::config::parse(settings::config::command(self), arguments, lookup)
    }

    /// Binds a server with these settings. It answers once it runs.
    pub async fn bind(&self, config: &Config, settings: S) -> Result<Server, Error> {
        let services = self.services;
        let services = server::in_background(move || services(settings)).await?;
        Server::bind(self.name, config, services).await
    }
}
