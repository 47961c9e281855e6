//! A server from its bound listeners to its last connection.

use std::{io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use futures_util::{FutureExt as _, future};
use tokio::{
    join,
    net::{TcpListener, TcpStream},
    select,
    sync::Semaphore,
    task::spawn_blocking,
    time::{sleep, timeout},
};

use crate::{
    Config, Error, admin,
    admission::Admission,
    auth::Auth,
    call::Shared,
    connection,
    followed::{self, AllFollowed},
    health::Health,
    identity::Identity,
    lifecycle::{Lifecycle, Phase},
    metrics::Metrics,
    services::Services,
    tls::Tls,
    workers::Workers,
};

/// A server whose listeners are bound: connections queue, and are answered once it runs.
pub struct Server {
    name: &'static str,
    grpc: TcpListener,
    admin: TcpListener,
    for_grpc: Arc<Shared>,
    for_admin: Arc<Shared>,
    tls: Option<Tls>,
    files: AllFollowed,
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
        let heartbeat = *config.limits.watch_heartbeat;
        let dependencies = services.dependencies.clone();
        let names = services.names();
        let health = Health::new(names, lifecycle.clone(), dependencies.clone(), heartbeat);
        let mut services = services.with_health(health.clone());
        if config.reflection {
            services = services.with_reflection()?;
        }
        let (tls, auth) = in_background({
            let config = config.clone();
            move || Ok((Tls::read(&config)?, Auth::read(&config)?))
        })
        .await?;
        let files = tls.iter().map(Tls::files).chain(auth.files()).collect();
        let identity = Identity::find(config).await;
        let metrics = Arc::new(Metrics::new(&dependencies));
        // At once, Watches included.
        const MOST_CHECKS: usize = 1000;
        let shared = |services, auth| {
            Arc::new(Shared {
                services,
                identity: identity.clone(),
                lifecycle: lifecycle.clone(),
                dependencies: dependencies.clone(),
                limits: config.limits.clone(),
                auth,
                metrics: metrics.clone(),
                calls: Arc::new(Semaphore::new(config.limits.max_calls as usize)),
                checks: Arc::new(Semaphore::new(MOST_CHECKS)),
            })
        };
        Ok(Self {
            name,
            grpc: listen("LISTEN_ADDR", config.listen_addr).await?,
            admin: listen("ADMIN_LISTEN_ADDR", config.admin_listen()).await?,
            for_admin: shared(Services::default().with_health(health), Auth::default()),
            for_grpc: shared(services, auth),
            tls,
            files,
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

    /// Serves on the caller's runtime until `shutdown` resolves, and then for as long as the lame duck and
    /// the drain take.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        self.run_on(&Workers::none(), shutdown).await;
    }

    /// The same, with the connections spread over `workers`.
    pub(crate) async fn run_on(self, workers: &Workers, shutdown: impl Future<Output = ()>) {
        let Self {
            name,
            for_grpc,
            for_admin,
            tls,
            files,
            ..
        } = self;
        let lifecycle = for_grpc.lifecycle.clone();

        let stop = async {
            shutdown.await;
            lifecycle.enter(Phase::LameDuck);
            sleep(self.lame_duck).await;
            lifecycle.enter(Phase::Draining);
        };
        let grpc = async {
            let draining = lifecycle.reached(Phase::Draining);
            let admission = Admission::new(&for_grpc.limits);
            accept(self.grpc, draining, |stream, peer| {
                match admission.admit(peer.ip()) {
                    Ok(admitted) => {
                        let (shared, tls) = (for_grpc.clone(), tls.clone());
                        workers.serve(stream, move |stream| {
                            connection::serve(shared, tls, stream, peer).map(|()| drop(admitted))
                        });
                    }
                    Err(refused) => for_grpc.metrics.refuse(refused),
                }
            })
            .await;
            drain(workers, &lifecycle, self.drain_timeout).await;
            lifecycle.enter(Phase::Closed);
            workers.finished().await;
        };
        // To the end, because that is what tells the platform how the shutdown goes.
        let closed = lifecycle.reached(Phase::Closed);
        let admission = Admission::new(&for_admin.limits);
        let admin = accept(self.admin, closed, |stream, peer| {
            if let Ok(admitted) = admission.admit(peer.ip()) {
                let connection = admin::serve(name, for_admin.clone(), files.clone(), stream, peer);
                tokio::spawn(connection.map(|()| drop(admitted)));
            }
        });
        let follow_files = followed::follow(files.clone(), &for_grpc.metrics);

        lifecycle.enter(Phase::Serving);
        select! {
            _ = async { join!(stop, grpc, admin) } => {}
            () = follow_files => {}
        }
    }
}

/// Does what may wait for a file for ever, such as a pipe that nobody writes to, where nothing else waits.
pub(crate) async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    spawn_blocking(work).await?
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
        match future::select(end.as_mut(), pin!(listener.accept())).await {
            future::Either::Left(_) => break,
            future::Either::Right((Ok((stream, peer)), _)) => serve(stream, peer),
            future::Either::Right((Err(error), _)) => {
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
async fn drain(workers: &Workers, lifecycle: &Lifecycle, allowed: Duration) {
    // Time for clients to hear that their streams end and to call elsewhere.
    let notice = Duration::from_secs(5).min(allowed / 2);
    if timeout(allowed - notice, workers.finished()).await.is_ok() {
        return;
    }
    lifecycle.enter(Phase::Closing);
    if timeout(notice, workers.finished()).await.is_err() {
        tracing::warn!(
            connections = workers.connections(),
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
