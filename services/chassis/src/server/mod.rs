//! A server from its bound listeners to its last connection.

pub(crate) mod admin;
pub(crate) mod connection_limit;
pub(crate) mod descriptors;
pub(crate) mod listener;
pub(crate) mod workers;

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::FutureExt as _;
use tokio::{
    join, select,
    task::spawn_blocking,
    time::{Instant, sleep, timeout_at},
};

use crate::{
    call::{
        Shared,
        auth::Auth,
        call_limit::{CallLimit, Counter},
        served_by::Identity,
    },
    connection::{self, tcp::TcpListener, tls::Tls},
    server::{
        connection_limit::Admission,
        listener::{accept, accept_queued, listen},
        workers::Workers,
    },
    services::{Services, health::Health, reflection, runtime::Runtime},
    settings::{Error, config::Config},
    state::{
        lifecycle::{Lifecycle, Phase},
        reloaded_files::{self, ReloadedFiles},
    },
    telemetry::throttle::Throttle,
};

/// Maximum number of calls and health checks whose request is still being drained after an early response.
/// Each uses some 2 KB, for a second at most. Beyond this number the stream is reset, and h2 charges the data
/// in flight to its connection.
const MOST_LINGERING: usize = 10_000;

/// A server whose listeners are bound: connections queue, and are served once it runs.
pub struct Server {
    name: &'static str,
    grpc: TcpListener,
    admin: TcpListener,
    for_grpc: Arc<Shared>,
    for_admin: Arc<Shared>,
    tls: Option<Tls>,
    files: ReloadedFiles,
    lame_duck: Duration,
    drain_timeout: Duration,
    _closes: Closes,
}

/// Ends the tasks that watch the lifecycle, even if the server has never run.
struct Closes(Lifecycle);

impl Drop for Closes {
    fn drop(&mut self) {
        self.0.enter(Phase::Closed);
    }
}

impl Server {
    /// Does everything that can fail: reads the certificates, binds both listeners, and finds this replica's
    /// identity. `services` must have been built with `runtime`.
    pub async fn bind(
        name: &'static str,
        config: &Config,
        services: Services,
        runtime: Runtime,
    ) -> Result<Self, Error> {
        let Runtime {
            lifecycle,
            dependencies,
            metrics,
            ..
        } = runtime;
        let heartbeat = *config.limits.watch_heartbeat;
        let names = services.names();
        let health = Health::new(names, lifecycle.clone(), dependencies.clone(), heartbeat);
        let mut services = health.clone().add_to(services.layered());
        if config.reflection {
            services = reflection::add_to(services)?;
        }
        let (tls, auth) = in_background({
            let config = config.clone();
            move || Ok((Tls::read(&config)?, Auth::read(&config)?))
        })
        .await?;
        let files = tls.iter().map(Tls::files).chain(auth.files()).collect();
        let grpc = listen("LISTEN_ADDR", &config.listen_addr).await?;
        let admin = listen("ADMIN_LISTEN_ADDR", &config.admin_listen()).await?;
        let identity = Identity::find(config, grpc.local_addr()?).await;
        let shared = |services: Services, auth| {
            Arc::new(Shared {
                registry: services.into_registry(),
                identity: identity.clone(),
                lifecycle: lifecycle.clone(),
                dependencies: dependencies.clone(),
                limits: config.limits.clone(),
                auth,
                metrics: metrics.clone(),
                warnings: Throttle::default(),
                health_checks: Mutex::default(),
                calls: CallLimit::new(&config.limits),
                lingering: Counter::new(MOST_LINGERING),
            })
        };
        Ok(Self {
            name,
            grpc,
            admin,
            for_admin: shared(health.add_to(Services::default()), Auth::default()),
            for_grpc: shared(services, auth),
            tls,
            files,
            lame_duck: *config.lame_duck,
            drain_timeout: *config.drain_timeout,
            _closes: Closes(lifecycle),
        })
    }

    /// The address of the gRPC listener.
    pub fn addr(&self) -> io::Result<SocketAddr> {
        self.grpc.local_addr()
    }

    /// The address of the admin listener.
    pub fn admin_addr(&self) -> io::Result<SocketAddr> {
        self.admin.local_addr()
    }

    /// Serves on the caller's runtime until `shutdown` resolves, and then through the lame duck and the
    /// drain.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        self.run_on(&Workers::none(), shutdown).await;
    }

    /// The same, with the connections distributed over `workers`.
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
        let shares = descriptors::share(for_grpc.limits.max_connections as usize);
        let grpc = async {
            let admission = Admission::new(shares.grpc, &for_grpc.limits);
            let mut serve = |stream, peer: SocketAddr| match admission.admit(peer.ip()) {
                Ok(admitted) => {
                    let (shared, tls) = (for_grpc.clone(), tls.clone());
                    workers.serve(stream, move |stream| {
                        connection::serve(shared, tls, stream, peer).map(|()| drop(admitted))
                    });
                }
                Err(refused) => for_grpc.refuse(refused, &peer.to_string()),
            };
            accept(&self.grpc, lifecycle.reached(Phase::Draining), &mut serve).await;
            let draining_since = Instant::now();
            accept_queued(&self.grpc, &mut serve).await;
            drop(self.grpc);
            drain(workers, &lifecycle, draining_since, self.drain_timeout).await;
            lifecycle.enter(Phase::Closed);
            workers.finished().await;
        };
        // The admin listener runs until the drain ends, because it shows the shutdown to the platform.
        let closed = lifecycle.reached(Phase::Closed);
        let admission = Admission::new(shares.admin, &for_admin.limits);
        let admin = accept(&self.admin, closed, |stream, peer| {
            if let Ok(admitted) = admission.admit(peer.ip()) {
                let connection = admin::serve(name, for_admin.clone(), files.clone(), stream, peer);
                tokio::spawn(connection.map(|()| drop(admitted)));
            }
        });
        let report = |what, is_used: bool| {
            let gauge = for_grpc.metrics.file_problem(what);
            gauge.set((!is_used).into());
        };
        let poll_files = reloaded_files::poll(files.clone(), report);

        lifecycle.enter(Phase::Serving);
        select! {
            _ = async { join!(stop, grpc, admin) } => {}
            () = poll_files => {}
        }
    }
}

/// Runs blocking work off the async threads: a read can block for ever, such as one of a pipe without a
/// writer.
pub(crate) async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    // In the simulation, a seed cannot determine when another thread finishes.
    if cfg!(feature = "simulation") {
        return work();
    }
    spawn_blocking(work).await?
}

/// Waits until every connection has finished its calls, and in the last part of `allowed` terminates
/// calls that are still open.
async fn drain(workers: &Workers, lifecycle: &Lifecycle, since: Instant, allowed: Duration) {
    // Time for clients to see that their streams have ended, and to call another server.
    let notice = Duration::from_secs(5).min(allowed / 2);
    let deadline = since + allowed;
    if (timeout_at(deadline - notice, workers.finished()).await).is_ok() {
        return;
    }
    lifecycle.enter(Phase::Closing);
    if timeout_at(deadline, workers.finished()).await.is_err() {
        tracing::warn!(
            connections = workers.connections(),
            "drain deadline: dropping what is left"
        );
    }
}
