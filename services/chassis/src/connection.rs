//! One accepted connection, from its first byte to its last.

use std::{net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use futures_util::future::{Either, select};
use http::{Request, Response};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use crate::{
    access_log::{Call, Followed},
    body::RequestBody,
    guard::{Guarded, guarded},
    health,
    identity::Identity,
    lifecycle::{Lifecycle, Phase},
    services::Services,
};

/// What every call to a listener needs.
pub(crate) struct Shared {
    pub(crate) services: Services,
    pub(crate) identity: Identity,
    pub(crate) lifecycle: Lifecycle,
}

/// Serves one connection until the peer is done with it, or the process is.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    tls: Option<TlsAcceptor>,
    stream: TcpStream,
    peer: SocketAddr,
) {
    const TLS_HANDSHAKE: Duration = Duration::from_secs(5);

    let closed = shared.lifecycle.reached(Phase::Closed);
    let whole_connection = async {
        if !speaks(&stream, &shared.lifecycle).await {
            return;
        }
        // Messages are small and answered at once: waiting to fill a segment only adds delay.
        let _ = stream.set_nodelay(true);
        match tls {
            None => http2(&shared, stream, peer).await,
            Some(tls) => match timeout(TLS_HANDSHAKE, tls.accept(stream)).await {
                Ok(Ok(stream)) => http2(&shared, stream, peer).await,
                Ok(Err(error)) => tracing::debug!(%peer, %error, "TLS handshake failed"),
                Err(_) => tracing::debug!(%peer, "TLS handshake took too long"),
            },
        }
    };
    select(pin!(whole_connection), pin!(closed)).await;
}

/// Whether the peer says anything in time. Clients speak first, and one that stays silent would be a
/// connection for nothing and hold up every drain.
async fn speaks(stream: &TcpStream, lifecycle: &Lifecycle) -> bool {
    const FIRST_BYTE: Duration = Duration::from_secs(5);
    // For what has been sent and not yet arrived.
    const WHEN_DRAINING: Duration = Duration::from_millis(500);

    let mut first = [0];
    let spoken = timeout(FIRST_BYTE, stream.peek(&mut first));
    let too_late = async {
        lifecycle.reached(Phase::Draining).await;
        sleep(WHEN_DRAINING).await;
    };
    matches!(
        select(pin!(spoken), pin!(too_late)).await,
        Either::Left((Ok(Ok(1)), _))
    )
}

async fn http2<T>(shared: &Arc<Shared>, stream: T, peer: SocketAddr)
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = service_fn(|request| {
        let shared = shared.clone();
        async move { Ok::<_, std::convert::Infallible>(answer(&shared, request, peer).await) }
    });
    let mut connection = pin!(settings().serve_connection(TokioIo::new(stream), service));
    let draining = pin!(shared.lifecycle.reached(Phase::Draining));
    let ended = match select(connection.as_mut(), draining).await {
        Either::Left((ended, _)) => ended,
        Either::Right(_) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "connection failed");
    }
}

/// HTTP/2 as our small messages and unknown peers need it. Every limit is per connection.
fn settings() -> http2::Builder<TokioExecutor> {
    let mut settings = http2::Builder::new(TokioExecutor::new());
    settings
        .timer(TokioTimer::new())
        .max_concurrent_streams(200)
        // Guards against a peer that opens streams and resets them, or has us reset them, at speed.
        // CVE-2023-44487, and CVE-2025-8671 (RUSTSEC-2024-0003).
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(1024)
        .max_header_list_size(16 * 1024)
        // What a peer can make us hold of bodies that no handler has read yet.
        .initial_stream_window_size(64 * 1024)
        .initial_connection_window_size(1024 * 1024)
        // A peer that has gone without a word must not be kept.
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(10));
    settings
}

/// The life of a request: log, count, guard, dispatch, and say who answered.
pub(crate) async fn answer(
    shared: &Shared,
    request: Request<Incoming>,
    peer: SocketAddr,
) -> Response<Followed<Guarded>> {
    let call = Call::begin(&request, peer);
    let request = request.map(|body| RequestBody::new(body, call.received()));
    let mut response = guarded(
        async {
            if health::is_load_balancer_check(request.uri().path(), request.headers()) {
                health::load_balancer_answer(request, &shared.lifecycle).await
            } else {
                shared.services.call(request).await
            }
        },
        &shared.lifecycle,
    )
    .await;
    shared.identity.stamp(response.headers_mut());
    call.follow(response)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::{
        io::AsyncWriteExt as _,
        join,
        net::{TcpListener, TcpStream},
    };

    use super::speaks;
    use crate::lifecycle::{Lifecycle, Phase};

    #[tokio::test]
    async fn a_peer_whose_first_byte_is_on_its_way_when_draining_is_heard() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("a free port");
        let addr = listener.local_addr().expect("bound");
        let draining = Lifecycle::new();
        draining.enter(Phase::Draining);
        for says in [b"PRI".as_slice(), b""] {
            let mut peer = TcpStream::connect(addr).await.expect("queued");
            let (stream, _) = listener.accept().await.expect("accepted");
            let (heard, said) = join!(speaks(&stream, &draining), peer.write_all(says));
            said.expect("sent");
            assert_eq!(heard, !says.is_empty());
        }
    }
}
