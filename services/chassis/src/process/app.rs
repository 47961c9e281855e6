//! A server binary: its name, its settings, and its services.

use std::ffi::OsString;

use futures_util::future::BoxFuture;

use crate::{
    process::command_line::{self, Invocation},
    server::Server,
    services::{Services, runtime::Runtime},
    settings::{Error, config::Config},
};

/// A server binary. `S` is the type of the service's own settings.
#[derive(Debug, Clone, Copy)]
pub struct App<S> {
    /// The name of the binary.
    pub name: &'static str,
    /// A description in one sentence.
    pub about: &'static str,
    /// The default port, on every address.
    pub listen_port: u16,
    /// Builds the services: `|settings, runtime| Box::pin(build(settings, runtime))`, where `build` is an
    /// `async fn`. An error aborts the start. So does a signal, even while `build` waits.
    pub build: fn(S, Runtime) -> BoxFuture<'static, Result<Services, Error>>,
}

impl<S: clap::Args + Send + 'static> App<S> {
    /// Reads a command line without the program's name, with `lookup` for the environment.
    pub fn parse(
        &self,
        arguments: impl IntoIterator<Item = impl Into<OsString>>,
        lookup: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Invocation<S>, clap::Error> {
        command_line::parse(self.command(), arguments, lookup)
    }

    /// The definition of the command line, for documentation. The variable of a flag is its id in capitals.
    pub fn command(&self) -> clap::Command {
        let listen = format!(":{}", self.listen_port);
        command_line::command::<S>(self.name, self.about, &listen)
    }

    /// Binds a server with these settings. It serves once it runs.
    pub async fn bind(&self, config: &Config, settings: S) -> Result<Server, Error> {
        let runtime = Runtime::new(self.name);
        let services = (self.build)(settings, runtime.clone()).await?;
        Server::bind(self.name, config, services, runtime).await
    }
}
