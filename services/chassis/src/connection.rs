//! One accepted connection, from its first byte to its last.

use std::{
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::future::{self, Either};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, sleep, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{
    auth::{self, Name},
    call::{Shared, respond},
    call_limit::{Counter, PeerKey},
    http2,
    lifecycle::{Lifecycle, Phase},
    net::{self, TcpStream},
    tls::Tls,
};

/// Serves one connection until the peer is done with it, or the process is.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    tls: Option<Tls>,
    mut stream: TcpStream,
    addr: SocketAddr,
) {
    let _counted = shared.metrics.connection_opens();
    let closed = shared.lifecycle.reached(Phase::Closed);
    // Its phases are boxed, so that an idle connection, of which there may be thousands, does not keep
    // the room that its handshake took.
    let whole_connection = async {
        let deadline = Instant::now() + *shared.limits.handshake_timeout;
        if !Box::pin(speaks(&mut stream, deadline, &shared.lifecycle)).await {
            return;
        }
        if let Err(error) = net::set_options(&stream) {
            tracing::debug!(peer = %addr, %error, "socket options");
        }
        let peer = |names| Arc::new(Peer::new(addr, names, &shared));
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
pub(crate) async fn speaks(
    stream: &mut TcpStream,
    deadline: Instant,
    lifecycle: &Lifecycle,
) -> bool {
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

/// Serves HTTP/2, and says why it ended if that was not the peer's will.
async fn http2<T>(shared: &Arc<Shared>, stream: T, peer: Arc<Peer>)
where
    T: AsyncRead + AsyncWrite + Send + Unpin,
{
    let ended = http2::serve(shared, &peer, stream, |request| {
        let (shared, peer) = (shared.clone(), peer.clone());
        async move { respond(&shared, &peer, request).await }
    });
    if let Err(why) = ended.await {
        shared.connection_failed(&peer.addr, &why);
    }
}

/// Half of the streams of a connection: proxies bring the Watches of many clients, and calls come, too.
const MAX_WATCHES: usize = http2::MAX_STREAMS as usize / 2;

/// A prober's request comes in one piece, or its second is on its way.
const MAX_LATE_CHECKS: usize = 8;

/// Whom calls come from, and how many of them are open.
#[derive(Debug)]
pub(crate) struct Peer {
    /// Its address, as text: every call has it in its log line.
    pub(crate) addr: String,
    /// The names in the certificate that it has shown.
    pub(crate) names: Vec<Name>,
    /// Ends the calls that are still open.
    pub(crate) closing: CancellationToken,
    /// The calls of this peer, on all of its connections.
    pub(crate) calls: Counter,
    /// Health Watches of this connection, which are calls besides.
    pub(crate) watches: Counter,
    /// Health checks of this connection whose request is incomplete.
    pub(crate) late_checks: Counter,
    open_calls: AtomicUsize,
    quiet_since: Mutex<Instant>,
}

impl Peer {
    pub(crate) fn new(addr: SocketAddr, names: Vec<Name>, shared: &Shared) -> Self {
        let key = match names.first() {
            Some(name) => PeerKey::Identity(name.clone()),
            None => PeerKey::address(addr.ip()),
        };
        Self {
            addr: addr.to_string(),
            names,
            closing: shared.lifecycle.closing(),
            calls: shared.calls.peer(key),
            watches: Counter::new(MAX_WATCHES),
            late_checks: Counter::new(MAX_LATE_CHECKS),
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
    pub(crate) async fn quiet_for(&self, idle: Duration) {
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

    use super::speaks;
    use crate::{
        lifecycle::{Lifecycle, Phase},
        net::set_options,
    };

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
            let (mut stream, _) = listener.accept().await.expect("accepted");
            let (heard, said) = join!(
                speaks(&mut stream, deadline, &draining),
                peer.write_all(says)
            );
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
}
