//! Limits on the resources that one peer, or all peers together, can use.

use humantime::Duration;

use crate::settings::values::{nonzero_period, period};

/// Maximum number of concurrent streams on one connection.
pub(crate) const MAX_STREAMS: u32 = 200;

/// The limits that every service has. The doc comment of each is its line in `--help`.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Limits")]
#[group(skip)] // A group is named after its type, and services have limits of their own.
pub struct Limits {
    /// Maximum number of open connections; a connection beyond it is closed as soon as it is accepted
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_connections: u32,

    /// Maximum number of open connections from one IPv4 address or one IPv6 /64
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_connections_per_peer: u32,

    /// Maximum number of concurrent calls, each counted until its stream has ended and its last byte is
    /// written; of health checks, only Watch is counted
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_calls: u32,

    /// Maximum number of concurrent calls of one peer: an IPv4 address, an IPv6 /64, or the name in a client
    /// certificate. A load balancer is one peer: behind one, set it to MAX_CALLS [default: a quarter of MAX_CALLS]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_calls_per_peer: Option<u32>,

    /// Maximum time for a peer's first byte and TLS handshake, and again for its HTTP/2 preface
    #[arg(long, default_value = "5s", value_parser = nonzero_period)]
    pub handshake_timeout: Duration,

    /// Maximum time a peer may stall mid-frame or stop reading
    #[arg(long, default_value = "10s", value_parser = nonzero_period)]
    pub stall_timeout: Duration,

    /// Maximum duration of a unary call, whatever deadline its client sets
    #[arg(long, default_value = "10s", value_parser = nonzero_period)]
    pub unary_timeout: Duration,

    /// Maximum time a streaming call may pass without a message in either direction while it waits for its
    /// client
    // Envoy's default for the same. A Watch, whose client has half-closed, is not idle.
    #[arg(long, default_value = "5m", value_parser = nonzero_period)]
    pub stream_idle_timeout: Duration,

    /// Interval after which a health Watch that has been silent repeats its status
    // Less than the minute after which an ALB resets a stream without messages. The protocol allows a
    // status to be repeated; a load balancer does not count PING, or empty DATA, as a message.
    #[arg(long, default_value = "25s", value_parser = nonzero_period)]
    pub watch_heartbeat: Duration,

    /// Age at which a connection is sent GOAWAY, ±10 %, so that clients reconnect and spread over the replicas
    // gRFC A9. Minutes, because behind a ClusterIP or an NLB a new replica gets no calls until then.
    #[arg(long, default_value = "10m", value_parser = nonzero_period)]
    pub max_connection_age: Duration,

    /// Time that the calls of a connection of MAX_CONNECTION_AGE have to finish
    #[arg(long, default_value = "5m", value_parser = period)]
    pub max_connection_age_grace: Duration,

    /// Maximum time a connection may be without a call before it is sent GOAWAY
    // gRFC A9. Longer than the 60 s of an ALB, so that the ALB closes its pooled connections first.
    #[arg(long, default_value = "5m", value_parser = nonzero_period)]
    pub max_connection_idle: Duration,
}

impl Limits {
    /// As set, or a quarter of all, so that no single peer can use them all.
    pub fn max_calls_per_peer(&self) -> u32 {
        self.max_calls_per_peer
            .unwrap_or(self.max_calls.div_ceil(4))
    }
}
