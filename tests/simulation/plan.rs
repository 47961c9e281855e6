//! What happens in a simulation, all of it from its seed.

use std::{ops::RangeInclusive, time::Duration};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

/// What a seed stands for.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) servers: usize,
    pub(crate) callers: usize,
    pub(crate) age: Duration,
    pub(crate) grace: Duration,
    pub(crate) lame_duck: Duration,
    pub(crate) drain: Duration,
    /// From a message's sending to its arrival, at most.
    pub(crate) latency: Duration,
    /// In order of time.
    pub(crate) events: Vec<(Duration, Event)>,
    /// When the callers stop.
    pub(crate) end: Duration,
}

#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// The server is told to stop, and starts anew when it has been away for this long.
    Drain {
        server: usize,
        away: Duration,
    },
    /// Its process is killed.
    Crash {
        server: usize,
    },
    /// It starts anew after that.
    Back {
        server: usize,
    },
    /// What it requires is away.
    Sick {
        server: usize,
    },
    Well {
        server: usize,
    },
    /// Nothing arrives any more between a caller and these servers.
    Cut {
        caller: usize,
        servers: Vec<usize>,
    },
    /// What was held up arrives, as with TCP, which sends again.
    Heal {
        caller: usize,
        servers: Vec<usize>,
    },
}

/// Until when all servers start undisturbed.
const QUIET: Duration = Duration::from_secs(5);
/// After it, no trouble begins.
const TROUBLE: Duration = Duration::from_secs(45);

/// The longest that a channel may take to find a server that is there: its longest pause between two attempts, 5 s
/// and half of that by chance, and the time to connect.
pub(crate) const SETTLED: Duration = Duration::from_millis(8_500);

struct Chance(StdRng);

impl Chance {
    fn time(&mut self, milliseconds: RangeInclusive<u64>) -> Duration {
        Duration::from_millis(self.0.random_range(milliseconds))
    }

    fn is(&mut self, probability: f64) -> bool {
        self.0.random_bool(probability)
    }
}

/// What kinds of trouble there are for servers, besides age.
#[derive(Clone, Copy)]
enum Trouble {
    Drain,
    Crash,
    Sickness,
}

impl Plan {
    pub(crate) fn of(seed: u64) -> Self {
        let mut chance = Chance(StdRng::seed_from_u64(seed));
        let mut plan = Self {
            seed,
            servers: chance.0.random_range(2..=4),
            callers: chance.0.random_range(1..=3),
            age: chance.time(3_000..=30_000),
            grace: chance.time(3_000..=10_000),
            lame_duck: chance.time(1_000..=4_000),
            drain: chance.time(6_000..=12_000),
            latency: chance.time(1..=60),
            events: Vec::new(),
            end: Duration::ZERO,
        };
        let mut troubles = vec![Trouble::Drain];
        if chance.is(0.3) {
            troubles.push(Trouble::Crash);
        }
        if chance.is(0.5) {
            troubles.push(Trouble::Sickness);
        }
        for server in 0..plan.servers {
            plan.trouble(server, &troubles, &mut chance);
        }
        if chance.is(0.5) {
            for caller in 0..plan.callers {
                plan.cuts(caller, &mut chance);
            }
        }
        plan.events.sort_by_key(|(at, _)| *at);
        let last = plan.events.last().map_or(TROUBLE, |(at, _)| *at);
        plan.end = last + plan.lame_duck + plan.drain + 2 * SETTLED;
        plan
    }

    fn trouble(&mut self, server: usize, troubles: &[Trouble], chance: &mut Chance) {
        let mut at = QUIET + chance.time(0..=20_000);
        while at < TROUBLE {
            let trouble = troubles[chance.0.random_range(0..troubles.len())];
            let until = match trouble {
                Trouble::Drain => {
                    let away = chance.time(100..=4_000);
                    self.events.push((at, Event::Drain { server, away }));
                    at + self.lame_duck + self.drain + away + Duration::from_secs(1)
                }
                Trouble::Crash => {
                    let until = at + chance.time(100..=5_000);
                    self.events.push((at, Event::Crash { server }));
                    self.events.push((until, Event::Back { server }));
                    until
                }
                Trouble::Sickness => {
                    let until = at + chance.time(1_000..=12_000);
                    self.events.push((at, Event::Sick { server }));
                    self.events.push((until, Event::Well { server }));
                    until
                }
            };
            at = until + chance.time(500..=20_000);
        }
    }

    fn cuts(&mut self, caller: usize, chance: &mut Chance) {
        let mut at = QUIET + chance.time(0..=20_000);
        while at < TROUBLE {
            // From a hiccup to longer than any PING is waited for.
            let until = at
                + if chance.is(0.7) {
                    chance.time(50..=6_000)
                } else {
                    chance.time(10_000..=50_000)
                };
            let servers: Vec<_> = if chance.is(0.4) {
                (0..self.servers).collect()
            } else {
                vec![chance.0.random_range(0..self.servers)]
            };
            self.events.push((
                at,
                Event::Cut {
                    caller,
                    servers: servers.clone(),
                },
            ));
            self.events.push((until, Event::Heal { caller, servers }));
            at = until + chance.time(500..=20_000);
        }
    }

    /// How long a call may take in any case, if it is open when its connection has to go.
    pub(crate) fn allowed(&self) -> Duration {
        let notice = Duration::from_secs(5).min(self.drain / 2);
        self.grace.min(self.drain - notice)
    }
}
