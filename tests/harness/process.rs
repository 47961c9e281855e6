//! The suite's binaries, and servers as processes of their own.

use std::{
    env,
    io::{self, Write as _},
    net::SocketAddr,
    path::PathBuf,
    process::{ExitStatus, Output, Stdio},
    sync::OnceLock,
    thread,
};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};
use tonic::transport::Channel;

use crate::{channel, within};

/// The path of one of the suite's binaries.
///
/// `cargo test` builds them only for the package under test, so the first call builds them all; the
/// libraries they are made of are there already.
fn binary(name: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        // TARGET/debug/deps/e2e-0123456789abcdef, or TARGET/debug/measure
        let this = env::current_exe().expect("a path");
        let mut folders = this.ancestors().skip(1);
        let folder = folders.find(|folder| !folder.ends_with("deps"));
        let folder = folder.expect("a folder of binaries");
        let target = folder.parent().expect("a target folder");
        let mut build = std::process::Command::new(env::var_os("CARGO").expect("run by cargo"));
        build
            .args(["build", "--quiet", "--workspace", "--bins", "--target-dir"])
            .arg(target);
        // What cargo tells this package of itself would have build scripts run again that ask for it.
        for (name, _) in env::vars_os() {
            let bytes = name.as_encoded_bytes();
            let told = bytes.starts_with(b"CARGO_PKG_") || bytes.starts_with(b"CARGO_MANIFEST_");
            if told || bytes == b"OUT_DIR" {
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

/// Says that this test is skipped if there is no such program.
pub fn installed(program: &str) -> Option<()> {
    let path = env::var_os("PATH").unwrap_or_default();
    if env::split_paths(&path).any(|folder| folder.join(program).is_file()) {
        return Some(());
    }
    // Not eprintln!, which cargo would keep to itself. The thread has the test's name.
    let this = thread::current();
    let test = this.name().unwrap_or("a test");
    let line = format!("1 skipped: {test}: {program} is not installed\n");
    let _ = io::stderr().write_all(line.as_bytes());
    None
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

const FREE_PORT: &str = "127.0.0.1:0";

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
        Self::spawn(command(name, arguments), FREE_PORT).await
    }

    /// Starts one where another has been.
    pub async fn start_at(addr: SocketAddr, name: &str, arguments: &[&str]) -> Self {
        Self::spawn(command(name, arguments), &addr.to_string()).await
    }

    /// Starts one that listens at what `LISTEN_ADDR` can say.
    pub async fn start_on(listen: &str, name: &str, arguments: &[&str]) -> Self {
        Self::spawn(command(name, arguments), listen).await
    }

    /// Starts one that may open only so many files at once.
    pub async fn start_with_files(files: u32, name: &str, arguments: &[&str]) -> Self {
        let limit = format!(r#"ulimit -n {files} && exec "$0" "$@""#);
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", &limit]).arg(binary(name)).args(arguments);
        Self::spawn(shell, FREE_PORT).await
    }

    /// Starts one whose limit of open files is soft: it may raise that itself.
    pub async fn start_with_soft_limit(files: u32, name: &str, arguments: &[&str]) -> Self {
        let limit = format!(r#"ulimit -S -n {files} && exec "$0" "$@""#);
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", &limit]).arg(binary(name)).args(arguments);
        Self::spawn(shell, FREE_PORT).await
    }

    async fn spawn(mut command: Command, listen: &str) -> Self {
        let mut child = command
            .args(["--listen", listen, "--admin-listen", FREE_PORT])
            .args(["--log-format", "json"])
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("a server that starts");
        let mut log = lines(&mut child);
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
        send_signal(&self.child, signal);
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

/// As many files as are allowed, for this process and those that it starts.
pub fn raise_file_limit() -> io::Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let current = maximum;
    Ok(setrlimit(Resource::Nofile, Rlimit { current, maximum })?)
}

/// What a process writes to its standard output.
pub fn lines(child: &mut Child) -> Lines<BufReader<ChildStdout>> {
    BufReader::new(child.stdout.take().expect("piped")).lines()
}

/// Sends a signal to a process that runs.
pub fn send_signal(child: &Child, signal: Signal) {
    let pid = child.id().expect("running");
    let pid = Pid::from_raw(pid.try_into().expect("a pid")).expect("a pid");
    kill_process(pid, signal).expect("a signal that is sent");
}

/// The next of these log lines with this message.
pub async fn next_line(
    log: &mut Lines<BufReader<ChildStdout>>,
    message: &str,
) -> serde_json::Value {
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
