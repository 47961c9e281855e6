//! HTTP/2 on one connection: it accepts calls, notices a peer that has gone, and asks the peer to go
//! (GOAWAY) when the connection is old, has long been without a call, or the process drains.

use std::{
    fmt,
    future::{pending, poll_fn},
    io,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use h2::{
    Ping, PingPong, Reason,
    server::{Builder, Connection},
};
use http::{Request, Response};
use rand::RngExt as _;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    select,
    task::coop::unconstrained,
    time::{sleep, timeout},
};

use crate::{
    call::{Shared, peer::Peer, response_body::ResponseBody},
    connection::{
        stall_guard::{Activity, READ_A_TURN, StallGuard},
        stream::{self, Chunk},
    },
    settings::limits::{Limits, MAX_STREAMS},
    state::lifecycle::Phase,
    wire::incoming::{self, Incoming},
};

/// How far a client may be ahead of the handler of one call, in bytes.
const STREAM_WINDOW: u32 = 64 * 1024;

/// How far a client may be ahead of all handlers of one connection, in bytes.
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// What h2 may charge for small DATA frames before it ends the connection: 256 bytes for each, less its
/// payload, while it is unread. A turn of the connection reads at most [`READ_A_TURN`] bytes, so that many
/// frames of ten bytes, and the tasks of the streams empty h2 before the next; this is room for some turns.
const DATA_FRAME_BUDGET: usize = 10 * (READ_A_TURN / 10) * 255;

/// Serves a connection until it ends. A clone of `respond` is called for each request.
pub(crate) async fn serve<T, F, B>(
    shared: &Shared,
    peer: &Arc<Peer>,
    stream: T,
    respond: impl FnOnce(Request<Incoming>) -> F + Clone + Send + 'static,
) -> Result<(), Ended>
where
    T: AsyncRead + AsyncWrite + Send + Unpin,
    F: Future<Output = Response<B>> + Send + 'static,
    B: ResponseBody + Send + 'static,
    B::Error: Send,
{
    let limits = &shared.limits;
    let stall = *limits.stall_timeout;
    let stream = StallGuard::new(stream, limits);
    let activity = stream.activity();
    let mut connection = settings().handshake(stream).await?;
    let ping = connection.ping_pong();
    let begin = |request: Request<h2::RecvStream>, reply| {
        let (head, body) = request.into_parts();
        let (receiver, body) = incoming::channel(body);
        let request = Request::from_parts(head, body);
        let respond = respond.clone();
        tokio::spawn(stream::serve(receiver, reply, || respond(request), stall));
    };
    let mut converse = pin!(converse(&mut connection, begin, shared, peer));
    let converse = poll_fn(|cx| {
        activity.begin_turn();
        converse.as_mut().poll(cx)
    });
    // Unconstrained, so that it is heard beside a peer that keeps the connection busy.
    select! {
        ended = converse => Ok(ended?),
        () = unconstrained(keepalive(ping, &activity)) => Err(Ended::Silent),
    }
}

/// Why a connection has ended that the peer has not closed.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The peer does not answer PING.
    Silent,
    /// A fault of the peer's, or of the network.
    Failed(h2::Error),
}

impl Ended {
    /// A name for metrics; None if the peer, or the network, has closed the connection.
    pub(crate) fn reason(&self) -> Option<&'static str> {
        let Self::Failed(error) = self else {
            return Some("keepalive_timeout");
        };
        match error.get_io().map(io::Error::kind) {
            Some(io::ErrorKind::TimedOut) => Some("stalled"),
            Some(io::ErrorKind::InvalidData) => Some("control_frames"),
            Some(_) => None,
            None if error.is_remote() => None,
            None if error.reason() == Some(Reason::ENHANCE_YOUR_CALM) => Some("enhance_your_calm"),
            None => Some("protocol_error"),
        }
    }
}

impl From<h2::Error> for Ended {
    fn from(error: h2::Error) -> Self {
        Self::Failed(error)
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent => f.write_str("no answer to PING"),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

/// HTTP/2 as our small messages and unknown peers need it. Every limit is per connection.
fn settings() -> Builder {
    let mut settings = Builder::new();
    settings
        .max_concurrent_streams(MAX_STREAMS)
        // Guards against a peer that opens streams and resets them, or has us reset them, at speed.
        // CVE-2023-44487, and CVE-2025-8671 (RUSTSEC-2024-0003). The first is twice the streams that
        // may be open: a client whose deadlines pass while we are busy may reset them all.
        .max_pending_accept_reset_streams(2 * MAX_STREAMS as usize)
        .max_local_error_reset_streams(Some(1024))
        // Frames that were in flight when we reset their stream are no fault of the peer's.
        .max_concurrent_reset_streams(MAX_STREAMS as usize)
        .reset_stream_duration(Duration::from_secs(1))
        .max_header_list_size(16 * 1024)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .data_frame_budget(DATA_FRAME_BUDGET)
        // What a client does not take of a reply.
        .max_send_buffer_size(64 * 1024);
    settings
}

type Accepted = (Request<h2::RecvStream>, h2::server::SendResponse<Chunk>);

/// Accepts calls until the peer goes, and asks it to go (gRFC A9) when it is time.
async fn converse<T>(
    connection: &mut Connection<T, Chunk>,
    begin: impl Fn(Request<h2::RecvStream>, h2::server::SendResponse<Chunk>),
    shared: &Shared,
    peer: &Peer,
) -> Result<(), h2::Error>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let limits = &shared.limits;
    let begin = &begin;
    let reason = select! {
        ended = accept(connection, begin) => return ended,
        reason = unconstrained(time_to_go(shared, peer)) => reason,
    };
    tracing::debug!(peer = peer.addr(), %reason, "GOAWAY");
    connection.graceful_shutdown();
    select! {
        ended = accept(connection, begin) => return ended,
        () = unconstrained(reason.grace(limits)) => {}
    }
    peer.closing.cancel();
    // For the trailers to get out.
    const NOTICE: Duration = Duration::from_secs(5);
    timeout(NOTICE, accept(connection, begin))
        .await
        .unwrap_or(Ok(()))
}

async fn accept<T>(
    connection: &mut Connection<T, Chunk>,
    begin: &impl Fn(Request<h2::RecvStream>, h2::server::SendResponse<Chunk>),
) -> Result<(), h2::Error>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(accepted) = connection.accept().await {
        let (request, reply): Accepted = accepted?;
        begin(request, reply);
    }
    Ok(())
}

/// Resolves when a peer from which nothing comes does not answer PING either.
async fn keepalive(ping: Option<PingPong>, activity: &Activity) {
    const INTERVAL: Duration = Duration::from_secs(30);
    const TIMEOUT: Duration = Duration::from_secs(10);

    let Some(mut ping) = ping else {
        return pending().await;
    };
    loop {
        sleep(INTERVAL).await;
        if activity.take() {
            continue;
        }
        let answered = timeout(TIMEOUT, ping.ping(Ping::opaque())).await;
        // The answer may be queued behind a slow upload.
        if !matches!(answered, Ok(Ok(_))) && !activity.take() {
            return;
        }
    }
}

/// Why a connection has to go.
#[derive(Debug, Clone, Copy)]
enum GoAwayReason {
    Draining,
    MaxAge,
    MaxIdle,
}

async fn time_to_go(shared: &Shared, peer: &Peer) -> GoAwayReason {
    let limits = &shared.limits;
    select! {
        () = shared.lifecycle.reached(Phase::Draining) => GoAwayReason::Draining,
        () = sleep(jittered(*limits.max_connection_age)) => GoAwayReason::MaxAge,
        () = peer.idle_for(*limits.max_connection_idle) => GoAwayReason::MaxIdle,
    }
}

impl GoAwayReason {
    /// The time after which the calls that are left are ended. In a drain, that is the process's affair.
    async fn grace(self, limits: &Limits) {
        match self {
            Self::Draining => pending().await,
            Self::MaxAge | Self::MaxIdle => sleep(*limits.max_connection_age_grace).await,
        }
    }
}

impl fmt::Display for GoAwayReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Draining => "draining",
            Self::MaxAge => "max_age",
            Self::MaxIdle => "max_idle",
        })
    }
}

/// The age that one connection may reach: spread, so that those which were opened together, after a
/// rollout say, do not come back together.
fn jittered(age: Duration) -> Duration {
    age.mul_f64(rand::rng().random_range(0.9..=1.1))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::jittered;

    #[test]
    fn ages_are_spread_over_a_fifth() {
        let ages: Vec<_> = (0..1000)
            .map(|_| jittered(Duration::from_secs(100)).as_secs_f64())
            .collect();
        assert!(ages.iter().all(|age| (90.0..=110.0).contains(age)));
        for tenth in 0..10 {
            let from = 90.0 + 2.0 * f64::from(tenth);
            assert!(ages.iter().any(|age| (from..from + 2.0).contains(age)));
        }
    }
}
