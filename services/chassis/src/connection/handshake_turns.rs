//! Turns at something that only so many may do at once, and no peer alone.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Semaphore;

use crate::wire::address::network;

/// How many peers it takes at least to have all turns.
const PEERS: usize = 8;

/// The turns that there are, and each peer's share.
pub(crate) struct Turns {
    all: Semaphore,
    share: usize,
    by_peer: Mutex<HashMap<IpAddr, Arc<Semaphore>>>,
}

impl Turns {
    /// As many for each peer.
    pub(crate) fn each(share: usize) -> Self {
        Self {
            all: Semaphore::new(PEERS * share),
            share,
            by_peer: Mutex::default(),
        }
    }

    /// Does it when it is `address`'s turn.
    pub(crate) async fn take<T>(&self, address: IpAddr, work: impl Future<Output = T>) -> T {
        let share = Share::of(network(address), self);
        // Its own first, so that a peer that has too many waits for itself and keeps nobody else waiting.
        // Neither is ever closed.
        let _own = share.turns.acquire().await;
        let _turn = self.all.acquire().await;
        work.await
    }

    fn by_peer(&self) -> MutexGuard<'_, HashMap<IpAddr, Arc<Semaphore>>> {
        // Nothing panics while it holds the lock.
        self.by_peer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The turns of one peer, which are forgotten with the last that waits for one.
struct Share<'a> {
    peer: IpAddr,
    turns: Arc<Semaphore>,
    all: &'a Turns,
}

impl<'a> Share<'a> {
    fn of(peer: IpAddr, all: &'a Turns) -> Self {
        let mut by_peer = all.by_peer();
        let turns = by_peer.entry(peer);
        let turns = turns.or_insert_with(|| Arc::new(Semaphore::new(all.share)));
        let turns = turns.clone();
        Self { peer, turns, all }
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        let mut by_peer = self.all.by_peer();
        // The map's and this one.
        if Arc::strong_count(&self.turns) == 2 {
            by_peer.remove(&self.peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, net::IpAddr};

    use futures_util::FutureExt as _;

    use super::{PEERS, Turns};

    #[test]
    fn all_turns_are_taken_by_so_many_peers_and_nothing_is_left_behind() {
        let turns = Turns::each(2);
        let address = |last: usize| IpAddr::from([192, 0, 2, last as u8]);
        let mut taken = Vec::new();
        for last in 0..PEERS - 1 {
            // The third has to wait.
            for _ in 0..3 {
                let mut turn = Box::pin(turns.take(address(last), pending::<()>()));
                assert!(turn.as_mut().now_or_never().is_none());
                taken.push(turn);
            }
        }
        let other = || turns.take(address(100), async {}).now_or_never();
        other().expect("a turn that nobody has");
        for _ in 0..2 {
            let mut turn = Box::pin(turns.take(address(PEERS), pending::<()>()));
            assert!(turn.as_mut().now_or_never().is_none());
            taken.push(turn);
        }
        assert!(other().is_none(), "all turns are taken");
        taken.clear();
        other().expect("a turn");
        assert!(turns.by_peer().is_empty());
    }
}
