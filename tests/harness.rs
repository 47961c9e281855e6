//! What the demo and the end-to-end tests run: servers in this process on free ports, and the real
//! binaries as processes of their own.
//!
//! Nothing here sleeps: a server's port is bound before anyone hears of it.

use std::{
    env,
    ffi::OsString,
    net::SocketAddr,
    path::PathBuf,
    process::{ExitStatus, Output, Stdio},
    sync::OnceLock,
    time::Duration,
};

use bytes::Bytes;
use chassis::{App, Invocation, Server};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    net::TcpStream,
    process::{Child, ChildStdout, Command},
    sync::oneshot,
    task::JoinHandle,
    time::timeout,
};
use tonic::transport::{Channel, Endpoint};

/// Longer than anything here takes; only what hangs gets this far.
pub const PATIENCE: Duration = Duration::from_secs(30);

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
    S: clap::Args + Serialize,
{
    start_in(app, flags, &[]).await
}

/// Starts a server with these flags and this environment, on free ports of 127.0.0.1.
pub async fn start_in<S>(app: App<S>, flags: &[&str], environment: &[(&str, &str)]) -> Running
where
    S: clap::Args + Serialize,
{
    run(bind(app, flags, environment)
        .await
        .expect("a server that starts"))
}

/// Binds a server as [`start_in`] does, without running it.
pub async fn bind<S>(
    app: App<S>,
    flags: &[&str],
    environment: &[(&str, &str)],
) -> Result<Server, chassis::Error>
where
    S: clap::Args + Serialize,
{
    let defaults = [("LISTEN_ADDR", "127.0.0.1:0"), ("LAME_DUCK", "0s")];
    let lookup = |variable: &str| {
        let mut known = environment.iter().chain(&defaults);
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

/// An answer as it came over HTTP.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, gRPC framing included.
    pub body: Bytes,
    /// The trailers; empty if there are none.
    pub trailers: HeaderMap,
}

/// Sends one HTTP/2 request on a connection of its own, with nothing that a gRPC client adds.
pub async fn raw(addr: SocketAddr, request: Request<Full<Bytes>>) -> Answer {
    within(async {
        let stream = TcpStream::connect(addr)
            .await
            .expect("a server that listens");
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .expect("HTTP/2");
        tokio::spawn(connection);
        let response = sender.send_request(request).await.expect("an answer");
        let (head, body) = response.into_parts();
        let body = body.collect().await.expect("a whole answer");
        let trailers = body.trailers().cloned().unwrap_or_default();
        Answer {
            status: head.status,
            headers: head.headers,
            body: body.to_bytes(),
            trailers,
        }
    })
    .await
}

/// The outcome of something that must not hang.
pub async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("something hangs")
}

/// The path of one of the suite's binaries.
///
/// `cargo test` builds them only for the package under test, so the first call builds them all; the
/// libraries they are made of are there already.
pub fn binary(name: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        // TARGET/debug/deps/e2e-0123456789abcdef
        let this = env::current_exe().expect("a path");
        let folder = this.ancestors().nth(2).expect("a folder of binaries");
        let target = folder.parent().expect("a target folder");
        let mut build = std::process::Command::new(env::var_os("CARGO").expect("run by cargo"));
        build
            .args(["build", "--quiet", "--workspace", "--bins", "--target-dir"])
            .arg(target);
        // What cargo tells this package of itself would have build scripts run again that ask for it.
        for (name, _) in env::vars_os() {
            let bytes = name.as_encoded_bytes();
            if bytes.starts_with(b"CARGO_PKG_") || bytes.starts_with(b"CARGO_MANIFEST_") {
                build.env_remove(name);
            }
        }
        if !cfg!(debug_assertions) {
            build.arg("--release");
        }
        assert!(
            build.status().expect("cargo").success(),
            "the binaries do not build"
        );
        folder.to_owned()
    });
    folder.join(name)
}

/// A command for one of the suite's binaries, with nothing of this process's environment.
pub fn command(name: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary(name));
    command
        .args(arguments)
        .env_clear()
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// Runs one of the suite's binaries to its end.
pub async fn output(command: &mut Command) -> Output {
    within(command.output())
        .await
        .expect("a program that starts")
}

/// A server as a process of its own.
#[derive(Debug)]
pub struct Process {
    /// Where it listens for gRPC.
    pub addr: SocketAddr,
    /// Where it listens for admin requests.
    pub admin: SocketAddr,
    child: Child,
    log: Lines<BufReader<ChildStdout>>,
}

impl Process {
    /// Starts a server binary on free ports of 127.0.0.1, and waits for the line that says it is up.
    pub async fn start(name: &str, arguments: &[&str]) -> Self {
        let mut command = command(name, &["--listen", "127.0.0.1:0", "--log-format", "json"]);
        let mut child = command
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .expect("a server that starts");
        let stdout = child.stdout.take().expect("piped");
        let mut log = BufReader::new(stdout).lines();
        let line = next_line(&mut log, "listening").await;
        let addr = |field: &str| line[field].as_str().expect(field).parse().expect(field);
        Self {
            addr: addr("grpc"),
            admin: addr("admin"),
            child,
            log,
        }
    }

    /// A plaintext channel of its own connection.
    pub fn channel(&self) -> Channel {
        channel(self.addr)
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = self.child.id().expect("running");
        let pid = Pid::from_raw(pid.try_into().expect("a pid")).expect("a pid");
        kill_process(pid, signal).expect("a signal that is sent");
    }

    /// The next log line with this message.
    pub async fn log(&mut self, message: &str) -> serde_json::Value {
        next_line(&mut self.log, message).await
    }

    /// Waits for its end.
    pub async fn exit(mut self) -> ExitStatus {
        within(self.child.wait())
            .await
            .expect("a process to wait for")
    }
}

async fn next_line(log: &mut Lines<BufReader<ChildStdout>>, message: &str) -> serde_json::Value {
    within(async {
        loop {
            let line = log.next_line().await.expect("readable");
            let line = line.unwrap_or_else(|| panic!("the log ends before {message:?}"));
            let line: serde_json::Value = serde_json::from_str(&line).expect("a JSON object");
            if line["message"] == message {
                return line;
            }
        }
    })
    .await
}
