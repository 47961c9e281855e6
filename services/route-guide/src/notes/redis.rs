//! Notes in Redis or Valkey, for all servers that share it.
//!
//! One task, the keeper, holds the connection: it makes it, asks whether it works when a note has failed
//! or none has come for half a second, and makes another when it does not. While there is none, notes are
//! refused without a try. The client's own `ConnectionManager` has calls wait instead, and keeps a
//! connection that swallows everything.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use chassis::{Dependency, Error, Services};
use redis::{RedisError, Script, ScriptInvocation};
use tokio::{
    sync::{Notify, watch},
    time::{sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;

use super::{Away, Limits, Note};
use crate::point::Point;

mod server;

pub(crate) use server::RedisSettings;
use server::{Connection, said};

/// The notes, and the task that keeps a connection to them.
pub(crate) struct Notes {
    store: Arc<Store>,
    _keeper: AbortOnDropHandle<()>,
}

struct Store {
    settings: RedisSettings,
    script: Script,
    /// Most notes at a point.
    most: u32,
    expire: Duration,
    link: watch::Sender<Link>,
    /// A note has failed: does the connection still work?
    failed: Notify,
    /// A note has been left since the keeper last looked.
    heard: AtomicBool,
}

/// What notes go by.
#[derive(Clone)]
enum Link {
    /// Being made: notes wait for it as long as they may.
    Coming,
    Up(Connection),
    Away(Away),
}

impl RedisSettings {
    /// The notes in Redis, if they are to be there, with the connection still to come.
    pub(crate) fn open(
        self,
        limits: &Limits,
        services: &Services,
        service: &'static str,
    ) -> Result<Option<Notes>, Error> {
        if self.notes_url.is_none() {
            return Ok(None);
        }
        self.check()?;
        let dependency = services.depend_on("notes", self.notes_required.then_some(service));
        let store = Arc::new(Store {
            settings: self,
            script: Script::new(include_str!("leave.lua")),
            most: limits.notes_per_point,
            expire: *limits.notes_expire,
            link: watch::Sender::new(Link::Coming),
            failed: Notify::new(),
            heard: AtomicBool::new(false),
        });
        let keeper = tokio::spawn({
            let store = store.clone();
            async move { store.keep(&dependency).await }
        });
        let _keeper = AbortOnDropHandle::new(keeper);
        Ok(Some(Notes { store, _keeper }))
    }
}

#[async_trait::async_trait]
impl super::Notes for Notes {
    async fn leave(&self, point: Point, note: Note) -> Result<Vec<Arc<str>>, Away> {
        let store = &self.store;
        // One key, so that one node of a cluster can answer.
        let key = format!("notes:{},{}", point.latitude(), point.longitude());
        let note = store.script(&key, &Entry::new(&note.0), store.most);
        let earlier = match timeout(store.patience(), store.leave(&note)).await {
            Ok(answer) => answer?,
            Err(_) => {
                store.failed.notify_one();
                return Err(store.no_answer());
            }
        };
        store.heard.store(true, Ordering::Relaxed);
        Ok(earlier.iter().map(|entry| Entry::note(entry)).collect())
    }
}

/// A note as it is kept: 16 hexadecimal digits that are its own, by which a second attempt finds that the
/// first one came through, and the text.
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
    /// How long to wait for an answer.
    fn patience(&self) -> Duration {
        *self.settings.notes_timeout
    }

    fn no_answer(&self) -> Away {
        let patience = self.settings.notes_timeout;
        Away(format!("no answer within {patience}").into())
    }

    /// What leaves an entry and keeps `most` of them.
    fn script(&self, key: &str, Entry(entry): &Entry, most: u32) -> ScriptInvocation<'_> {
        let mut script = self.script.key(key);
        let expire = self.expire.as_millis() as u64;
        script.arg(entry).arg(most).arg(expire);
        script
    }

    /// Leaves a note. If the connection breaks, the next one is tried.
    async fn leave(&self, note: &ScriptInvocation<'_>) -> Result<Vec<Vec<u8>>, Away> {
        let mut link = self.link.subscribe();
        let error = match connection(&mut link).await?.run(note).await {
            Ok(earlier) => return Ok(earlier),
            Err(error) => error,
        };
        self.failed.notify_one();
        if !error.is_connection_dropped() {
            return Err(away(&error));
        }
        // Cannot fail: the sender is in `self`.
        let _ = link.changed().await;
        let again = connection(&mut link).await?.run(note).await;
        again.map_err(|error| away(&error))
    }

    /// Keeps a connection for ever, and says how it stands.
    async fn keep(&self, dependency: &Dependency) {
        const PAUSE: Duration = Duration::from_millis(250);
        loop {
            match self.connect().await {
                Ok(connection) => {
                    dependency.up();
                    self.link.send_replace(Link::Up(connection.clone()));
                    self.works(&connection).await;
                    self.link.send_replace(Link::Coming);
                }
                Err(problem) => {
                    dependency.away(&problem.0);
                    self.link.send_replace(Link::Away(problem));
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// A connection that works.
    async fn connect(&self) -> Result<Connection, Away> {
        // For the connection and for who connects.
        let connected = timeout(2 * self.patience(), self.settings.connect()).await;
        let connection = connected.map_err(|_| self.no_answer())?;
        let connection = connection.map_err(|error| Away(error.to_string().into()))?;
        self.probe(connection.clone()).await?;
        Ok(connection)
    }

    /// Waits until the connection does not work any more.
    async fn works(&self, connection: &Connection) {
        const INTERVAL: Duration = Duration::from_millis(500);
        loop {
            let doubted = timeout(INTERVAL, self.failed.notified()).await.is_ok();
            let heard = self.heard.swap(false, Ordering::Relaxed);
            if (doubted || !heard) && self.probe(connection.clone()).await.is_err() {
                return;
            }
        }
    }

    /// Leaves a note where nobody looks: what comes through when nothing can be written is no help.
    async fn probe(&self, connection: Connection) -> Result<(), Away> {
        let note = self.script("notes:probe", &Entry::new(""), 1);
        match timeout(self.patience(), connection.run(&note)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(away(&error)),
            Err(_) => Err(self.no_answer()),
        }
    }
}

/// The connection, once it is there or known to be away.
async fn connection(link: &mut watch::Receiver<Link>) -> Result<Connection, Away> {
    let settled = link.wait_for(|link| !matches!(link, Link::Coming)).await;
    match settled.as_deref() {
        Ok(Link::Up(connection)) => Ok(connection.clone()),
        Ok(Link::Away(problem)) => Err(problem.clone()),
        // The sender is in the store, which whoever waits here holds.
        Ok(Link::Coming) | Err(_) => Err(Away("closed".into())),
    }
}

fn away(error: &RedisError) -> Away {
    Away(said(error).into())
}
