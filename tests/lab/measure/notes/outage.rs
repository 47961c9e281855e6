//! What calls and health see of a store that is killed, stopped or cut off, and when it is back.

use std::time::{Duration, Instant};

use harness::FaultProxy;
use rustix::process::Signal;
use samples::redis::Redis;
use tokio::time::{sleep, timeout};
use tonic::Code;

use super::{
    callers::{Call, Callers, What, near, p99},
    health::Health,
    note, start,
};
use crate::measure::measurement::{Measurement, time, within};

const UP: Duration = Duration::from_secs(1);
const AWAY: Duration = Duration::from_millis(1500);
/// By then the store is known to be away.
const KNOWN: Duration = Duration::from_millis(400);
const GIVE_UP: Duration = Duration::from_secs(5);

/// What befalls the store, or the connection to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Kill,
    Stop,
    Wedge,
}

/// One time that it did.
struct Outage {
    began: Instant,
    /// When it began to come back.
    over: Instant,
    /// When it was there.
    returned: Instant,
    /// When the health service had said NOT_SERVING and then SERVING.
    told: Option<[Instant; 2]>,
}

/// All that happened.
struct Seen {
    outages: Vec<Outage>,
    chats: Vec<Call>,
    features: Vec<Call>,
}

pub(crate) async fn outage(rounds: usize) -> Option<Measurement> {
    let mut measurement = Measurement::new();
    for (fault, name) in [(Fault::Kill, "kill -9"), (Fault::Stop, "SIGSTOP")] {
        let seen = Seen::of(fault, rounds).await?;
        measurement = seen.unaffected(seen.away(measurement, name));
    }
    let seen = Seen::of(Fault::Wedge, rounds).await?;
    Some(seen.unaffected(seen.replaced(measurement)))
}

impl Seen {
    /// Has the fault happen again and again under load.
    async fn of(fault: Fault, rounds: usize) -> Option<Self> {
        let mut redis = Redis::start(&[]).await?;
        let proxy = FaultProxy::start(redis.addr).await;
        let url = match fault {
            Fault::Wedge => format!("redis://{}", proxy.addr),
            Fault::Kill | Fault::Stop => redis.url(),
        };
        let flags = ["--notes-required", "true", "--notes-per-point", "1"];
        let server = start(Some(&url), &flags).await;
        let mut health = Health::watch(server.channel()).await;
        timeout(GIVE_UP, health.serving()).await.expect("SERVING");

        let millisecond = Duration::from_millis(1);
        let what = What::Chat(note((1, 1), "note"));
        let chats = Callers::start(server.addr, what, 8, 20 * millisecond);
        let features = Callers::start(server.addr, What::GetFeature, 1, 2 * millisecond);
        let mut outages = Vec::new();
        for _ in 0..rounds {
            sleep(UP).await;
            let began = Instant::now();
            match fault {
                Fault::Kill => redis.kill().await,
                Fault::Stop => redis.signal(Signal::STOP),
                Fault::Wedge => proxy.wedge(),
            }
            sleep(AWAY).await;
            let over = Instant::now();
            match fault {
                Fault::Kill => redis.restart().await,
                Fault::Stop => redis.signal(Signal::CONT),
                Fault::Wedge => {}
            }
            let returned = Instant::now();
            // A connection that is replaced in time need not be told of.
            let told = match fault {
                Fault::Wedge => None,
                _ => timeout(GIVE_UP, health.left_and_returned(began)).await.ok(),
            };
            outages.push(Outage {
                began,
                over,
                returned,
                told,
            });
        }
        sleep(UP).await;
        Some(Self {
            outages,
            chats: chats.stop(),
            features: features.stop(),
        })
    }

    /// Of a store that was away: how the chats failed, and when all was well again.
    fn away(&self, measurement: Measurement, name: &str) -> Measurement {
        let (mut first, mut later) = (Vec::<&Call>::new(), Vec::<&Call>::new());
        for outage in &self.outages {
            let known = outage.began + KNOWN;
            first.extend(self.chats.iter().filter(|call| {
                let failed = call.code != Code::Ok && call.ended() > outage.began;
                failed && call.began < known
            }));
            later.extend(
                (self.chats.iter())
                    .filter(|call| call.began >= known && call.ended() < outage.over),
            );
        }
        let other = (first.iter().chain(&later)).filter(|call| call.code != Code::Unavailable);
        let other = other.count();
        let milliseconds = Duration::from_millis;
        let (first_p99, later_p99) = (p99(first.iter().copied()), p99(later.iter().copied()));
        let told = (self.outages.iter()).map(|outage| {
            let [left, back] = outage.told?;
            let back = back.saturating_duration_since(outage.returned);
            Some([left - outage.began, back])
        });
        let told: Option<Vec<_>> = told.collect();
        let worst = |nth: usize| {
            let told = told.as_ref()?;
            told.iter().map(|times| times[nth]).max()
        };
        // A chat takes as long as this machine lets it, also where the store answers.
        let served = p99(self.chats.iter().filter(|call| call.code == Code::Ok));
        let at_once = milliseconds(1).max(served.unwrap_or_default());
        measurement
            .likely(
                within(first_p99, milliseconds(200)),
                format!(
                    "{name}, {} times: first {} chats p99 {}",
                    self.outages.len(),
                    first.len(),
                    time(first_p99)
                ),
            )
            .likely(
                within(later_p99, at_once),
                format!(
                    "{} later ones p99 {}, served ones {}",
                    later.len(),
                    time(later_p99),
                    time(served)
                ),
            )
            .goal(other == 0, format!("{other} not UNAVAILABLE"))
            .goal(
                told.is_some(),
                format!("NOT_SERVING after {}", time(worst(0))),
            )
            .likely(
                within(worst(1), milliseconds(1000)),
                format!("SERVING again after {}", time(worst(1))),
            )
    }

    /// Of a connection that went nowhere: when a call that began after that was served.
    fn replaced(&self, measurement: Measurement) -> Measurement {
        let served = self.outages.iter().map(|outage| {
            let served = (self.chats.iter())
                .filter(|call| call.code == Code::Ok && call.began > outage.began);
            let first = served.map(Call::ended).min()?;
            Some(first - outage.began)
        });
        let served: Option<Vec<_>> = served.collect();
        let worst = served.and_then(|times| times.into_iter().max());
        let lost = (self.chats.iter()).filter(|call| call.code != Code::Ok);
        measurement
            .goal(
                worst.is_some(),
                format!("wedged, {} times", self.outages.len()),
            )
            .likely(
                within(worst, Duration::from_millis(1500)),
                format!("replaced after {}", time(worst)),
            )
            .note(format!("{} chats lost", lost.count()))
    }

    /// The calls that need no store.
    fn unaffected(&self, measurement: Measurement) -> Measurement {
        let errors = (self.features.iter()).filter(|call| call.code != Code::Ok);
        let errors = errors.count();
        let (during, else_) = self.features.iter().partition::<Vec<_>, _>(|call| {
            let mut outages = self.outages.iter();
            outages.any(|outage| outage.began <= call.began && call.began < outage.over)
        });
        let (during, else_) = (p99(during), p99(else_));
        measurement
            .goal(errors == 0, format!("GetFeature {errors} errors"))
            .likely(
                near(during, else_, 1.1),
                format!("p99 {} → {}", time(else_), time(during)),
            )
    }
}
