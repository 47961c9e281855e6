//! Twice the calls that the server can serve.

use std::{net::SocketAddr, thread, time::Duration};

use rustix::thread::{CpuSet, sched_setaffinity};
use tokio::sync::oneshot;

use crate::{
    finding::{Finding, growth, percentile, time},
    load::{Load, Outcome},
    subject::{GREETER, Setup, Side, Subject},
};

const CONNECTIONS: usize = 100;
const PEAK: Duration = Duration::from_secs(3);

pub(crate) async fn overload(side: Side, long: bool) -> Finding {
    let time_of_load = Duration::from_secs(if long { 60 } else { 10 });
    let setup = Setup {
        run: "exec taskset -c 0",
        ..GREETER
    };
    let subject = Subject::start(side, setup).await;
    let before = subject.rss();
    let (peak, mut outcome) = on_the_other_core(subject.addr, time_of_load).await;

    let goodput = outcome.served.len() as f64 / time_of_load.as_secs_f64();
    let shed = outcome.shed.len();
    let (_, rss) = growth(before, subject.peak_rss());
    let share = goodput / peak * 100.0;
    Finding::new()
        .goal(
            share >= 90.0,
            format!("goodput {share:.0} % of {peak:.0}/s"),
        )
        .note(format!(
            "p99 admitted {}",
            time(percentile(&mut outcome.served, 0.99))
        ))
        .note(format!(
            "{shed} shed, p99 {}",
            time(percentile(&mut outcome.shed, 0.99))
        ))
        .note(format!("{} past their deadline", outcome.expired))
        .note(format!(
            "{} cut with {} connections",
            outcome.cut[0], outcome.cut[1]
        ))
        .note(rss)
        .note(format!("generator at most {} late", time(outcome.lag)))
}

/// The closed-loop peak in calls a second, and what becomes of twice as many.
async fn on_the_other_core(addr: SocketAddr, time: Duration) -> (f64, Outcome) {
    let (sender, result) = oneshot::channel();
    thread::spawn(move || {
        let mut cores = CpuSet::new();
        cores.set(1);
        sched_setaffinity(None, &cores).expect("a second core");
        let mut load = Load::new(addr, CONNECTIONS);
        load.closed(8, PEAK / 3);
        let peak = load.closed(8, PEAK).served.len() as f64 / PEAK.as_secs_f64();
        // Gone only if the tool is.
        let _ = sender.send((peak, load.open(2.0 * peak, time)));
    });
    result.await.expect("a generator that does not panic")
}
