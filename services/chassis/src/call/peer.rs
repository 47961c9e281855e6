//! Whom calls come from, and how many of them are open.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    call::call_limit::{CallLimit, Counter, PeerKey},
    services::context::Client,
    settings::limits::MAX_STREAMS,
    state::lifecycle::Lifecycle,
    wire::certificate::CertificateName,
};

/// Half of the streams of a connection: proxies bring the Watches of many clients, and calls come, too.
const MAX_WATCHES: usize = MAX_STREAMS as usize / 2;

/// A prober's request comes in one piece, or its second is on its way.
const MAX_LATE_CHECKS: usize = 8;

/// One connection, as its calls see it.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) client: Arc<Client>,
    /// Ends the calls that are still open.
    pub(crate) closing: CancellationToken,
    /// The calls of this peer, on all of its connections.
    pub(crate) calls: Counter,
    /// Health Watches of this connection, which are calls besides.
    pub(crate) watches: Counter,
    /// Health checks of this connection whose request is incomplete.
    pub(crate) late_checks: Counter,
    open_calls: AtomicUsize,
    idle_since: Mutex<Instant>,
}

impl Peer {
    pub(crate) fn new(
        addr: SocketAddr,
        names: Vec<CertificateName>,
        lifecycle: &Lifecycle,
        calls: &CallLimit,
    ) -> Self {
        let key = match names.first() {
            Some(name) => PeerKey::Identity(name.clone()),
            None => PeerKey::address(addr.ip()),
        };
        let text = addr.to_string();
        Self {
            client: Arc::new(Client { addr, text, names }),
            closing: lifecycle.closing(),
            calls: calls.peer(key),
            watches: Counter::new(MAX_WATCHES),
            late_checks: Counter::new(MAX_LATE_CHECKS),
            open_calls: AtomicUsize::new(0),
            idle_since: Mutex::new(Instant::now()),
        }
    }

    /// The address, as the log has it.
    pub(crate) fn addr(&self) -> &str {
        &self.client.text
    }

    pub(crate) fn call_begins(&self) {
        self.open_calls.fetch_add(1, Relaxed);
    }

    pub(crate) fn call_ends(&self) {
        // Before the count says so, or `idle_for` would take the time of an earlier call for this one's.
        if self.open_calls.load(Relaxed) == 1 {
            *self.idle_since() = Instant::now();
        }
        self.open_calls.fetch_sub(1, Relaxed);
    }

    /// Resolves when there has been no call for so long.
    pub(crate) async fn idle_for(&self, idle: Duration) {
        loop {
            let now = Instant::now();
            let is_idle = self.open_calls.load(Relaxed) == 0;
            let since = if is_idle { *self.idle_since() } else { now };
            match idle.checked_sub(now - since) {
                Some(left) if !left.is_zero() => sleep(left).await,
                _ => return,
            }
        }
    }

    fn idle_since(&self) -> MutexGuard<'_, Instant> {
        // Nothing panics while it holds the lock.
        self.idle_since
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
