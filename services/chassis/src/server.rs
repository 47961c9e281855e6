//! A server from its bound listeners to its last connection.

use std::{io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use futures_util::future::{Either, select};
use tokio::{
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use crate::{
    Config, Error, admin,
    connection::{self, Shared},
    health::Health,
    identity::Identity,
    lifecycle::{Lifecycle, Phase},
    services::Services,
    tls,
};

/// A server whose listeners are bound: connections queue, and are answered once it runs.
pub struct Server {
    name: &'static str,
    grpc: TcpListener,
    admin: TcpListener,
    for_grpc: Arc<Shared>,
    for_admin: Arc<Shared>,
    tls: Option<TlsAcceptor>,
    lame_duck: Duration,
    drain_timeout: Duration,
}

impl Server {
    /// Does all that can fail: reads the certificates, finds out who this is, binds both listeners.
    pub async fn bind(
        name: &'static str,
        config: &Config,
        services: Services,
    ) -> Result<Self, Error> {
        let lifecycle = Lifecycle::new();
        let health = Health::new(services.names(), lifecycle.clone());
        let mut services = services.with_health(health.clone());
        if config.reflection {
            services = services.with_reflection()?;
        }
        let tls = tls::acceptor(config)?;
        let identity = Identity::find(config).await;
        Ok(Self {
            name,
            grpc: listen("LISTEN_ADDR", config.listen_addr).await?,
            admin: listen("ADMIN_LISTEN_ADDR", config.admin_listen()).await?,
            for_admin: Arc::new(Shared {
                services: Services::default().with_health(health),
                identity: identity.clone(),
                lifecycle: lifecycle.clone(),
            }),
            for_grpc: Arc::new(Shared {
                services,
                identity,
                lifecycle,
            }),
            tls,
            lame_duck: *config.lame_duck,
            drain_timeout: *config.drain_timeout,
        })
    }

    /// Where it listens for gRPC.
    pub fn addr(&self) -> io::Result<SocketAddr> {
        self.grpc.local_addr()
    }

    /// Where it listens for admin requests.
    pub fn admin_addr(&self) -> io::Result<SocketAddr> {
        self.admin.local_addr()
    }

    /// Serves until `shutdown` resolves, and then for as long as the lame duck and the drain take.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let lifecycle = self.for_grpc.lifecycle.clone();
        let connections = TaskTracker::new();

        let stop = async {
            shutdown.await;
            lifecycle.enter(Phase::LameDuck);
            sleep(self.lame_duck).await;
            lifecycle.enter(Phase::Draining);
        };
        let grpc = async {
            let draining = lifecycle.reached(Phase::Draining);
            accept(self.grpc, draining, |stream, peer| {
                let (shared, tls) = (self.for_grpc.clone(), self.tls.clone());
                connections.spawn(connection::serve(shared, tls, stream, peer));
            })
            .await;
            connections.close();
            drain(&connections, &lifecycle, self.drain_timeout).await;
            lifecycle.enter(Phase::Closed);
            connections.wait().await;
        };
        // To the end, because that is what tells the platform how the shutdown goes.
        let closed = lifecycle.reached(Phase::Closed);
        let admin = accept(self.admin, closed, |stream, peer| {
            tokio::spawn(admin::serve(
                self.name,
                self.for_admin.clone(),
                stream,
                peer,
            ));
        });

        lifecycle.enter(Phase::Serving);
        tokio::join!(stop, grpc, admin);
    }
}

async fn listen(variable: &str, addr: SocketAddr) -> Result<TcpListener, Error> {
    Ok(TcpListener::bind(addr)
        .await
        .map_err(|error| format!("{variable}={addr}: {error}"))?)
}

/// Accepts connections until `end`, and then those that the kernel has queued: closing the listener
/// would reset them.
async fn accept(
    listener: TcpListener,
    end: impl Future<Output = ()>,
    mut serve: impl FnMut(TcpStream, SocketAddr),
) {
    // Most often the process is out of file descriptors when accepting fails. The queue stays
    // readable, so without a pause the loop would take a whole core until some are free again.
    const PAUSE: Duration = Duration::from_millis(50);
    // An empty queue, and the longest that tokio asks the kernel for.
    const QUIET: Duration = Duration::from_millis(5);
    const LONGEST_QUEUE: usize = 1024;

    let mut end = pin!(end);
    loop {
        match select(end.as_mut(), pin!(listener.accept())).await {
            Either::Left(_) => break,
            Either::Right((Ok((stream, peer)), _)) => serve(stream, peer),
            Either::Right((Err(error), _)) => {
                tracing::warn!(%error, "cannot accept a connection");
                sleep(PAUSE).await;
            }
        }
    }
    for _ in 0..LONGEST_QUEUE {
        match timeout(QUIET, listener.accept()).await {
            Ok(Ok((stream, peer))) => serve(stream, peer),
            _ => break,
        }
    }
}

/// Waits until every connection has finished its calls, and in the last part of `allowed` ends those
/// calls that have not.
async fn drain(connections: &TaskTracker, lifecycle: &Lifecycle, allowed: Duration) {
    // Time for clients to hear that their streams end and to call elsewhere.
    let notice = Duration::from_secs(5).min(allowed / 2);
    if timeout(allowed - notice, connections.wait()).await.is_ok() {
        return;
    }
    lifecycle.enter(Phase::Closing);
    if timeout(notice, connections.wait()).await.is_err() {
        tracing::warn!(
            connections = connections.len(),
            "drain deadline: dropping what is left"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::{future::ready, net::Ipv4Addr};

    use tokio::net::{TcpListener, TcpStream};

    #[tokio::test]
    async fn connections_that_wait_when_the_end_comes_are_accepted() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("a free port");
        let addr = listener.local_addr().expect("bound");
        let mut waiting = Vec::new();
        for _ in 0..10 {
            waiting.push(TcpStream::connect(addr).await.expect("queued"));
        }
        let mut accepted = 0;
        super::accept(listener, ready(()), |_, _| accepted += 1).await;
        assert_eq!(accepted, waiting.len());
    }
}
