//! The connections of clients: TLS, how many requests each may carry, and how long it may be idle.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{Notify, watch},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use super::{Error, Group, Settings, watched::quiet};

pub(super) struct Listener {
    pub(super) settings: Settings,
    pub(super) addr: SocketAddr,
    pub(super) groups: BTreeMap<String, Arc<Group>>,
    tls: Option<TlsAcceptor>,
}

/// A connection of a client.
pub(super) struct Client {
    pub(super) addr: SocketAddr,
    pub(super) in_flight: watch::Sender<usize>,
    requests: AtomicU64,
    is_full: Notify,
}

/// So many streams of a client may be open on a connection.
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-listeners.html>
const STREAMS: u32 = 128;

impl Listener {
    pub(super) fn new(
        settings: Settings,
        addr: SocketAddr,
        groups: BTreeMap<String, Arc<Group>>,
    ) -> Result<Arc<Self>, Error> {
        let tls = match &settings.certificate {
            Some(certificate) => Some(Arc::new(certificate.server_config()?).into()),
            None => None,
        };
        Ok(Arc::new(Self {
            settings,
            addr,
            groups,
            tls,
        }))
    }

    pub(super) async fn run(self: Arc<Self>, bound: TcpListener) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = bound.accept() => match accepted {
                    Ok((stream, addr)) => {
                        connections.spawn(self.clone().secure(stream, addr));
                    }
                    // The client has gone, or no descriptor is left: others may have more luck.
                    Err(_) => tokio::task::yield_now().await,
                },
                Some(_) = connections.join_next() => {}
            }
        }
    }

    async fn secure(self: Arc<Self>, stream: TcpStream, addr: SocketAddr) {
        // Or replies would wait for acknowledgements. It fails only where the client has gone.
        let _ = stream.set_nodelay(true);
        match self.tls.clone() {
            None => self.serve(stream, addr).await,
            Some(tls) => {
                if let Ok(stream) = tls.accept(stream).await {
                    self.serve(stream, addr).await;
                }
            }
        }
    }

    /// Serves a connection until it is full or idle, and then to the end of its requests.
    ///
    /// GOAWAY with NO_ERROR was seen: <https://github.com/swift-server/async-http-client/issues/506>.
    /// That requests in flight may end, and that an idle connection gets a GOAWAY, is assumed.
    async fn serve(
        self: Arc<Self>,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        addr: SocketAddr,
    ) {
        let client = Arc::new(Client {
            addr,
            in_flight: watch::Sender::new(0),
            requests: AtomicU64::new(0),
            is_full: Notify::new(),
        });
        let service = service_fn(|request| {
            let (listener, client) = (self.clone(), client.clone());
            async move { listener.forward(&client, request).await }
        });
        let mut builder = Builder::new(TokioExecutor::new());
        builder.http2().max_concurrent_streams(STREAMS);
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            _ = connection.as_mut() => return,
            () = client.is_full.notified() => {}
            () = quiet(&client.in_flight, self.settings.idle_timeout) => {}
        }
        connection.as_mut().graceful_shutdown();
        // However it ends: the client knows.
        let _ = connection.await;
    }
}

impl Client {
    /// Whether the connection has room for one more request.
    pub(super) fn admits(&self, most: u64) -> bool {
        let before = self.requests.fetch_add(1, Ordering::Relaxed);
        if before + 1 >= most {
            self.is_full.notify_one();
        }
        before < most
    }
}
