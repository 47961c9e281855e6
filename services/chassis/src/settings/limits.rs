//! How much, how many and how long: what one peer, or all of them, can take from the process.

use humantime::Duration;

/// Streams that a client may have open at once on one connection.
pub(crate) const MAX_STREAMS: u32 = 200;

/// The limits that every service has. The doc comment of each is its line in `--help`.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)] // A group is named after its type, and services have limits of their own.
pub struct Limits {
    /// Most connections at once; one more is closed as soon as it is accepted
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_connections: u32,

    /// Most connections at once from one IPv4 address or one IPv6 /64
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_connections_per_peer: u32,

    /// Most calls at once, each counted until its stream has ended and its last byte is written; of health
    /// checks, only Watch is counted
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_calls: u32,

    /// Most calls at once of one peer: an IPv4 address, an IPv6 /64, or the name in a client certificate. A
    /// load balancer is one peer: behind one, as many as --max-calls [default: a quarter of --max-calls]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_calls_per_peer: Option<u32>,

    /// Longest a peer may take for its first byte and TLS handshake, and again for the HTTP/2 preface
    #[arg(long, default_value = "5s", value_parser = nonzero_period)]
    pub handshake_timeout: Duration,

    /// Longest that a frame may stay half sent, or what we send not be taken
    #[arg(long, default_value = "10s", value_parser = nonzero_period)]
    pub stall_timeout: Duration,

    /// Longest a unary call may take, whatever deadline its client sets
    #[arg(long, default_value = "10s", value_parser = nonzero_period)]
    pub unary_timeout: Duration,

    /// Longest that a call may wait for a message of its client while none is sent either
    // Envoy's default for the same. A Watch, whose client has said all it will, is not idle.
    #[arg(long, default_value = "5m", value_parser = nonzero_period)]
    pub stream_idle_timeout: Duration,

    /// Longest silence of a health Watch; after it, the status is said again
    // Under the minute after which an ALB cuts a stream on which no message passes. The protocol lets a
    // status be repeated, and PING, or DATA without a byte, is no message to a load balancer.
    #[arg(long, default_value = "25s", value_parser = nonzero_period)]
    pub watch_heartbeat: Duration,

    /// Age at which a connection is asked to go, give or take 10 %, so that clients spread anew
    // gRFC A9. Minutes, because behind a ClusterIP or an NLB a new replica gets no calls until then.
    #[arg(long, default_value = "10m", value_parser = nonzero_period)]
    pub max_connection_age: Duration,

    /// How long its calls may go on after that
    #[arg(long, default_value = "5m", value_parser = period)]
    pub max_connection_age_grace: Duration,

    /// How long a connection may be without a call
    // gRFC A9. Above the 60 s of an ALB, which should be the one to close what it pools.
    #[arg(long, default_value = "5m", value_parser = nonzero_period)]
    pub max_connection_idle: Duration,
}

impl Limits {
    /// As given, or a quarter of all, so that no peer alone can have them.
    pub fn max_calls_per_peer(&self) -> u32 {
        self.max_calls_per_peer
            .unwrap_or(self.max_calls.div_ceil(4))
    }
}

/// A time that can be added to any clock: at most a year.
pub(crate) fn period(text: &str) -> Result<Duration, String> {
    const LONGEST: std::time::Duration = std::time::Duration::from_secs(366 * 24 * 3600);
    let period: Duration = text
        .parse()
        .map_err(|error: humantime::DurationError| error.to_string())?;
    if *period > LONGEST {
        return Err("more than a year".to_owned());
    }
    Ok(period)
}

/// A time of at most a year, and not nothing: many write 0 for "never", which this would turn into "at
/// once". To parse settings with.
pub fn nonzero_period(text: &str) -> Result<Duration, String> {
    match period(text)? {
        period if period.is_zero() => Err("must be more than nothing".to_owned()),
        period => Ok(period),
    }
}
