//! What the demo and the end-to-end tests run: servers in this process on free ports, and the real
//! binaries as processes of their own.
//!
//! Nothing here sleeps: a server's port is bound before anyone hears of it.

use std::{ffi::OsString, net::SocketAddr, time::Duration};

use chassis::{App, Invocation, Server};
use tokio::{sync::oneshot, task::JoinHandle, time::timeout};
use tonic::transport::{Channel, Endpoint};

// A case is a line or two; rustfmt would make six or seven of each.
#[rustfmt::skip]
pub mod cases;
mod conversation;
mod fault_proxy;
pub mod frames;
pub mod health;
pub mod log;
pub mod measurement;
pub mod pki;
pub mod proc_stats;
pub mod process;
mod raw;
mod scripted_server;

pub use conversation::{Call, Conversation, Ending, framed};
pub use fault_proxy::FaultProxy;
pub use process::{Process, command, installed, output, raise_file_limit, send_signal};
pub use raw::{Answer, PREFACE, get, raw};
pub use scripted_server::{Behavior, GRPC, ScriptedServer, Seen, UNAVAILABLE, leaving};

/// Longer than anything here takes, and shorter than the servers' default drain: only what hangs, or
/// does not heed its settings, gets this far.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// No environment.
pub const NOTHING: &[(&str, &str)] = &[];

/// A server in this process.
#[derive(Debug)]
pub struct Running {
    /// Where it listens for gRPC.
    pub addr: SocketAddr,
    /// Where it listens for admin requests.
    pub admin: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

/// Starts a server with these flags and no environment, on free ports of 127.0.0.1.
pub async fn start<S>(app: App<S>, flags: &[&str]) -> Running
where
    S: clap::Args + Send + 'static,
{
    start_in(app, flags, NOTHING).await
}

/// Starts a server with these flags and this environment, on free ports of 127.0.0.1.
pub async fn start_in<S>(
    app: App<S>,
    flags: &[&str],
    environment: &[(&str, impl AsRef<str>)],
) -> Running
where
    S: clap::Args + Send + 'static,
{
    run(bind(app, flags, environment)
        .await
        .expect("a server that starts"))
}

/// Binds a server as [`start_in`] does, without running it.
pub async fn bind<S>(
    app: App<S>,
    flags: &[&str],
    environment: &[(&str, impl AsRef<str>)],
) -> Result<Server, chassis::Error>
where
    S: clap::Args + Send + 'static,
{
    let defaults = [("LISTEN_ADDR", "127.0.0.1:0"), ("LAME_DUCK", "0s")];
    let lookup = |variable: &str| {
        let environment = environment
            .iter()
            .map(|(name, value)| (*name, value.as_ref()));
        let mut known = environment.chain(defaults);
        known
            .find(|(name, _)| *name == variable)
            .map(|(_, value)| OsString::from(value))
    };
    match app.parse(flags, lookup)? {
        Invocation::Serve(config, settings) => app.bind(&config, settings).await,
        Invocation::PrintConfig(_) | Invocation::Healthcheck(_) => Err("not a server".into()),
    }
}

/// Runs a bound server as a task.
pub fn run(server: Server) -> Running {
    let (stop, stopped) = oneshot::channel();
    Running {
        addr: server.addr().expect("bound"),
        admin: server.admin_addr().expect("bound"),
        stop: Some(stop),
        task: tokio::spawn(server.run(async move {
            // Dropping the sender is as good as sending.
            let _ = stopped.await;
        })),
    }
}

impl Running {
    /// The gRPC address as a plaintext URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// A plaintext channel of its own connection.
    pub fn channel(&self) -> Channel {
        channel(self.addr)
    }

    /// Asks it to shut down, as SIGTERM does.
    pub fn stop(&mut self) {
        self.stop.take();
    }

    /// Waits until it has.
    pub async fn stopped(mut self) {
        self.stop();
        within(&mut self.task)
            .await
            .expect("a server that does not panic");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A plaintext channel of its own connection.
pub fn channel(addr: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{addr}"))
        .expect("a URL")
        .connect_lazy()
}

/// The outcome of something that must not hang.
pub async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("something hangs")
}
