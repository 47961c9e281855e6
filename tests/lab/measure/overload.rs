//! Twice the calls that the server can serve.

use std::{net::SocketAddr, thread, time::Duration};

use rustix::thread::{CpuSet, sched_setaffinity};
use tokio::sync::oneshot;

use crate::measure::{
    load::{Load, Outcome},
    measurement::{Measurement, growth, percentile, time},
    server_under_test::{GREETER, ServerUnderTest, Setup, Side},
};

const PEAK: Duration = Duration::from_secs(3);

/// The server does nothing but HTTP/2, so that a call which is refused costs as much as one that is
/// served.
pub(crate) async fn saturation(side: Side, time_of_load: Duration) -> Measurement {
    overloaded(side, GREETER, [100, 8], time_of_load).await
}

/// The server has work to do for each call, and can do only so much of it at once.
pub(crate) async fn overload(side: Side, time_of_load: Duration) -> Measurement {
    let setup = Setup {
        binary: "busy-greeter",
        // As many again may wait as are worked on.
        ours: &["--max-calls", "40", "--max-calls-per-peer", "40"],
        plain: &["--busy"],
        ..GREETER
    };
    overloaded(side, setup, [40, 1], time_of_load).await
}

/// `for_peak` says on how many connections the load comes, and how many calls at once on each of them
/// make the peak.
async fn overloaded(
    side: Side,
    setup: Setup<'_>,
    for_peak: [usize; 2],
    time_of_load: Duration,
) -> Measurement {
    let setup = Setup {
        run: "exec taskset -c 0",
        ..setup
    };
    let subject = ServerUnderTest::start(side, setup).await;
    let before = subject.rss();
    let (peak, mut outcome) = on_the_other_core(subject.addr, for_peak, time_of_load).await;

    let goodput = outcome.served.len() as f64 / time_of_load.as_secs_f64();
    let shed = outcome.shed.len();
    let (_, rss) = growth(before, subject.peak_rss());
    let share = goodput / peak * 100.0;
    Measurement::new()
        .likely(
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
async fn on_the_other_core(
    addr: SocketAddr,
    [connections, at_once]: [usize; 2],
    time: Duration,
) -> (f64, Outcome) {
    let (sender, result) = oneshot::channel();
    thread::spawn(move || {
        let mut cores = CpuSet::new();
        cores.set(1);
        sched_setaffinity(None, &cores).expect("a second core");
        let mut load = Load::new(addr, connections);
        load.closed(at_once, PEAK / 3);
        let peak = load.closed(at_once, PEAK).served.len() as f64 / PEAK.as_secs_f64();
        // Gone only if the tool is.
        let _ = sender.send((peak, load.open(2.0 * peak, time)));
    });
    result.await.expect("a generator that does not panic")
}
