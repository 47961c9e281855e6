//! One target: its state, what is in flight to it, and the connections that carry it.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use http::{Request, Response, StatusCode, Uri};
use hyper::{
    body::{Body, Incoming},
    client::conn::http2::{SendRequest, handshake},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::watch,
    time::timeout,
};
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

use super::{
    Error,
    watched::{Count, Watched, quiet},
};

/// How a target is.
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/application/target-group-health-checks.html#target-health-states>
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Its first checks are going on.
    Initial,
    /// It gets requests.
    Healthy,
    /// It gets requests only where no target is healthy.
    Unhealthy,
    /// It has been deregistered, and requests are in flight. ALB shows this until the deregistration
    /// delay is over, even when nothing is left in flight; here it ends then.
    Draining,
    /// It is not registered.
    Unused,
}

#[derive(Debug)]
pub(super) struct Target {
    pub(super) addr: SocketAddr,
    pub(super) in_flight: watch::Sender<usize>,
    state: watch::Sender<State>,
    links: Mutex<Vec<Link>>,
    settings: TargetSettings,
}

/// What all targets of a group have in common.
#[derive(Debug, Clone)]
pub(super) struct TargetSettings {
    pub(super) tls: Option<Arc<ClientConfig>>,
    pub(super) requests_on_a_connection: usize,
    pub(super) connect_timeout: Duration,
    pub(super) idle_timeout: Duration,
}

/// A connection, and the requests on it.
#[derive(Debug)]
struct Link {
    requests: SendRequest<Watched>,
    in_flight: watch::Sender<usize>,
    _task: AbortOnDropHandle<()>,
}

impl Target {
    pub(super) fn new(addr: SocketAddr, settings: TargetSettings) -> Arc<Self> {
        Arc::new(Self {
            addr,
            in_flight: watch::Sender::new(0),
            state: watch::Sender::new(State::Initial),
            links: Mutex::default(),
            settings,
        })
    }

    pub(super) fn state(&self) -> State {
        *self.state.borrow()
    }

    pub(super) async fn reaches(&self, state: State) {
        // It cannot be closed: the sender is borrowed.
        let _ = self.state.subscribe().wait_for(|now| *now == state).await;
    }

    /// Changes the state, and says whether the target still takes part.
    pub(super) fn change(&self, next: impl FnOnce(State) -> State) -> bool {
        let mut takes_part = true;
        self.state.send_if_modified(|state| {
            takes_part = !matches!(state, State::Draining | State::Unused);
            let next = if takes_part { next(*state) } else { *state };
            std::mem::replace(state, next) != next
        });
        takes_part
    }

    /// Waits for what is in flight, for so long at most, and cuts what is left.
    pub(super) async fn drain(&self, delay: Duration) {
        self.change(|_| State::Draining);
        let mut in_flight = self.in_flight.subscribe();
        let _ = timeout(delay, in_flight.wait_for(|count| *count == 0)).await;
        self.state.send_replace(State::Unused);
        self.links().clear();
    }

    /// What a request for this path is addressed to.
    pub(super) fn url(&self, path: &str) -> Result<Uri, http::Error> {
        self.addressed(self.addr.to_string().as_str(), path)
    }

    pub(super) fn addressed(&self, authority: &str, path: &str) -> Result<Uri, http::Error> {
        let scheme = if self.settings.tls.is_some() {
            "https"
        } else {
            "http"
        };
        let uri = Uri::builder().scheme(scheme).authority(authority);
        uri.path_and_query(path).build()
    }

    /// Sends a request, and says what to tell the client if nothing comes back.
    ///
    /// One that was never written, because its connection was closing, takes another. One that the
    /// target refused or dropped is not sent again: assumed, as AWS speaks of no retry.
    pub(super) async fn send(
        self: &Arc<Self>,
        mut request: Request<Watched>,
    ) -> Result<(Response<Incoming>, Count), StatusCode> {
        loop {
            let (mut link, count, is_new) = match self.pooled() {
                Some((link, count)) => (link, count, false),
                None => {
                    let (link, count) = self.link().await?;
                    (link, count, true)
                }
            };
            match link.try_send_request(request).await {
                Ok(response) => return Ok((response, count)),
                Err(mut error) => match error.take_message() {
                    Some(unsent) if !is_new => request = unsent,
                    _ => return Err(StatusCode::BAD_GATEWAY),
                },
            }
        }
    }

    /// A connection that is free.
    fn pooled(&self) -> Option<(SendRequest<Watched>, Count)> {
        let mut links = self.links();
        links.retain(|link| !link.requests.is_closed());
        let most = self.settings.requests_on_a_connection;
        let is_free = |link: &&Link| *link.in_flight.borrow() < most;
        let link = links.iter().find(is_free)?;
        Some((link.requests.clone(), Count::of(&link.in_flight)))
    }

    /// A new connection, with a first request counted.
    async fn link(self: &Arc<Self>) -> Result<(SendRequest<Watched>, Count), StatusCode> {
        let (requests, connection) = self.connect().await?;
        let in_flight = watch::Sender::new(0);
        let count = Count::of(&in_flight);
        let run = Self::run(Arc::downgrade(self), connection, in_flight.clone());
        self.links().push(Link {
            requests: requests.clone(),
            in_flight,
            _task: AbortOnDropHandle::new(tokio::spawn(run)),
        });
        Ok((requests, count))
    }

    async fn run(
        target: Weak<Self>,
        connection: impl Future<Output = ()>,
        in_flight: watch::Sender<usize>,
    ) {
        let mut connection = std::pin::pin!(connection);
        while let Some(idle_timeout) = target.upgrade().map(|target| target.settings.idle_timeout) {
            tokio::select! {
                () = &mut connection => return,
                () = quiet(&in_flight, idle_timeout) => {}
            }
            let Some(target) = target.upgrade() else {
                return;
            };
            let mut links = target.links();
            // Under the lock that requests are given out under, so that none is given a closing one.
            if *in_flight.borrow() == 0 {
                links.retain(|link| !link.in_flight.same_channel(&in_flight));
            }
        }
    }

    /// Connects, and shakes hands.
    pub(super) async fn connect<B>(
        &self,
    ) -> Result<(SendRequest<B>, impl Future<Output = ()> + Send + use<B>), StatusCode>
    where
        B: Body<Error: Into<Error>, Data: Send> + Unpin + Send + 'static,
    {
        let stream = timeout(self.settings.connect_timeout, TcpStream::connect(self.addr)).await;
        let stream = stream.map_err(|_| StatusCode::GATEWAY_TIMEOUT)?;
        let stream = self.secure(stream).await;
        let stream = stream.map_err(|_| StatusCode::BAD_GATEWAY)?;
        let connection = handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
        let (requests, connection) = connection.map_err(|_| StatusCode::BAD_GATEWAY)?;
        let connection = async {
            // However it ends: the requests on it know.
            let _ = connection.await;
        };
        Ok((requests, connection))
    }

    async fn secure(&self, stream: io::Result<TcpStream>) -> io::Result<Box<dyn Stream>> {
        let stream = stream?;
        stream.set_nodelay(true)?;
        let Some(tls) = &self.settings.tls else {
            return Ok(Box::new(stream));
        };
        let name = ServerName::IpAddress(self.addr.ip().into());
        let handshake = TlsConnector::from(tls.clone()).connect(name, stream);
        Ok(Box::new(
            timeout(self.settings.connect_timeout, handshake).await??,
        ))
    }

    fn links(&self) -> MutexGuard<'_, Vec<Link>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}
