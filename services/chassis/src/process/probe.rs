//! The server binary as its own health probe, for images that hold nothing else.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use humantime::Duration;
use tokio::time::timeout;
use tonic::{
    Status,
    transport::{Certificate, ClientTlsConfig, Endpoint, Identity},
};

use crate::{
    services::health::v1::{
        HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
    },
    settings::{Error, values::period},
};

/// What to ask, and whom.
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
    Connect(Error),
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
            Self::Connect(error) => {
                // The transport wraps what happened several times over.
                let mut cause: &dyn std::error::Error = &**error;
                while let Some(deeper) = cause.source() {
                    cause = deeper;
                }
                write!(f, "cannot connect: {cause}")
            }
            Self::Rpc(status) => write!(f, "the check failed: {status}"),
            Self::NotServing(status) => write!(f, "status: {}", status.as_str_name()),
        }
    }
}

impl Probe {
    /// Asks the listener at `admin` unless the command line names another.
    pub(crate) fn or_ask(mut self, admin: String) -> Self {
        self.addr.get_or_insert(admin);
        self
    }

    /// Asks, and says the answer on standard error.
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
        let endpoint = self.endpoint().map_err(Failure::Usage)?;
        // All of it: the name, TCP and TLS.
        let channel = timeout(*self.connect_timeout, endpoint.connect())
            .await
            .map_err(|_| Failure::Connect("it takes too long".into()))?
            .map_err(|error| Failure::Connect(error.into()))?;
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

    fn endpoint(&self) -> Result<Endpoint, Error> {
        let addr = self.addr.as_deref().unwrap_or_default();
        let (scheme, host) = addr.split_once("://").unwrap_or(("http", addr));
        let endpoint = Endpoint::from_shared(format!("{scheme}://{host}"))?;
        match scheme {
            "https" => self.with_tls(endpoint),
            "http" if self.cacert.is_none() && self.cert.is_none() => Ok(endpoint),
            "http" => Err(format!("{addr}: --cacert and --cert need https://").into()),
            _ => Err(format!("{addr}: neither http:// nor https://").into()),
        }
    }

    fn with_tls(&self, endpoint: Endpoint) -> Result<Endpoint, Error> {
        let mut tls = ClientTlsConfig::new();
        tls = match &self.cacert {
            Some(path) => tls.ca_certificate(Certificate::from_pem(read(path, pem::certificates)?)),
            None => tls.with_native_roots(),
        };
        if let (Some(cert), Some(key)) = (&self.cert, &self.key) {
            tls = tls.identity(Identity::from_pem(
                read(cert, pem::own_chain)?,
                read(key, pem::private_key)?,
            ));
        }
        if let Some(name) = &self.authority {
            tls = tls.domain_name(name);
        }
        Ok(endpoint.tls_config(tls)?)
    }
}

/// What is in a file that `parse` makes something of: the transport's own errors may show what was read.
fn read<T>(path: &Path, parse: fn(&[u8]) -> Result<T, pem::Damage>) -> Result<Vec<u8>, Error> {
    let of = |problem: &dyn fmt::Display| format!("{}: {problem}", path.display());
    let file = fs::read(path).map_err(|error| of(&error))?;
    parse(&file).map_err(|damage| of(&damage))?;
    Ok(pem::without_mark(&file).to_owned())
}
