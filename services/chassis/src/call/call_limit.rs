//! How many calls there may be at once: of all peers together and of each.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use crate::{
    settings::limits::Limits,
    telemetry::metrics::Refused,
    wire::{address::network, certificate::CertificateName},
};

/// Counts up to a limit.
#[derive(Debug, Clone)]
pub(crate) struct Counter {
    taken: Arc<AtomicUsize>,
    most: usize,
}

/// One that is counted until this is dropped.
#[derive(Debug)]
pub(crate) struct Taken(Arc<AtomicUsize>);

impl Counter {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            taken: Arc::default(),
            most,
        }
    }

    /// Counts one more, unless there are too many.
    pub(crate) fn take(&self) -> Option<Taken> {
        let more = |taken| (taken < self.most).then_some(taken + 1);
        let found = self.taken.fetch_update(Relaxed, Relaxed, more);
        found.ok().map(|_| Taken(self.taken.clone()))
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Who is limited as one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum PeerKey {
    /// An IPv4 address or an IPv6 /64.
    Address(IpAddr),
    /// The first name in a client certificate, wherever it connects from.
    Identity(CertificateName),
}

impl PeerKey {
    pub(crate) fn address(address: IpAddr) -> Self {
        Self::Address(network(address))
    }
}

/// Counts calls.
#[derive(Debug)]
pub(crate) struct CallLimit {
    all: Counter,
    most_per_peer: usize,
    peers: Mutex<Peers>,
}

/// The counts of the peers that have a connection, and of some that had.
#[derive(Debug, Default)]
struct Peers {
    counts: HashMap<PeerKey, Weak<AtomicUsize>>,
    /// How many there may be before those without a connection are removed.
    most: usize,
}

/// A call that is counted until this is dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    _all: Taken,
    _of_peer: Taken,
}

impl CallLimit {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            all: Counter::new(limits.max_calls as usize),
            most_per_peer: limits.max_calls_per_peer() as usize,
            peers: Mutex::default(),
        }
    }

    /// The count of one peer, which all of its connections share.
    pub(crate) fn peer(&self, key: PeerKey) -> Counter {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let known = peers.counts.get(&key).and_then(Weak::upgrade);
        let taken = known.unwrap_or_else(|| peers.add(key));
        Counter {
            taken,
            most: self.most_per_peer,
        }
    }

    /// Counts a call of this peer, or refuses it.
    pub(crate) fn admit(&self, peer: &Counter) -> Result<Permit, Refused> {
        Ok(Permit {
            _of_peer: peer.take().ok_or(Refused::CallOfPeer)?,
            _all: self.all.take().ok_or(Refused::Call)?,
        })
    }
}

impl Peers {
    fn add(&mut self, key: PeerKey) -> Arc<AtomicUsize> {
        const FEW: usize = 64;
        if self.counts.len() >= self.most {
            self.counts.retain(|_, count| count.strong_count() > 0);
            self.most = FEW + 2 * self.counts.len();
        }
        let count = Arc::default();
        self.counts.insert(key, Arc::downgrade(&count));
        count
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::{CallLimit, CertificateName, Counter, PeerKey, Peers, Refused};

    fn limit(all: usize, most_per_peer: usize) -> CallLimit {
        CallLimit {
            all: Counter::new(all),
            most_per_peer,
            peers: Peers::default().into(),
        }
    }

    fn address(text: &str) -> PeerKey {
        PeerKey::address(text.parse::<IpAddr>().expect("an address"))
    }

    #[test]
    fn a_peer_has_its_share_over_all_of_its_connections() {
        let limit = limit(3, 2);
        let [one, again] = ["192.0.2.1", "::ffff:192.0.2.1"].map(|peer| limit.peer(address(peer)));
        let other = limit.peer(address("192.0.2.2"));
        let first = limit.admit(&one).expect("room");
        let _second = limit.admit(&again).expect("room");
        assert_eq!(
            limit.admit(&one).expect_err("its share"),
            Refused::CallOfPeer
        );
        let _third = limit.admit(&other).expect("room");
        assert_eq!(limit.admit(&other).expect_err("full"), Refused::Call);
        drop(first);
        let _fourth = limit.admit(&other).expect("room");
    }

    #[test]
    fn an_identity_is_one_peer_wherever_it_is() {
        let limit = limit(3, 1);
        let name = || PeerKey::Identity(CertificateName::Uri("spiffe://x/a".to_owned()));
        let _call = limit.admit(&limit.peer(name())).expect("room");
        limit.admit(&limit.peer(name())).expect_err("its share");
        limit
            .admit(&limit.peer(address("192.0.2.1")))
            .expect("room");
    }

    #[test]
    fn peers_that_have_gone_are_forgotten() {
        let limit = limit(1, 1);
        let stays = limit.peer(address("198.51.100.1"));
        let _call = limit.admit(&stays).expect("room");
        for peer in 0..100_000_u32 {
            limit.peer(PeerKey::Address(IpAddr::from(peer.to_be_bytes())));
        }
        let known = limit.peers.lock().expect("no panic").counts.len();
        assert!(known < 200, "{known}");
        let again = limit.peer(address("198.51.100.1"));
        assert_eq!(
            limit.admit(&again).expect_err("its share"),
            Refused::CallOfPeer
        );
    }
}
