//! The settings that every service has: each is a flag and an environment variable.

use std::{
    io::{self, IsTerminal as _},
    path::PathBuf,
};

use clap::{ValueEnum, builder::BoolishValueParser};
use http::HeaderValue;
use humantime::Duration;
use tracing_subscriber::filter::Targets;

use crate::settings::{
    limits::Limits,
    listen_addr::ListenAddr,
    values::{log_levels, period},
};

/// The settings that every service has, in the order of `--help`. The doc comment of each is its line there.
#[derive(Debug, Clone, clap::Args)]
pub struct Config {
    /// Address to listen on for gRPC: HOST:PORT, or :PORT for every IPv6 and IPv4 address; port 0 takes a free
    /// port
    #[arg(long = "listen", required = false, help_heading = "Listening")]
    pub listen_addr: ListenAddr,

    /// Address to listen on for /healthz, /readyz, /metrics and /version, and for plaintext gRPC health checks
    /// [default: the port after LISTEN_ADDR]
    #[arg(long = "admin-listen", help_heading = "Listening")]
    pub admin_listen_addr: Option<ListenAddr>,

    /// Whether to serve gRPC reflection, v1 and v1alpha
    #[arg(long, default_value = "true", value_parser = BoolishValueParser::new(), action = clap::ArgAction::Set, help_heading = "Listening")]
    pub reflection: bool,

    /// PEM file with the server's certificate chain; turns TLS on
    #[arg(long, requires = "tls_key", help_heading = "TLS")]
    pub tls_cert: Option<PathBuf>,

    /// PEM file with the private key of TLS_CERT
    #[arg(long, requires = "tls_cert", help_heading = "TLS")]
    pub tls_key: Option<PathBuf>,

    /// PEM file with the authorities whose client certificates are accepted; turns mTLS on
    #[arg(long, requires = "tls_cert", help_heading = "TLS")]
    pub tls_client_ca: Option<PathBuf>,

    /// File with the accepted bearer tokens, one a line; with it, every call must carry one
    #[arg(long, help_heading = "Authentication")]
    pub tokens_file: Option<PathBuf>,

    /// File with what client certificates may call: lines of a URI, with :// in it, or a
    /// DNS name, and its methods, each /package.Service/Method, /package.Service/* or *
    #[arg(long, requires = "tls_client_ca", help_heading = "Authentication")]
    pub allow_file: Option<PathBuf>,

    /// Time after SIGTERM during which health is NOT_SERVING and calls are still accepted
    #[arg(long, default_value = "5s", value_parser = period, help_heading = "Shutdown")]
    pub lame_duck: Duration,

    /// Time that open calls have to finish once LAME_DUCK is over
    #[arg(long, default_value = "25s", value_parser = period, help_heading = "Shutdown")]
    pub drain_timeout: Duration,

    /// What one peer, or all of them, can take from the process.
    #[command(flatten)]
    pub limits: Limits,

    /// Format of log lines [default: text on a terminal, else json]
    #[arg(long, value_enum, help_heading = "Logging")]
    pub log_format: Option<LogFormat>,

    /// Which log lines to write: LEVEL or TARGET=LEVEL, separated by commas; a level is off, error, warn, info,
    /// debug or trace, and a target never stands alone
    #[arg(long = "log", default_value = "info", value_parser = log_levels, help_heading = "Logging")]
    pub rust_log: Targets,

    /// Whether responses carry x-served-by, x-served-version and x-served-zone
    #[arg(long, default_value = "true", value_parser = BoolishValueParser::new(), action = clap::ArgAction::Set, help_heading = "Identity")]
    pub served_by: bool,

    /// Address of this pod, for x-served-by [default: the ECS task's address, else host name and port]
    #[arg(long, help_heading = "Identity")]
    pub pod_ip: Option<HeaderValue>,

    /// Name of this pod, for the log
    #[arg(long, help_heading = "Identity")]
    pub pod_name: Option<String>,

    /// Name of the node that the pod runs on, for the log
    #[arg(long, help_heading = "Identity")]
    pub node_name: Option<String>,

    /// Availability zone, for x-served-zone [default: the ECS task's]
    #[arg(long, help_heading = "Identity")]
    pub zone: Option<HeaderValue>,

    /// URL of the ECS task metadata endpoint; ECS sets it
    #[arg(long = "ecs-metadata", help_heading = "Identity")]
    pub ecs_container_metadata_uri_v4: Option<String>,
}

/// The format of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line, for machines.
    Json,
    /// Columns, for people.
    Text,
}

impl Config {
    /// The admin address as set, or the port after the gRPC one; any free port if that one is 0.
    pub fn admin_listen(&self) -> ListenAddr {
        (self.admin_listen_addr.clone()).unwrap_or_else(|| self.listen_addr.next())
    }

    /// The format of log lines as set, or text if the output is a terminal.
    pub fn log_format(&self) -> LogFormat {
        self.log_format
            .unwrap_or_else(|| match io::stdout().is_terminal() {
                true => LogFormat::Text,
                false => LogFormat::Json,
            })
    }
}
