//! The servers behind a channel: name resolution, a subchannel for each address, and the pick for each call.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    future::pending,
    sync::Arc,
    time::Duration,
};

use http::uri::Authority;
use tokio::{
    select,
    sync::{Notify, watch},
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep},
};
use tonic::{Code, Status};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tower::{retry::backoff::Backoff as _, service_fn};

use crate::{
    backoff::backoff,
    connection::{Connector, Sender},
    target::{Hosts, Target},
};

/// The least time between two looks at DNS, and the least that a connection must live not to count as
/// a failure.
const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// The servers, as the tasks that keep the connections say.
#[derive(Debug, Clone)]
pub(crate) struct Pool(watch::Receiver<Servers>);

#[derive(Debug, Default)]
struct Servers {
    /// By address, `HOST:PORT`.
    servers: BTreeMap<String, Server>,
    /// Why the last resolution gave no address.
    resolve_error: Option<Status>,
}

#[derive(Debug, Default)]
struct Server {
    connection: Connection,
    /// One reference for each call in flight, and this.
    calls: Arc<()>,
}

#[derive(Debug, Default)]
enum Connection {
    #[default]
    Connecting,
    Open {
        sender: Sender,
        healthy: bool,
    },
    Failed(Status),
}

/// The server that a call goes to.
#[derive(Debug)]
pub(crate) struct Picked {
    pub(crate) address: String,
    pub(crate) sender: Sender,
    /// To be dropped when the call is over.
    pub(crate) call: Arc<()>,
}

/// What the tasks need to know.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) connector: Connector,
    /// The service whose health is watched.
    pub(crate) health: Option<String>,
    pub(crate) resolve_every: Duration,
}

impl Pool {
    /// Begins to connect. The connections are kept until the pool and all its clones are dropped.
    pub(crate) fn new(target: Target, settings: Settings) -> Self {
        let (servers, pool) = watch::channel(Servers::default());
        let resolver = Resolver {
            servers,
            settings: Arc::new(settings),
            re_resolve: Arc::new(Notify::new()),
        };
        tokio::spawn(resolver.run(target.hosts));
        Self(pool)
    }

    /// Picks the server for a call, one that has not been `asked` if there is any. Waits while all that
    /// is missing is a connection in the making; fails if there is none.
    pub(crate) async fn pick(&mut self, asked: &[String]) -> Result<Picked, Status> {
        loop {
            if let Some(picked) = self.0.borrow_and_update().pick(asked)? {
                return Ok(picked);
            }
            (self.0.changed().await).map_err(|_| Status::internal("the runtime is gone"))?;
        }
    }
}

impl Servers {
    fn pick(&self, asked: &[String]) -> Result<Option<Picked>, Status> {
        let open = self.servers.iter().filter_map(|(address, server)| {
            let Connection::Open { sender, healthy } = &server.connection else {
                return None;
            };
            (!sender.is_closed()).then_some((address, sender, *healthy, &server.calls))
        });
        // One that does not call itself healthy may still serve, and nobody certainly does not. Among
        // equals it is chance, or the first of the list would have most of a light load.
        let best = open.min_by_key(|(address, _, healthy, calls)| {
            let times = asked.iter().filter(|asked| asked == address).count();
            let in_flight = Arc::strong_count(calls);
            (!healthy, times, in_flight, rand::random::<u32>())
        });
        match best {
            Some((address, sender, _, calls)) => Ok(Some(Picked {
                address: address.clone(),
                sender: sender.clone(),
                call: calls.clone(),
            })),
            None => self.failure().map_or(Ok(None), Err),
        }
    }

    /// Why no server can be had, unless one may soon be.
    fn failure(&self) -> Option<Status> {
        let mut failure = self.resolve_error.as_ref();
        for server in self.servers.values() {
            let Connection::Failed(status) = &server.connection else {
                return None;
            };
            failure = Some(status);
        }
        failure.cloned()
    }
}

/// Resolves the target, and has a subchannel for each address.
#[derive(Debug, Clone)]
struct Resolver {
    servers: watch::Sender<Servers>,
    settings: Arc<Settings>,
    /// A server has gone, so there may be others.
    re_resolve: Arc<Notify>,
}

impl Resolver {
    async fn run(self, hosts: Hosts) {
        // Whatever is in it ends with it.
        let mut tasks = JoinSet::new();
        select! {
            () = self.servers.closed() => {}
            () = self.follow(hosts, &mut tasks) => {}
        }
    }

    /// Has a task for each server that there is.
    async fn follow(&self, hosts: Hosts, tasks: &mut JoinSet<()>) {
        let (name, resolver) = match hosts {
            Hosts::Each(hosts) => {
                for host in hosts {
                    self.begin(host.as_str(), &host, tasks);
                }
                return pending().await;
            }
            Hosts::Named(name, resolver) => (name, resolver),
        };
        let mut kept = HashMap::new();
        loop {
            match (resolver.0)().await {
                Ok(addresses) if !addresses.is_empty() => {
                    let addresses: BTreeSet<_> =
                        addresses.iter().map(ToString::to_string).collect();
                    kept.retain(|address: &String, task: &mut AbortHandle| {
                        addresses.contains(address) || self.end(address, task)
                    });
                    for address in addresses {
                        (kept.entry(address))
                            .or_insert_with_key(|address| self.begin(address, &name, tasks));
                    }
                }
                // What was there before stays.
                Ok(_) => self.resolve_error(format!("{name}: no address")),
                Err(error) => self.resolve_error(format!("{name}: {error}")),
            }
            sleep(MIN_INTERVAL).await;
            if kept.is_empty() {
                continue;
            }
            select! {
                () = sleep(self.settings.resolve_every) => {}
                () = self.re_resolve.notified() => {}
            }
        }
    }

    fn begin(&self, address: &str, name: &Authority, tasks: &mut JoinSet<()>) -> AbortHandle {
        while tasks.try_join_next().is_some() {}
        (self.servers)
            .send_modify(|all| _ = all.servers.insert(address.to_owned(), Server::default()));
        tasks.spawn(self.clone().subchannel(address.to_owned(), name.clone()))
    }

    /// The calls that a server has go on.
    fn end(&self, address: &str, task: &AbortHandle) -> bool {
        task.abort();
        self.servers
            .send_modify(|all| _ = all.servers.remove(address));
        false
    }

    fn resolve_error(&self, why: String) {
        (self.servers).send_modify(|all| all.resolve_error = Some(Status::unavailable(why)));
    }

    fn set(&self, address: &str, connection: Connection) {
        self.servers.send_modify(|all| {
            if let Some(server) = all.servers.get_mut(address) {
                server.connection = connection;
            }
        });
    }

    /// Keeps a connection to one address.
    async fn subchannel(self, address: String, name: Authority) {
        let mut pause = backoff();
        loop {
            let began = Instant::now();
            match self.settings.connector.connect(&address, &name).await {
                Ok((sender, closing)) => {
                    select! {
                        () = closing => {}
                        () = self.follow_health(&address, sender) => {}
                    }
                    self.set(&address, Connection::Connecting);
                    if began.elapsed() > MIN_INTERVAL {
                        pause = backoff();
                    }
                }
                Err(status) => self.set(&address, Connection::Failed(status)),
            }
            self.re_resolve.notify_one();
            pause.next_backoff().await;
        }
    }

    /// Offers a connection, and follows what its server says of its health (gRFC A17).
    async fn follow_health(&self, address: &str, sender: Sender) {
        let offer = |healthy| {
            let sender = sender.clone();
            self.set(address, Connection::Open { sender, healthy });
        };
        let Some(service) = &self.settings.health else {
            offer(true);
            return pending().await;
        };
        offer(false);
        let mut client = HealthClient::new(service_fn(|request| {
            let mut sender = sender.clone();
            async move { sender.send(request).await.map_err(|failure| failure.status) }
        }));
        let mut pause = backoff();
        loop {
            let service = service.clone();
            let watch = client.watch(HealthCheckRequest { service }).await;
            let ended = match watch {
                Err(status) => Some(status),
                Ok(updates) => {
                    let mut updates = updates.into_inner();
                    loop {
                        match updates.message().await {
                            Ok(Some(update)) => {
                                pause = backoff();
                                offer(update.status() == ServingStatus::Serving);
                            }
                            Ok(None) => break None,
                            Err(status) => break Some(status),
                        }
                    }
                }
            };
            if ended.is_some_and(|status| status.code() == Code::Unimplemented) {
                offer(true);
                return pending().await;
            }
            // Any other end says nothing about the server: something between may have cut the watch.
            pause.next_backoff().await;
        }
    }
}
