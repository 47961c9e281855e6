//! Rounds of measurement: every server in turn, there and back, all alive at once.

use crate::bench::{
    h2load::{Load, percentiles},
    server::Server,
};

/// How often, and about how long each time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rounds {
    pub(crate) rounds: usize,
    pub(crate) seconds: f64,
}

/// A server and what it is to do.
#[derive(Debug)]
pub(crate) struct Contestant {
    pub(crate) server: Server,
    pub(crate) load: Load,
    /// How many units of work a call has.
    pub(crate) units: u64,
    /// Whether to look at how long each call takes, which costs the client.
    pub(crate) timed: bool,
}

/// What was measured of a contestant.
#[derive(Debug, Default)]
pub(crate) struct Sample {
    /// Nanoseconds of processor time for each unit of the work.
    pub(crate) cpu: Spread,
    /// Calls a second.
    pub(crate) rate: Spread,
    /// Nanoseconds of a call, the median and the 99th percentile; empty unless timed.
    pub(crate) times: [Spread; 2],
    /// Bytes, after the load.
    pub(crate) rss: u64,
}

/// Figures of several rounds, in ascending order.
#[derive(Debug, Default)]
pub(crate) struct Spread(Vec<f64>);

impl Spread {
    pub(crate) fn add(&mut self, figure: f64) {
        let at = self.0.partition_point(|earlier| *earlier < figure);
        self.0.insert(at, figure);
    }

    /// Not a number if there is none.
    pub(crate) fn median(&self) -> f64 {
        self.0.get(self.0.len() / 2).copied().unwrap_or(f64::NAN)
    }

    /// The least and the most.
    pub(crate) fn range(&self) -> Option<(f64, f64)> {
        Some((*self.0.first()?, *self.0.last()?))
    }
}

impl Rounds {
    /// Measures them, in the order given.
    pub(crate) async fn measure(self, contestants: &[Contestant]) -> Vec<Sample> {
        let mut requests = Vec::new();
        for contestant in contestants {
            requests.push(requests_in(self.seconds, &contestant.load).await);
        }
        let mut samples: Vec<_> = contestants.iter().map(|_| Sample::default()).collect();
        for round in 0..self.rounds {
            let mut visits: Vec<_> = contestants
                .iter()
                .zip(&requests)
                .zip(&mut samples)
                .collect();
            if round % 2 == 1 {
                visits.reverse();
            }
            for ((contestant, requests), sample) in visits {
                contestant.visit(*requests, sample).await;
            }
        }
        samples
    }
}

impl Contestant {
    async fn visit(&self, requests: u64, sample: &mut Sample) {
        let before = self.server.cpu();
        let rate = if self.timed {
            let (rate, times) = self.load.timed(requests).await;
            for (spread, time) in sample.times.iter_mut().zip(percentiles(times)) {
                spread.add(time);
            }
            rate
        } else {
            self.load.run(requests).await
        };
        let cpu = self.server.cpu() - before;
        let units = (requests * self.units) as f64;
        sample.cpu.add(cpu.as_nanos() as f64 / units);
        sample.rate.add(rate);
        sample.rss = self.server.rss();
    }
}

/// How many requests take about so long, after runs of them that warm the server up.
async fn requests_in(seconds: f64, load: &Load) -> u64 {
    let at_once = load.connections * load.streams;
    let mut requests = at_once;
    loop {
        let rate = load.run(requests).await;
        if requests as f64 >= rate * seconds / 4.0 {
            let times = (rate * seconds / at_once as f64).ceil();
            return at_once * times as u64;
        }
        requests *= 4;
    }
}
