//! How evenly the calls of one busy client fall on our servers, and how soon on new ones.

use std::{
    collections::VecDeque,
    iter,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use harness::measurement::{Measurement, Side, time};
use proto::routeguide::{Point, route_guide_client::RouteGuideClient};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tonic::metadata::MetadataMap;

use crate::rollout::{
    Options,
    caller::Transport,
    fleet::{self, Replica},
    forwarder::Forwarder,
    paths,
};

const SERVERS: usize = 4;

/// How many calls are open at any time.
const AT_ONCE: usize = 48;

const AGE: [&str; 1] = ["--max-connection-age=2s"];

/// A way to balance calls to measure.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) goal: &'static str,
    pub(crate) measure: fn(&Options) -> Pin<Box<dyn Future<Output = Measurement>>>,
}

pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "balance-l4",
        goal: "none: one connection stays where it is",
        measure: |_| Box::pin(l4(&[], Duration::from_secs(3))),
    },
    Row {
        name: "balance-l4-age",
        goal: "none: one connection is in one place at a time",
        measure: |options| Box::pin(l4(&AGE, options.ages())),
    },
    Row {
        name: "balance-l7",
        goal: EVEN,
        measure: |_| Box::pin(l7()),
    },
    Row {
        name: "balance-direct",
        goal: EVEN,
        measure: |_| Box::pin(direct(paths::ours, true)),
    },
    Row {
        name: "balance-tonic",
        goal: "none: tonic's `balance_list`",
        measure: |_| Box::pin(direct(paths::plain, false)),
    },
    Row {
        name: "scale-l4-age",
        goal: "two new servers have 90 % of their share ≤ 5 s, 0 lost (40 connections)",
        measure: |_| Box::pin(scale_l4()),
    },
    Row {
        name: "scale-direct",
        goal: "two new servers have 90 % of their share ≤ 5 s, 0 lost",
        measure: |_| Box::pin(scale_direct(paths::ours_growing, true)),
    },
    Row {
        name: "scale-tonic",
        goal: "none: tonic's `balance_channel`, told of the new ones",
        measure: |_| Box::pin(scale_direct(paths::plain_growing, false)),
    },
];

const EVEN: &str = "Jain's index ≥ 0.99, 0 lost";

/// How many calls each server has answered, by its `x-served-by`.
#[derive(Debug, Default)]
struct Shares {
    served: [AtomicU64; SERVERS],
    failed: AtomicU64,
}

impl Shares {
    fn now(&self) -> [u64; SERVERS] {
        self.served.each_ref().map(|count| count.load(Relaxed))
    }

    fn count(&self, metadata: &MetadataMap) {
        let name = metadata
            .get("x-served-by")
            .and_then(|name| name.to_str().ok());
        let number = name.and_then(|name| name.strip_prefix("10.0.0.")?.parse::<usize>().ok());
        let count = number.and_then(|number| self.served.get(number.checked_sub(1)?));
        count.unwrap_or(&self.failed).fetch_add(1, Relaxed);
    }
}

/// A busy client, until this is dropped.
struct Busy {
    shares: Arc<Shares>,
    _tasks: JoinSet<()>,
}

impl Busy {
    fn start<T: Transport>(transports: &[T]) -> Self {
        let shares = Arc::new(Shares::default());
        let mut tasks = JoinSet::new();
        for transport in transports.iter().cycle().take(AT_ONCE) {
            tasks.spawn(call(transport.clone(), shares.clone()));
        }
        Self {
            shares,
            _tasks: tasks,
        }
    }

    /// Who served how many calls in this time, of the first three servers.
    async fn over(&self, time: Duration) -> [u64; 3] {
        let before = self.shares.now();
        sleep(time).await;
        let after = self.shares.now();
        [0, 1, 2].map(|server| after[server] - before[server])
    }

    fn failed(&self) -> u64 {
        self.shares.failed.load(Relaxed)
    }
}

async fn call(transport: impl Transport, shares: Arc<Shares>) {
    let mut client = RouteGuideClient::new(transport);
    loop {
        match client.get_feature(Point::default()).await {
            Ok(answer) => shares.count(answer.metadata()),
            Err(_) => {
                shares.failed.fetch_add(1, Relaxed);
                sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

async fn l4(flags: &[&str], lasts: Duration) -> Measurement {
    let replicas = fleet::start(Side::Ours, 3, flags).await;
    let forwarder = Forwarder::start(&addrs(&replicas)).await;
    let busy = Busy::start(&[paths::ours(&[forwarder.addr])]);
    found(&busy, lasts, false).await
}

async fn l7() -> Measurement {
    let replicas = fleet::start(Side::Ours, 3, &[]).await;
    let alb = paths::alb(&addrs(&replicas), Side::Ours).await;
    let busy = Busy::start(&[alb.ours()]);
    found(&busy, Duration::from_secs(3), true).await
}

async fn direct<T: Transport>(connect: fn(&[SocketAddr]) -> T, judged: bool) -> Measurement {
    let replicas = fleet::start(Side::Ours, 3, &[]).await;
    let busy = Busy::start(&[connect(&addrs(&replicas))]);
    found(&busy, Duration::from_secs(3), judged).await
}

/// What the first three servers had of the calls in this time.
async fn found(busy: &Busy, lasts: Duration, judged: bool) -> Measurement {
    let served = busy.over(lasts).await;
    let index = jain(&served);
    let calls: u64 = served.iter().sum();
    let percent = |served| served as f64 / calls.max(1) as f64 * 100.0;
    let shares = served.map(|served| format!("{:.1} %", percent(served)));
    Measurement::new()
        .figure(!judged || index >= 0.99, format!("Jain's index {index:.4}"))
        .goal(
            !judged || !served.contains(&0),
            format!("{} of {calls}", shares.join(", ")),
        )
        .goal(
            !judged || busy.failed() == 0,
            format!("{} lost", busy.failed()),
        )
}

/// How even shares are: 1 if all are the same, one nth if one of n has everything.
fn jain(shares: &[u64]) -> f64 {
    let sum: f64 = shares.iter().map(|&share| share as f64).sum();
    let squares: f64 = shares.iter().map(|&share| (share as f64).powi(2)).sum();
    if squares == 0.0 {
        return 1.0;
    }
    sum.powi(2) / (shares.len() as f64 * squares)
}

async fn scale_l4() -> Measurement {
    const CONNECTIONS: usize = 40;

    let replicas = fleet::start(Side::Ours, SERVERS, &AGE).await;
    let addrs = addrs(&replicas);
    let (first, more) = addrs.split_at(2);
    let forwarder = Forwarder::start(first).await;
    let channels: Vec<_> = iter::repeat_with(|| paths::ours(&[forwarder.addr]))
        .take(CONNECTIONS)
        .collect();
    let busy = Busy::start(&channels);
    grown(&busy, true, || forwarder.add(more)).await
}

async fn scale_direct<T: Transport, G: FnOnce(&[SocketAddr])>(
    connect: fn(&[SocketAddr]) -> (T, G),
    judged: bool,
) -> Measurement {
    let replicas = fleet::start(Side::Ours, SERVERS, &[]).await;
    let addrs = addrs(&replicas);
    let (first, more) = addrs.split_at(2);
    let (transport, grow) = connect(first);
    let busy = Busy::start(&[transport]);
    grown(&busy, judged, || grow(more)).await
}

/// How long after `grow` the third and fourth server each had 90 % of their share of the calls, over
/// half a second.
async fn grown(busy: &Busy, judged: bool, grow: impl FnOnce()) -> Measurement {
    const BEFORE: Duration = Duration::from_secs(1);
    const GIVE_UP: Duration = Duration::from_secs(10);
    const STEP: Duration = Duration::from_millis(50);
    const STEPS: usize = 10;

    sleep(BEFORE).await;
    grow();
    let began = Instant::now();
    let mut counts = VecDeque::from([busy.shares.now()]);
    let mut joined = [None; 2];
    while joined.contains(&None) && began.elapsed() < GIVE_UP {
        sleep(STEP).await;
        let now = busy.shares.now();
        counts.push_back(now);
        if counts.len() <= STEPS {
            continue;
        }
        let before = counts.pop_front().expect("so many counts");
        let served: Vec<_> = iter::zip(now, before)
            .map(|(now, then)| now - then)
            .collect();
        let fair = served.iter().sum::<u64>() as f64 / SERVERS as f64;
        for (joined, &served) in joined.iter_mut().zip(&served[2..]) {
            if served as f64 >= 0.9 * fair {
                joined.get_or_insert(began.elapsed());
            }
        }
    }
    let failed = busy.failed();
    joined.into_iter().fold(
        Measurement::new().goal(!judged || failed == 0, format!("{failed} lost")),
        |measurement, joined| {
            let text = format!("joined after {}", time(joined));
            match judged {
                true => measurement.by(joined, Duration::from_secs(5), text),
                false => measurement.note(text),
            }
        },
    )
}

fn addrs(replicas: &[Replica]) -> Vec<SocketAddr> {
    replicas.iter().map(|replica| replica.addr).collect()
}

#[cfg(test)]
mod tests {
    use super::jain;

    #[test]
    fn jains_index_is_1_if_all_have_the_same_and_an_nth_if_one_has_all() {
        assert_eq!(jain(&[7, 7, 7]), 1.0);
        assert_eq!(jain(&[0, 9, 0]), 1.0 / 3.0);
        assert_eq!(jain(&[1, 2, 3]), 36.0 / 42.0);
    }
}
