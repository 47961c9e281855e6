//! The settings that every service has: each is a flag and an environment variable.

use std::{net::SocketAddr, path::PathBuf};

use clap::{ValueEnum, builder::BoolishValueParser};
use http::HeaderValue;
use humantime::Duration;
use tracing_subscriber::filter::Targets;

use crate::settings::limits::{Limits, period};

/// The settings that every service has.
#[derive(Debug, Clone, clap::Args)]
pub struct Config {
    /// Where to listen for gRPC; port 0 takes a free port
    #[arg(long = "listen", required = false)]
    pub listen_addr: SocketAddr,

    /// Where to listen for /healthz, /readyz, /metrics and /version, and for plaintext gRPC health checks
    /// [default: the port after --listen]
    #[arg(long = "admin-listen")]
    pub admin_listen_addr: Option<SocketAddr>,

    /// PEM file with the server's certificate chain; turns TLS on
    #[arg(long, requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,

    /// PEM file with the private key of --tls-cert
    #[arg(long, requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,

    /// PEM file with the authorities whose client certificates are accepted; turns mTLS on
    #[arg(long, requires = "tls_cert")]
    pub tls_client_ca: Option<PathBuf>,

    /// After SIGTERM: how long to answer NOT_SERVING and still take calls
    #[arg(long, default_value = "5s", value_parser = period)]
    pub lame_duck: Duration,

    /// After that: how long open calls may take to finish
    #[arg(long, default_value = "25s", value_parser = period)]
    pub drain_timeout: Duration,

    /// What one peer, or all of them, can take from the process.
    #[command(flatten)]
    pub limits: Limits,

    /// File with the bearer tokens that are accepted, one a line; with it, calls must show one
    #[arg(long)]
    pub tokens_file: Option<PathBuf>,

    /// File with what client certificates may call: lines of a URI, with :// in it, or a
    /// DNS name, and its methods, each /package.Service/Method, /package.Service/* or *
    #[arg(long, requires = "tls_client_ca")]
    pub allow_file: Option<PathBuf>,

    /// Whether to serve gRPC reflection, v1 and v1alpha
    #[arg(long, default_value = "true", value_parser = BoolishValueParser::new(), action = clap::ArgAction::Set)]
    pub reflection: bool,

    /// Whether responses carry x-served-by, x-served-version and x-served-zone
    #[arg(long, default_value = "true", value_parser = BoolishValueParser::new(), action = clap::ArgAction::Set)]
    pub served_by: bool,

    /// How to write log lines; text is the default on a terminal, json elsewhere
    #[arg(long, required = false, value_enum)]
    pub log_format: LogFormat,

    /// Which log lines to write: a level, or target=level, separated by commas
    #[arg(long = "log", default_value = "info")]
    pub rust_log: Targets,

    /// Address of this pod, for x-served-by [default: the ECS task's address, else the host name]
    #[arg(long)]
    pub pod_ip: Option<HeaderValue>,

    /// Name of this pod, for the log
    #[arg(long)]
    pub pod_name: Option<String>,

    /// Name of the node that the pod runs on, for the log
    #[arg(long)]
    pub node_name: Option<String>,

    /// Availability zone, for x-served-zone [default: the ECS task's]
    #[arg(long)]
    pub zone: Option<HeaderValue>,

    /// Where ECS answers for this task; ECS sets it
    #[arg(long = "ecs-metadata")]
    pub ecs_container_metadata_uri_v4: Option<String>,
}

/// How a log line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line, for machines.
    Json,
    /// Columns, for people.
    Text,
}

impl Config {
    /// The admin address, as given or the port after the gRPC one; free where that one is.
    pub fn admin_listen(&self) -> SocketAddr {
        self.admin_listen_addr.unwrap_or_else(|| {
            let port = match self.listen_addr.port() {
                0 => 0,
                port => port.checked_add(1).unwrap_or(0),
            };
            SocketAddr::new(self.listen_addr.ip(), port)
        })
    }
}
