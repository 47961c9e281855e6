//! Notes in Redis or Valkey, for all servers that share it.
//!
//! One task, the keeper, maintains the connection. It connects, probes the connection when a note has failed
//! or none has arrived for half a second, and reconnects when the probe fails. Without a connection, notes
//! are refused at once. With the client's own `ConnectionManager`, calls would wait instead, and a
//! black-holed connection would be kept.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use chassis::{Dependency, Error, Runtime};
use redis::{RedisError, Script, ScriptInvocation};
use tokio::{
    sync::{mpsc, watch},
    time::{sleep, timeout},
};

use super::{Limits, Note, NoteStore, StoreUnavailable};
use crate::point::Point;
use proto::routeguide::route_guide_server::SERVICE_NAME;

mod server;

pub(crate) use server::RedisSettings;
use server::{Connection, said};

/// The store; a task maintains its connection.
pub(crate) struct RedisStore {
    store: Arc<Store>,
}

struct Store {
    settings: RedisSettings,
    script: Script,
    /// Maximum notes at a point.
    most: u32,
    expire: Duration,
    link: watch::Sender<Link>,
    /// The key of a note that failed, so that the keeper probes the connection for it.
    failed: mpsc::Sender<String>,
    /// Whether a note has been stored since the keeper last checked.
    heard: AtomicBool,
}

/// The key for probes.
const PROBE: &str = "notes:probe";

/// The state of the connection.
#[derive(Clone)]
enum Link {
    /// The first connection is being established: notes wait for it until their timeout.
    Connecting,
    Up(Connection),
    Down(StoreUnavailable),
}

impl RedisSettings {
    /// The store in Redis, if the settings select it; the connection is established later.
    pub(crate) fn open(
        self,
        limits: &Limits,
        runtime: &Runtime,
    ) -> Result<Option<RedisStore>, Error> {
        if !self.check()? {
            return Ok(None);
        }
        let mut dependency = runtime.dependency("notes");
        if self.notes_required {
            dependency = dependency.required_by(SERVICE_NAME);
        }
        let (failed, failures) = mpsc::channel(1);
        let store = Arc::new(Store {
            settings: self,
            script: Script::new(include_str!("leave.lua")),
            most: limits.notes_per_point,
            expire: *limits.notes_expire,
            link: watch::Sender::new(Link::Connecting),
            failed,
            heard: AtomicBool::new(false),
        });
        let keeper = store.clone();
        runtime.spawn("notes keeper", async move {
            keeper.keep(&dependency, failures).await;
        });
        Ok(Some(RedisStore { store }))
    }
}

#[async_trait::async_trait]
impl NoteStore for RedisStore {
    async fn leave(&self, point: Point, note: Note) -> Result<Vec<Arc<str>>, StoreUnavailable> {
        let store = &self.store;
        // A single key, so that one node of a cluster can run the script.
        let key = format!("notes:{},{}", point.latitude(), point.longitude());
        let note = store.script(&key, &Entry::new(&note.0), store.most, store.expire);
        let answer = timeout(store.patience(), store.leave(&key, &note)).await;
        match answer.unwrap_or_else(|_| Err(store.no_answer())) {
            Ok(earlier) => {
                store.heard.store(true, Ordering::Relaxed);
                Ok(earlier.iter().map(|entry| Entry::note(entry)).collect())
            }
            Err(problem) => {
                tracing::debug!(reason = %problem.0, "a note was not left");
                store.doubt(key);
                Err(problem)
            }
        }
    }
}

/// A stored note: an id of 16 hexadecimal digits, by which a retry detects that the first attempt succeeded,
/// and the text.
struct Entry(String);

impl Entry {
    const ID_DIGITS: usize = 16;

    fn new(note: &str) -> Self {
        Self(format!("{:016x}{note}", rand::random::<u64>()))
    }

    fn note(entry: &[u8]) -> Arc<str> {
        let text = entry.get(Self::ID_DIGITS..).unwrap_or_default();
        String::from_utf8_lossy(text).into()
    }
}

impl Store {
    /// The timeout for a reply.
    fn patience(&self) -> Duration {
        *self.settings.notes_timeout
    }

    fn no_answer(&self) -> StoreUnavailable {
        let patience = self.settings.notes_timeout;
        StoreUnavailable(format!("no answer within {patience}").into())
    }

    /// The invocation that appends an entry, keeps `most` entries, and sets their expiry.
    fn script(
        &self,
        key: &str,
        Entry(entry): &Entry,
        most: u32,
        expire: Duration,
    ) -> ScriptInvocation<'_> {
        let mut script = self.script.key(key);
        // In 0 ms they would expire before they are read.
        let expire = (expire.as_millis() as u64).max(1);
        script.arg(entry).arg(most).arg(expire);
        script
    }

    /// Stores a note. If the connection breaks, it is retried on the next one.
    async fn leave(
        &self,
        key: &str,
        note: &ScriptInvocation<'_>,
    ) -> Result<Vec<Vec<u8>>, StoreUnavailable> {
        let mut link = self.link.subscribe();
        let connection = ready_link(&mut link).await?;
        let may_repeat = connection.breaks_for_good();
        let error = match connection.run(note).await {
            Ok(earlier) => return Ok(earlier),
            Err(error) => error,
        };
        if !(may_repeat && error.is_connection_dropped()) {
            return Err(self.unavailable(&error));
        }
        self.doubt(key.to_owned());
        // Cannot fail: the sender is in `self`.
        let _ = link.changed().await;
        let again = ready_link(&mut link).await?.run(note).await;
        again.map_err(|error| self.unavailable(&error))
    }

    /// Makes the keeper probe the connection for this key. One pending report is enough.
    fn doubt(&self, key: String) {
        let _ = self.failed.try_send(key);
    }

    fn unavailable(&self, error: &RedisError) -> StoreUnavailable {
        match error.is_timeout() {
            true => self.no_answer(),
            false => StoreUnavailable(said(error).into()),
        }
    }

    /// Maintains a connection for ever, and reports its state.
    async fn keep(&self, dependency: &Dependency, mut failures: mpsc::Receiver<String>) {
        const PAUSE: Duration = Duration::from_millis(250);
        loop {
            match self.connect().await {
                Ok(connection) => {
                    self.link.send_replace(Link::Up(connection.clone()));
                    dependency.up();
                    let problem = self.works(&connection, &mut failures).await;
                    if !connection.breaks_for_good() {
                        // One node may stay down while notes on other nodes still succeed.
                        sleep(PAUSE).await;
                    } else if problem == self.no_answer() {
                        // Other notes need not wait for their timeout. After a closed connection, a
                        // new one may be ready at once.
                        self.link.send_replace(Link::Down(problem));
                    }
                }
                Err(problem) => {
                    self.link.send_replace(Link::Down(problem.clone()));
                    dependency.unavailable(&problem.0);
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// A connection that has passed a probe.
    async fn connect(&self) -> Result<Connection, StoreUnavailable> {
        // For connecting, and for the handshake.
        let connected = timeout(2 * self.patience(), self.settings.connect()).await;
        let connection = connected.map_err(|_| self.no_answer())?;
        let connection = connection.map_err(|error| StoreUnavailable(error.to_string().into()))?;
        self.probe(connection.clone(), PROBE).await?;
        Ok(connection)
    }

    /// Waits until the connection no longer works, at least for a key in use.
    async fn works(
        &self,
        connection: &Connection,
        failures: &mut mpsc::Receiver<String>,
    ) -> StoreUnavailable {
        const INTERVAL: Duration = Duration::from_millis(500);
        loop {
            let failure = timeout(INTERVAL, failures.recv()).await;
            let heard = self.heard.swap(false, Ordering::Relaxed);
            let key = match failure {
                // With the hash tag in braces, a cluster puts it on the same node.
                Ok(Some(key)) => format!("{PROBE}{{{key}}}"),
                _ if heard => continue,
                _ => PROBE.to_owned(),
            };
            if let Err(problem) = self.probe(connection.clone(), &key).await {
                return problem;
            }
        }
    }

    /// Stores a note under a key that is never read: the probe must detect that writes fail.
    async fn probe(&self, connection: Connection, key: &str) -> Result<(), StoreUnavailable> {
        let expire = Duration::from_secs(10);
        let note = self.script(key, &Entry::new(""), 1, expire);
        match timeout(self.patience(), connection.run(&note)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(self.unavailable(&error)),
            Err(_) => Err(self.no_answer()),
        }
    }
}

/// The connection, once it is established or known to be down.
async fn ready_link(link: &mut watch::Receiver<Link>) -> Result<Connection, StoreUnavailable> {
    let settled = link
        .wait_for(|link| !matches!(link, Link::Connecting))
        .await;
    match settled.as_deref() {
        Ok(Link::Up(connection)) => Ok(connection.clone()),
        Ok(Link::Down(problem)) => Err(problem.clone()),
        // The sender is in the store, which the waiting caller holds.
        Ok(Link::Connecting) | Err(_) => Err(StoreUnavailable("closed".into())),
    }
}
