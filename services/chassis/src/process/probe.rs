//! The server binary as its own health probe, for images that contain no other program.

use std::{error::Error as _, fmt, path::PathBuf, process::ExitCode};

use channel::{Channel, Settings, Silent, Target, Trust};
use humantime::Duration;
use tokio::time::timeout;
use tonic::Status;

use crate::{
    services::health::v1::{
        HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
    },
    settings::{Error, values::period},
};

/// The target and the parameters of a probe.
#[derive(Debug, clap::Args)]
pub struct Probe {
    /// http://HOST:PORT, https://HOST:PORT, or HOST:PORT for plaintext
    /// [default: this server's admin listener, which is plaintext in every mode]
    #[arg(long)]
    addr: Option<String>,

    /// The service to ask about; empty for the server as a whole
    #[arg(long, default_value = "")]
    service: String,

    /// PEM file with the authorities to trust [default: the system's]
    #[arg(long)]
    cacert: Option<PathBuf>,

    /// PEM file with the certificate to show, for mTLS
    #[arg(long, requires = "key")]
    cert: Option<PathBuf>,

    /// PEM file with the private key of --cert
    #[arg(long, requires = "cert")]
    key: Option<PathBuf>,

    /// The name to expect in the server's certificate [default: the host of --addr]
    #[arg(long)]
    authority: Option<String>,

    /// Maximum time for connecting
    #[arg(long, default_value = "1s", value_parser = period)]
    connect_timeout: Duration,

    /// Maximum time for the answer
    #[arg(long, default_value = "1s", value_parser = period)]
    rpc_timeout: Duration,
}

/// Why a probe did not find its server serving. The exit codes are those of grpc_health_probe.
enum Failure {
    Usage(Error),
    Connect(Status),
    Rpc(Status),
    NotServing(ServingStatus),
}

impl Failure {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 1,
            Self::Connect(_) => 2,
            Self::Rpc(_) => 3,
            Self::NotServing(_) => 4,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(error) => write!(f, "{error}"),
            Self::Connect(status) => write!(f, "cannot connect: {}", status.message()),
            Self::Rpc(status) => write!(f, "the check failed: {status}"),
            Self::NotServing(status) => write!(f, "status: {}", status.as_str_name()),
        }
    }
}

impl Probe {
    /// Probes the listener at `admin` unless the command line names another.
    pub(crate) fn or_ask(mut self, admin: String) -> Self {
        self.addr.get_or_insert(admin);
        self
    }

    /// Runs the probe, and prints the result on standard error.
    pub(crate) async fn run(self) -> ExitCode {
        match self.ask().await {
            Ok(()) => {
                eprintln!("status: SERVING");
                ExitCode::SUCCESS
            }
            Err(failure) => {
                eprintln!("{failure}");
                failure.exit_code().into()
            }
        }
    }

    async fn ask(self) -> Result<(), Failure> {
        let target = self.target().map_err(Failure::Usage)?;
        let settings = self.settings(&target).map_err(Failure::Usage)?;
        let channel = (Channel::connect(target, settings).await)
            .map_err(|problem| Failure::Usage(problem.into()))?
            .map_err(|status| match status.source() {
                Some(source) if source.is::<Silent>() => Failure::Rpc(status),
                _ => Failure::Connect(status),
            })?;
        let mut client = HealthClient::new(channel);
        let check = client.check(HealthCheckRequest {
            service: self.service,
        });
        let response = timeout(*self.rpc_timeout, check)
            .await
            .map_err(|_| Failure::Rpc(Status::deadline_exceeded("no answer in time")))?
            .map_err(Failure::Rpc)?;
        match response.into_inner().status() {
            ServingStatus::Serving => Ok(()),
            status => Err(Failure::NotServing(status)),
        }
    }

    fn target(&self) -> Result<Target, Error> {
        let addr = self.addr.as_deref().unwrap_or_default();
        let problem = |problem: &str| format!("{addr}: {problem}").into();
        match addr.split_once("://") {
            None | Some(("http" | "https", _)) if addr.contains(',') => {
                Err(problem("more than one server"))
            }
            None | Some(("http" | "https", _)) => {
                let target = Target::parse(addr, false)?;
                let has_files = self.cacert.is_some() || self.cert.is_some();
                match has_files && !target.is_tls() {
                    true => Err(problem("--cacert and --cert need https://")),
                    false => Ok(target),
                }
            }
            Some(_) => Err(problem("neither http:// nor https://")),
        }
    }

    fn settings(&self, target: &Target) -> Result<Settings, Error> {
        let authority = self.authority.as_ref().filter(|_| target.is_tls());
        Ok(Settings {
            authority: authority.map(|name| name.parse()).transpose()?,
            trust: match &self.cacert {
                Some(path) => Trust::Authorities(path.clone()),
                None => Trust::System,
            },
            identity: self.cert.clone().zip(self.key.clone()),
            connect_timeout: *self.connect_timeout,
            ..Settings::default()
        })
    }
}
