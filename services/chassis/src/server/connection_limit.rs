//! The limits on open connections.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{settings::limits::Limits, telemetry::metrics::Refused, wire::address::network};

/// Counts connections, in total and by peer.
#[derive(Debug, Clone)]
pub(crate) struct Admission {
    open: Arc<Mutex<Open>>,
    most: usize,
    most_per_peer: usize,
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    by_peer: HashMap<IpAddr, usize>,
}

impl Admission {
    pub(crate) fn new(most: usize, limits: &Limits) -> Self {
        Self {
            open: Arc::default(),
            most,
            most_per_peer: limits.max_connections_per_peer as usize,
        }
    }

    /// Counts a connection from `address`, or refuses it.
    pub(crate) fn admit(&self, address: IpAddr) -> Result<Admitted, Refused> {
        let peer = network(address);
        let mut open = self.open();
        let of_peer = open.by_peer.get(&peer).copied().unwrap_or_default();
        if open.total >= self.most {
            return Err(Refused::Connection);
        }
        if of_peer >= self.most_per_peer {
            return Err(Refused::ConnectionOfPeer);
        }
        open.total += 1;
        open.by_peer.insert(peer, of_peer + 1);
        Ok(Admitted {
            admission: self.clone(),
            peer,
        })
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        // No code panics while it holds the lock.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that is counted until this is dropped.
#[derive(Debug)]
pub(crate) struct Admitted {
    admission: Admission,
    peer: IpAddr,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut open = self.admission.open();
        open.total -= 1;
        if let Entry::Occupied(mut count) = open.by_peer.entry(self.peer) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::{Admission, Refused};

    fn admission(most: usize, most_per_peer: usize) -> Admission {
        Admission {
            open: Default::default(),
            most,
            most_per_peer,
        }
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_peer_has_its_share_and_gets_it_back() {
        let admission = admission(10, 2);
        let first = admission.admit(address("192.0.2.1")).expect("room");
        // The same address, as a dual-stack socket reports it.
        let _second = admission.admit(address("::ffff:192.0.2.1")).expect("room");
        let refused = admission
            .admit(address("192.0.2.1"))
            .expect_err("its share");
        assert_eq!(refused, Refused::ConnectionOfPeer);
        let _other = admission.admit(address("192.0.2.2")).expect("room");
        drop(first);
        let _third = admission.admit(address("192.0.2.1")).expect("room");
    }

    #[test]
    fn a_network_of_ipv6_is_one_peer() {
        let admission = admission(10, 1);
        let _first = admission.admit(address("2001:db8::1")).expect("room");
        admission
            .admit(address("2001:db8::2"))
            .expect_err("the same /64");
        let _other = admission.admit(address("2001:db8:0:1::1")).expect("room");
    }

    #[test]
    fn nobody_is_admitted_over_the_total_and_nothing_is_left_behind() {
        let admission = admission(2, 2);
        let both = ["192.0.2.1", "192.0.2.2"].map(|peer| admission.admit(address(peer)));
        let refused = admission.admit(address("192.0.2.3")).expect_err("full");
        assert_eq!(refused, Refused::Connection);
        drop(both);
        let open = admission.open();
        assert_eq!((open.total, open.by_peer.len()), (0, 0));
    }
}
