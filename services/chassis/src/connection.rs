//! One accepted connection, from its first byte to its last.

use std::{
    convert::Infallible,
    fmt,
    future::pending,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::future::{self, Either};
use hyper::{server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use rand::RngExt as _;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    select,
    task::coop::unconstrained,
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{
    auth::{self, Name},
    call::{Shared, answer},
    call_task::CallTasks,
    lifecycle::{Lifecycle, Phase},
    limits::Limits,
    tls::Tls,
    watched::Watched,
};

/// Serves one connection until the peer is done with it, or the process is.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    tls: Option<Tls>,
    stream: TcpStream,
    addr: SocketAddr,
) {
    let _counted = shared.metrics.connection_opens();
    let closed = shared.lifecycle.reached(Phase::Closed);
    // Its phases are boxed, so that an idle connection, of which there may be thousands, does not keep
    // the room that its handshake took.
    let whole_connection = async {
        let deadline = Instant::now() + *shared.limits.handshake_timeout;
        if !Box::pin(speaks(&stream, deadline, &shared.lifecycle)).await {
            return;
        }
        if let Err(error) = set_options(&stream) {
            tracing::debug!(peer = %addr, %error, "socket options");
        }
        let peer = |names| Arc::new(Peer::new(addr, names, shared.lifecycle.closing()));
        match tls {
            None => Box::pin(http2(&shared, stream, peer(Vec::new()))).await,
            Some(tls) => match Box::pin(timeout_at(deadline, tls.accept(stream, addr))).await {
                Ok(Ok(stream)) => {
                    let certificates = stream.get_ref().1.peer_certificates();
                    let names = certificates.and_then(|chain| chain.first().map(auth::names));
                    Box::pin(http2(&shared, stream, peer(names.unwrap_or_default()))).await;
                }
                Ok(Err(error)) => tracing::debug!(peer = %addr, %error, "TLS handshake failed"),
                Err(_) => tracing::debug!(peer = %addr, "TLS handshake took too long"),
            },
        }
    };
    future::select(pin!(whole_connection), pin!(closed)).await;
}

/// Whether the peer says anything in time. Clients speak first, and one that stays silent would be a
/// connection for nothing and hold up every drain.
pub(crate) async fn speaks(stream: &TcpStream, deadline: Instant, lifecycle: &Lifecycle) -> bool {
    // For what has been sent and not yet arrived.
    const WHEN_DRAINING: Duration = Duration::from_millis(500);

    let mut first = [0];
    let spoken = timeout_at(deadline, stream.peek(&mut first));
    let too_late = async {
        lifecycle.reached(Phase::Draining).await;
        sleep(WHEN_DRAINING).await;
    };
    matches!(
        future::select(pin!(spoken), pin!(too_late)).await,
        Either::Left((Ok(Ok(1)), _))
    )
}

/// How TCP treats our small messages, and a peer that has gone without a word.
fn set_options(stream: &TcpStream) -> std::io::Result<()> {
    const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(10))
        .with_retries(3);

    let socket = SockRef::from(stream);
    // Messages are answered at once: waiting to fill a segment only adds delay.
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&KEEPALIVE)?;
    // gRFC A18: data that is not acknowledged for so long has no one to acknowledge it.
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(Duration::from_secs(20)))?;
    Ok(())
}

/// Speaks HTTP/2 until the peer goes, and has it go (gRFC A9) when the connection is old, has long been
/// without a call, or the process drains.
async fn http2<T>(shared: &Arc<Shared>, stream: T, peer: Arc<Peer>)
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let limits = &shared.limits;
    let service = service_fn(|request| {
        let (shared, peer) = (shared.clone(), peer.clone());
        async move { Ok::<_, Infallible>(answer(&shared, &peer, request).await) }
    });
    let stream = TokioIo::new(Watched::new(stream, limits));
    let mut connection = Box::pin(settings(limits).serve_connection(stream, service));
    // Unconstrained, so that they are heard beside a peer that keeps the connection busy.
    let farewell = Box::pin(unconstrained(async {
        select! {
            () = shared.lifecycle.reached(Phase::Draining) => Farewell::Draining,
            () = sleep(spread(*limits.max_connection_age)) => Farewell::MaxAge,
            () = peer.quiet_for(*limits.max_connection_idle) => Farewell::MaxIdle,
        }
    }));
    let ended = match future::select(connection.as_mut(), farewell).await {
        Either::Left((ended, _)) => ended,
        Either::Right((farewell, _)) => {
            tracing::debug!(peer = %peer.addr, reason = %farewell, "GOAWAY");
            connection.as_mut().graceful_shutdown();
            let grace = pin!(unconstrained(farewell.grace(limits)));
            match future::select(connection.as_mut(), grace).await {
                Either::Left((ended, _)) => ended,
                Either::Right(_) => {
                    peer.closing.cancel();
                    // For the trailers to get out.
                    const NOTICE: Duration = Duration::from_secs(5);
                    timeout(NOTICE, connection).await.unwrap_or(Ok(()))
                }
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(peer = %peer.addr, %error, "connection failed");
    }
}

/// Why a connection has to go.
#[derive(Debug, Clone, Copy)]
enum Farewell {
    Draining,
    MaxAge,
    MaxIdle,
}

impl Farewell {
    /// The time after which the calls that are left are ended. In a drain, that is the process's affair.
    async fn grace(self, limits: &Limits) {
        match self {
            Self::Draining => pending().await,
            Self::MaxAge | Self::MaxIdle => sleep(*limits.max_connection_age_grace).await,
        }
    }
}

impl fmt::Display for Farewell {
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
fn spread(age: Duration) -> Duration {
    age.mul_f64(rand::rng().random_range(0.9..=1.1))
}

/// HTTP/2 as our small messages and unknown peers need it. Every limit is per connection.
fn settings(limits: &Limits) -> http2::Builder<CallTasks> {
    let mut settings = http2::Builder::new(CallTasks {
        stall: *limits.stall_timeout,
    });
    settings
        .timer(TokioTimer::new())
        .max_concurrent_streams(200)
        // Guards against a peer that opens streams and resets them, or has us reset them, at speed.
        // CVE-2023-44487, and CVE-2025-8671 (RUSTSEC-2024-0003). The first is twice the streams that
        // may be open: a client whose deadlines pass while we are busy may reset them all.
        .max_pending_accept_reset_streams(400)
        .max_local_error_reset_streams(1024)
        .max_header_list_size(16 * 1024)
        // What a peer can make us hold of bodies that no handler has read yet, and of replies that it
        // does not take.
        .initial_stream_window_size(64 * 1024)
        .initial_connection_window_size(1024 * 1024)
        .max_send_buf_size(64 * 1024)
        // A peer that has gone without a word must not be kept.
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(10));
    settings
}

/// Whom calls come from, and how many of them are open.
#[derive(Debug)]
pub(crate) struct Peer {
    /// Its address, as text: every call has it in its log line.
    pub(crate) addr: String,
    /// The names in the certificate that it has shown.
    pub(crate) names: Vec<Name>,
    /// Ends the calls that are still open.
    pub(crate) closing: CancellationToken,
    open_calls: AtomicUsize,
    quiet_since: Mutex<Instant>,
}

impl Peer {
    pub(crate) fn new(addr: SocketAddr, names: Vec<Name>, closing: CancellationToken) -> Self {
        Self {
            addr: addr.to_string(),
            names,
            closing,
            open_calls: AtomicUsize::new(0),
            quiet_since: Mutex::new(Instant::now()),
        }
    }

    /// Counts a call until the result is dropped.
    pub(crate) fn open_call(self: &Arc<Self>) -> OpenCall {
        self.open_calls.fetch_add(1, Relaxed);
        OpenCall(self.clone())
    }

    /// Resolves when there has been no call for so long.
    async fn quiet_for(&self, idle: Duration) {
        loop {
            let now = Instant::now();
            let quiet = self.open_calls.load(Relaxed) == 0;
            let since = if quiet { *self.quiet_since() } else { now };
            match idle.checked_sub(now - since) {
                Some(left) if !left.is_zero() => sleep(left).await,
                _ => return,
            }
        }
    }

    fn quiet_since(&self) -> MutexGuard<'_, Instant> {
        // Nothing panics while it holds the lock.
        self.quiet_since
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call that is counted until this is dropped.
#[derive(Debug)]
pub(crate) struct OpenCall(Arc<Peer>);

impl OpenCall {
    pub(crate) fn peer(&self) -> &Peer {
        &self.0
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        // Before the count says so, or `quiet_for` would take the time of an earlier call for this one's.
        if self.0.open_calls.load(Relaxed) == 1 {
            *self.0.quiet_since() = Instant::now();
        }
        self.0.open_calls.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, time::Duration};

    use socket2::SockRef;
    use tokio::{
        io::AsyncWriteExt as _,
        join,
        net::{TcpListener, TcpStream},
        time::Instant,
    };

    use super::{set_options, speaks, spread};
    use crate::lifecycle::{Lifecycle, Phase};

    #[tokio::test]
    async fn a_peer_whose_first_byte_is_on_its_way_when_draining_is_heard() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("a free port");
        let addr = listener.local_addr().expect("bound");
        let draining = Lifecycle::new();
        draining.enter(Phase::Draining);
        let deadline = Instant::now() + Duration::from_secs(60);
        for says in [b"PRI".as_slice(), b""] {
            let mut peer = TcpStream::connect(addr).await.expect("queued");
            let (stream, _) = listener.accept().await.expect("accepted");
            let (heard, said) = join!(speaks(&stream, deadline, &draining), peer.write_all(says));
            said.expect("sent");
            assert_eq!(heard, !says.is_empty());
        }
    }

    #[tokio::test]
    async fn the_kernel_is_told_how_long_to_wait_for_a_peer() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("a free port");
        let addr = listener.local_addr().expect("bound");
        let stream = TcpStream::connect(addr).await.expect("queued");
        set_options(&stream).expect("options");
        let socket = SockRef::from(&stream);
        assert!(socket.tcp_nodelay().expect("an option"));
        assert!(socket.keepalive().expect("an option"));
        #[cfg(target_os = "linux")]
        assert_eq!(
            socket.tcp_user_timeout().expect("an option"),
            Some(Duration::from_secs(20))
        );
    }

    #[test]
    fn ages_are_spread_over_a_fifth() {
        let ages: Vec<_> = (0..1000)
            .map(|_| spread(Duration::from_secs(100)).as_secs_f64())
            .collect();
        assert!(ages.iter().all(|age| (90.0..=110.0).contains(age)));
        for tenth in 0..10 {
            let from = 90.0 + 2.0 * f64::from(tenth);
            assert!(ages.iter().any(|age| (from..from + 2.0).contains(age)));
        }
    }
}
