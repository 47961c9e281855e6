//! What every service of the suite does the same way: settings, logging, identity, listening, TLS,
//! health, reflection, and ending well. It knows no contract.
//!
//! A service is an [`App`]: a name, a default address, and a function that makes its [`Services`] from
//! its own settings. Its whole `main` is [`main`]; tests drive [`App::parse`] and [`Server`] instead.
//!
//! A connection lives in `connection`, and a request in `call`. What can happen to a call besides being
//! answered is in `guard`; the order in which a process ends is in `lifecycle` and `server`.

use std::ffi::OsString;

mod access_log;
mod admin;
mod admission;
mod auth;
mod body;
mod call;
mod call_limit;
mod compression;
mod config;
mod connection;
mod deadline;
mod dependency;
mod descriptors;
mod encoded;
mod followed;
mod guard;
pub mod health;
mod healthcheck;
mod http2;
mod identity;
mod incoming;
mod lifecycle;
mod limits;
mod log_line;
mod log_queue;
mod metrics;
mod net;
mod process;
mod producer;
mod protocol;
mod server;
mod services;
mod splitter;
mod status;
mod stream;
mod telemetry;
mod throttle;
mod tls;
mod turns;
mod watched;
mod workers;

pub use body::RequestBody;
pub use config::{Config, Invocation, LogFormat};
pub use dependency::Dependency;
pub use encoded::{Encoded, EncodedBuilder};
pub use healthcheck::Probe;
pub use limits::{Limits, nonzero_period};
pub use pem;
pub use process::main;
pub use producer::produced;
pub use server::Server;
pub use services::Services;
pub use status::{invalid_argument, unavailable};
pub use telemetry::{Logging, start_logging};
pub use tonic::codec::CompressionEncoding as Encoding;

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
        config::parse(config::command(self), arguments, lookup)
    }

    /// Binds a server with these settings. It answers once it runs.
    pub async fn bind(&self, config: &Config, settings: S) -> Result<Server, Error> {
        let services = self.services;
        let services = server::in_background(move || services(settings)).await?;
        Server::bind(self.name, config, services).await
    }
}
