//! One accepted connection, from its first byte to its last.

pub(crate) mod handshake_turns;
pub(crate) mod http2;
pub(crate) mod mismatch;
pub(crate) mod stall_guard;
pub(crate) mod stream;
pub(crate) mod tcp;
pub(crate) mod tls;

use std::{net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use futures_util::future::{self, Either};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, sleep, timeout_at},
};

use crate::{
    call::{Shared, peer::Peer, respond},
    connection::{http2::Ended, mismatch::Mismatch, tcp::TcpStream, tls::Tls},
    state::lifecycle::{Lifecycle, Phase},
    wire::certificate,
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
        let mut first = [0; 8];
        let first = first_bytes(&mut stream, &mut first, deadline, &shared.lifecycle);
        let Some(first) = Box::pin(first).await else {
            return;
        };
        let mismatch = mismatch::mismatch(first, tls.is_some());
        if let Err(error) = tcp::set_options(&stream) {
            tracing::debug!(peer = %addr, %error, "socket options");
        }
        let peer = |names| Arc::new(Peer::new(addr, names, &shared.lifecycle, &shared.calls));
        match tls {
            None => Box::pin(converse(&shared, stream, peer(Vec::new()), mismatch)).await,
            Some(tls) => match Box::pin(timeout_at(deadline, tls.accept(stream, addr))).await {
                Ok(Ok(stream)) => {
                    let certificates = stream.get_ref().1.peer_certificates();
                    let names =
                        certificates.and_then(|chain| chain.first().map(certificate::names));
                    let peer = peer(names.unwrap_or_default());
                    Box::pin(converse(&shared, stream, peer, None)).await;
                }
                Ok(Err(error)) => no_handshake(&shared, addr, &error, mismatch),
                Err(late) => no_handshake(&shared, addr, &late, mismatch),
            },
        }
    };
    future::select(pin!(whole_connection), pin!(closed)).await;
}

/// What the peer sends first, if it sends anything in time. Clients speak first, and one that stays silent
/// would be a connection for nothing and hold up every drain.
pub(crate) async fn first_bytes<'a>(
    stream: &mut TcpStream,
    first: &'a mut [u8],
    deadline: Instant,
    lifecycle: &Lifecycle,
) -> Option<&'a [u8]> {
    // For what has been sent and not yet arrived.
    const WHEN_DRAINING: Duration = Duration::from_millis(500);

    let too_late = async {
        lifecycle.reached(Phase::Draining).await;
        sleep(WHEN_DRAINING).await;
    };
    let count = {
        let spoken = timeout_at(deadline, stream.peek(first));
        match future::select(pin!(spoken), pin!(too_late)).await {
            Either::Left((Ok(Ok(count)), _)) => count,
            _ => 0,
        }
    };
    (count > 0).then(|| &first[..count])
}

/// Counts a connection that did not get beyond its TLS handshake, and warns of it.
fn no_handshake(
    shared: &Shared,
    peer: SocketAddr,
    error: &dyn std::error::Error,
    mismatch: Option<Mismatch>,
) {
    let reason = mismatch.map_or("tls_handshake", |mismatch| mismatch.reason);
    shared.metrics.connection_failed(reason);
    if let Some(suppressed) = shared.warnings.pass(reason) {
        let hint = mismatch.map(|mismatch| mismatch.hint);
        tracing::warn!(reason, %peer, %error, hint, suppressed, "TLS handshake failed");
    }
}

/// Serves HTTP/2, and says why it ended if that was not the peer's will.
async fn converse<T>(shared: &Arc<Shared>, stream: T, peer: Arc<Peer>, mismatch: Option<Mismatch>)
where
    T: AsyncRead + AsyncWrite + Send + Unpin,
{
    let ended = http2::serve(shared, &peer, stream, {
        let (shared, peer) = (shared.clone(), peer.clone());
        move |request| respond(shared, peer, request)
    });
    if let Err(why) = ended.await {
        failed(shared, &peer, &why, mismatch);
    }
}

/// Counts a connection that has failed, and warns of it if that is not the network's doing.
pub(crate) fn failed(shared: &Shared, peer: &Peer, why: &Ended, mismatch: Option<Mismatch>) {
    let peer = peer.addr();
    let mismatched = mismatch.map(|mismatch| mismatch.reason);
    let Some(reason) = mismatched.or_else(|| why.reason()) else {
        return tracing::debug!(peer, %why, "connection lost");
    };
    shared.metrics.connection_failed(reason);
    if let Some(suppressed) = shared.warnings.pass(reason) {
        let hint = mismatch.map(|mismatch| mismatch.hint);
        tracing::warn!(reason, peer, %why, hint, suppressed, "connection closed");
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

    use super::first_bytes;
    use crate::connection::tcp::set_options;
    use crate::state::lifecycle::{Lifecycle, Phase};

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
            let mut first = [0];
            let (heard, said) = join!(
                first_bytes(&mut stream, &mut first, deadline, &draining),
                peer.write_all(says)
            );
            said.expect("sent");
            assert_eq!(heard.is_some(), !says.is_empty());
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
