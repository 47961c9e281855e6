//! The servers behind a channel: which there are, which can take a call, and which is to have the next.

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
    connection::{Connector, Sender},
    retry::backoff,
    target::{Hosts, Target},
};

/// The least time between two looks at DNS, and the least that a connection must live not to count as
/// a failure.
const A_WHILE: Duration = Duration::from_secs(1);

/// The servers, as the tasks that keep the connections say.
#[derive(Debug, Clone)]
pub(crate) struct Pool(watch::Receiver<Servers>);

#[derive(Debug, Default)]
struct Servers {
    /// By address, `HOST:PORT`.
    servers: BTreeMap<String, Server>,
    /// Why there is none, as far as is known.
    nobody: Option<Status>,
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

/// The server that is to have a call.
#[derive(Debug)]
pub(crate) struct Chosen {
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
        let keeper = Keeper {
            servers,
            settings: Arc::new(settings),
            look_again: Arc::new(Notify::new()),
        };
        tokio::spawn(keeper.keep(target.hosts));
        Self(pool)
    }

    /// Chooses the server for a call, one that has not been `asked` if there is any. Waits while all that
    /// is missing is a connection in the making; fails if there is none.
    pub(crate) async fn choose(&mut self, asked: &[String]) -> Result<Chosen, Status> {
        loop {
            if let Some(chosen) = self.0.borrow_and_update().choose(asked)? {
                return Ok(chosen);
            }
            (self.0.changed().await).map_err(|_| Status::internal("the runtime is gone"))?;
        }
    }
}

impl Servers {
    fn choose(&self, asked: &[String]) -> Result<Option<Chosen>, Status> {
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
            Some((address, sender, _, calls)) => Ok(Some(Chosen {
                address: address.clone(),
                sender: sender.clone(),
                call: calls.clone(),
            })),
            None => self.failure().map_or(Ok(None), Err),
        }
    }

    /// Why no server can be had, unless one may soon be.
    fn failure(&self) -> Option<Status> {
        let mut failure = self.nobody.as_ref();
        for server in self.servers.values() {
            let Connection::Failed(status) = &server.connection else {
                return None;
            };
            failure = Some(status);
        }
        failure.cloned()
    }
}

/// Keeps the connections.
#[derive(Debug, Clone)]
struct Keeper {
    servers: watch::Sender<Servers>,
    settings: Arc<Settings>,
    /// A server has gone, so there may be others.
    look_again: Arc<Notify>,
}

impl Keeper {
    async fn keep(self, hosts: Hosts) {
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
                Ok(_) => self.nobody(format!("{name}: no address")),
                Err(error) => self.nobody(format!("{name}: {error}")),
            }
            sleep(A_WHILE).await;
            if kept.is_empty() {
                continue;
            }
            select! {
                () = sleep(self.settings.resolve_every) => {}
                () = self.look_again.notified() => {}
            }
        }
    }

    fn begin(&self, address: &str, name: &Authority, tasks: &mut JoinSet<()>) -> AbortHandle {
        while tasks.try_join_next().is_some() {}
        (self.servers)
            .send_modify(|all| _ = all.servers.insert(address.to_owned(), Server::default()));
        tasks.spawn(self.clone().hold(address.to_owned(), name.clone()))
    }

    /// The calls that a server has go on.
    fn end(&self, address: &str, task: &AbortHandle) -> bool {
        task.abort();
        self.servers
            .send_modify(|all| _ = all.servers.remove(address));
        false
    }

    fn nobody(&self, why: String) {
        (self.servers).send_modify(|all| all.nobody = Some(Status::unavailable(why)));
    }

    fn set(&self, address: &str, connection: Connection) {
        self.servers.send_modify(|all| {
            if let Some(server) = all.servers.get_mut(address) {
                server.connection = connection;
            }
        });
    }

    /// Connects to a server, again and again.
    async fn hold(self, address: String, name: Authority) {
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
                    if began.elapsed() > A_WHILE {
                        pause = backoff();
                    }
                }
                Err(status) => self.set(&address, Connection::Failed(status)),
            }
            self.look_again.notify_one();
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
            async move {
                sender
                    .send(request)
                    .await
                    .map_err(|no_answer| no_answer.status)
            }
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
