//! A client channel that knows gRPC: many servers as one, and no call lost that need not be.
//!
//! [`Channel`] is what a generated client is made of: `GreeterClient::new(channel)`. It keeps a
//! connection to every server of its [`Target`], gives each call to the healthy server with the fewest
//! in flight, and tries again what no server has begun with. `pool` keeps the connections and chooses,
//! `connection` is one of them, `retry` says what is tried again, `replay` keeps what may have to be sent
//! again.
//!
//! tonic's own channel is not used: it balances by chance, as it sees no load, does not follow health, and
//! gives a call up that a server never began with.

use std::{
    fmt,
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response, uri::Authority};
use tokio::time::timeout_at;
use tonic::{Status, body::Body};
use tower::{Service, retry::budget::TpsBudget};

mod backoff;
mod connection;
mod deadline;
mod net;
mod pool;
mod replay;
mod reply;
mod retry;
mod target;
mod tls;

pub use connection::Silent;
pub use reply::Reply;
pub use target::Target;
pub use tls::{AnyCertificate, Trust};

/// How a channel goes about it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What to send as `:authority`, and the name to expect in certificates, if not the server's own.
    pub authority: Option<Authority>,
    /// How servers are verified, over TLS. Files are read again for each connection.
    pub trust: Trust,
    /// PEM files with the certificate to show, over TLS, and its private key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// How long connecting may take, to the first word of the server in HTTP/2.
    pub connect_timeout: Duration,
    /// The service whose health is watched (gRFC A17), `""` for the server as a whole. One server alone
    /// is not watched: there is no other to turn to, and it may be a load balancer.
    pub health: Option<String>,
    /// The paths, `/package.Service/Method`, of the methods that may be carried out twice.
    pub idempotent: &'static [&'static str],
    /// How often to look a `dns:///` name up again. It is also looked up when a connection goes, but not
    /// twice in a second.
    pub resolve_every: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            authority: None,
            trust: Trust::System,
            identity: None,
            connect_timeout: Duration::from_secs(10),
            health: Some(String::new()),
            idempotent: &[],
            resolve_every: Duration::from_secs(10),
        }
    }
}

/// A channel to one or more servers. Clones share its connections, which close when the last is dropped
/// and the calls on them are over.
///
/// The deadline of a call is its `grpc-timeout` (`Request::set_timeout`); it bounds all attempts, and
/// the stream of replies to its end.
#[derive(Debug, Clone)]
pub struct Channel {
    pool: pool::Pool,
    shared: Arc<Shared>,
}

struct Shared {
    idempotent: &'static [&'static str],
    budget: TpsBudget,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("idempotent", &self.idempotent)
            .finish_non_exhaustive()
    }
}

impl Channel {
    /// A channel, within a tokio runtime. It connects in the background; calls wait for that.
    ///
    /// Fails if files for TLS are no good; the error names the file.
    pub fn new(target: Target, settings: Settings) -> Result<Self, String> {
        let tls = match target.is_tls() {
            true => Some(tls::Tls::new(settings.trust, settings.identity)?),
            false => None,
        };
        let connector = connection::Connector {
            scheme: target.scheme.clone(),
            authority: settings.authority,
            tls,
            timeout: settings.connect_timeout,
        };
        let health = settings.health.filter(|_| target.is_several());
        let settings_of_pool = pool::Settings {
            connector,
            health,
            resolve_every: settings.resolve_every,
        };
        // Of ten calls one may be tried again, and ten a second besides; over ten seconds.
        let budget = TpsBudget::new(Duration::from_secs(10), 10, 0.1);
        Ok(Self {
            pool: pool::Pool::new(target, settings_of_pool),
            shared: Arc::new(Shared {
                idempotent: settings.idempotent,
                budget,
            }),
        })
    }

    /// Like [`Channel::new`], but waits for a connection, and fails as the first attempts do: with
    /// UNAVAILABLE, and [`Silent`] for a source if a server was reached and said nothing.
    ///
    /// The outer error is that of [`Channel::new`].
    pub async fn connect(
        target: Target,
        settings: Settings,
    ) -> Result<Result<Self, Status>, String> {
        let channel = Self::new(target, settings)?;
        let connected = channel.pool.clone().pick(&[]).await;
        Ok(connected.map(|_| channel))
    }

    async fn answer(self, request: Request<Body>) -> Result<Response<Reply>, Status> {
        let deadline = deadline::of(request.headers());
        let call = retry::call(self.pool, &self.shared, request, deadline);
        let (answer, request) = match deadline {
            None => call.await,
            Some(deadline) => {
                (timeout_at(deadline, call).await).map_err(|_| deadline::exceeded())?
            }
        };
        let (response, call) = answer?;
        let ended = response.headers().contains_key(Status::GRPC_STATUS);
        Ok(response.map(|body| Reply::new(body, ended, deadline, request, call)))
    }
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Reply>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Reply>, Status>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.clone().answer(request))
    }
}
