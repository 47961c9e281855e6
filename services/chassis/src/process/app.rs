//! One server binary: its name, its settings, and what it serves.

use std::ffi::OsString;

use futures_util::future::BoxFuture;

use crate::{
    process::command_line::{self, Invocation},
    server::Server,
    services::{Services, runtime::Runtime},
    settings::{Error, config::Config},
};

/// One server binary. `S` is what the service has for settings of its own.
#[derive(Debug, Clone, Copy)]
pub struct App<S> {
    /// The name of the binary.
    pub name: &'static str,
    /// What it is, in one sentence.
    pub about: &'static str,
    /// The port that it listens at, on every address, unless told otherwise.
    pub listen_port: u16,
    /// Makes what it serves: `|settings, runtime| Box::pin(build(settings, runtime))`, where `build` is an
    /// `async fn`. An error ends the start; a signal does, too, wherever it waits.
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

    /// The command line that it reads, for documents about it. The variable of a flag is its id in capitals.
    pub fn command(&self) -> clap::Command {
        let listen = format!(":{}", self.listen_port);
        command_line::command::<S>(self.name, self.about, &listen)
    }

    /// Binds a server with these settings. It answers once it runs.
    pub async fn bind(&self, config: &Config, settings: S) -> Result<Server, Error> {
        let runtime = Runtime::new(self.name);
        let services = (self.build)(settings, runtime.clone()).await?;
        Server::bind(self.name, config, services, runtime).await
    }
}
