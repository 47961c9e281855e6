//! Servers that are replaced one after the other under load, and what their clients see of it.

use std::{
    env,
    io::{self, Write as _},
    pin::Pin,
    time::Duration,
};

use harness::measurement::{Measurement, Side, percentile, time};
use rustix::process::Signal;
use tokio::{join, sync::watch, time::sleep};

use crate::rollout::{
    Options,
    fleet::{self, Replica},
    load::{self, Outcome, Stage},
    paths,
};

/// How the calls come to the servers.
#[derive(Debug, Clone, Copy)]
enum Path {
    Direct,
    Grpcio,
    Alb,
    Envoy,
}

/// A rollout to measure.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) goal: &'static str,
    path: Path,
    end: Signal,
    /// Of our servers; plain tonic has no such settings.
    flags: [&'static str; 2],
    /// Whether the promise is broken on purpose, and calls must fail.
    broken: bool,
}

const KEPT: Row = Row {
    name: "",
    goal: "0 lost, 0 truncated, 0 duplicated",
    path: Path::Direct,
    end: Signal::TERM,
    flags: ["--lame-duck=1s", "--drain-timeout=5s"],
    broken: false,
};

const BROKEN: Row = Row {
    goal: "some are lost: the load sees a promise that is broken",
    broken: true,
    ..KEPT
};

pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "direct",
        ..KEPT
    },
    Row {
        name: "grpcio",
        path: Path::Grpcio,
        ..KEPT
    },
    Row {
        name: "alb",
        path: Path::Alb,
        ..KEPT
    },
    Row {
        name: "envoy",
        path: Path::Envoy,
        // Longer than the second that it leaves between two health checks.
        flags: ["--lame-duck=2s", "--drain-timeout=5s"],
        ..KEPT
    },
    Row {
        name: "mutant-drain",
        end: Signal::KILL,
        ..BROKEN
    },
    Row {
        name: "mutant-health",
        path: Path::Alb,
        flags: ["--lame-duck=0s", "--drain-timeout=5s"],
        ..BROKEN
    },
];

pub(crate) async fn measure(row: &Row, side: Side, options: &Options) -> Measurement {
    // Enough for some to be lost: of ours, only a chat that is open when its server is killed.
    let (restarts, calls) = if row.broken {
        (20, 1000)
    } else {
        (options.restarts, options.calls)
    };
    let mut replicas = fleet::start(side, 3, &row.flags).await;
    let (stage, seen) = watch::channel(Stage::Steady);
    let load = match load_on(row.path, side, &replicas, seen, calls).await {
        Ok(load) => load,
        // Nothing may be skipped where everything can be installed.
        Err(reason) => {
            let allowed = env::var_os("CI").is_none();
            return Measurement::new().goal(allowed, format!("skipped: {reason}"));
        }
    };
    let (outcome, killed) = join!(load, roll(&mut replicas, row.end, restarts, stage));
    // The table goes on without it.
    let _ = explain(row, side, &outcome);
    let measurement = judge(row, outcome).note(format!("{restarts} restarts"));
    let measurement = match killed {
        0 => measurement,
        _ => measurement.note(format!("{killed} servers had to be killed")),
    };
    match side {
        Side::Ours => measurement.note(format!("`{}`", row.flags.join(" "))),
        Side::Plain => measurement,
    }
}

type Load = Pin<Box<dyn Future<Output = Outcome>>>;

/// The load on this path, or why there is none.
async fn load_on(
    path: Path,
    side: Side,
    replicas: &[Replica],
    stage: watch::Receiver<Stage>,
    calls: u64,
) -> Result<Load, &'static str> {
    let addrs: Vec<_> = replicas.iter().map(|replica| replica.addr).collect();
    let front = match (path, side) {
        (Path::Direct, Side::Ours) => {
            return Ok(Box::pin(load::here(paths::ours(&addrs), stage, calls)));
        }
        (Path::Direct, Side::Plain) => {
            return Ok(Box::pin(load::here(paths::plain(&addrs), stage, calls)));
        }
        (Path::Grpcio, _) => {
            let client = paths::grpcio(&addrs, calls).await?;
            return Ok(Box::pin(load::child(client, stage)));
        }
        (Path::Alb, _) => paths::alb(&addrs, side).await,
        (Path::Envoy, _) => paths::envoy(&addrs).await?,
    };
    Ok(Box::pin(async move {
        let outcome = match side {
            Side::Ours => load::here(front.ours(), stage, calls).await,
            Side::Plain => load::here(front.plain(), stage, calls).await,
        };
        drop(front);
        outcome
    }))
}

/// Replaces each in turn; says how many of them had to be killed.
async fn roll(
    replicas: &mut [Replica],
    end: Signal,
    restarts: usize,
    stage: watch::Sender<Stage>,
) -> usize {
    // Time for clients and balancers to find the new process, as every platform leaves it to them
    // (`minReadySeconds`, the health checks of a target group); longer than any of ours here needs.
    const SETTLE: Duration = Duration::from_millis(500);

    let mut killed = 0;
    for nth in 0..restarts {
        sleep(SETTLE).await;
        stage.send_replace(Stage::Restarting);
        let replica = &mut replicas[nth % 3];
        killed += usize::from(replica.restart(end).await);
        stage.send_replace(Stage::Steady);
    }
    sleep(SETTLE).await;
    stage.send_replace(Stage::Over);
    killed
}

fn judge(row: &Row, mut outcome: Outcome) -> Measurement {
    let measurement = outcome.measurement(row.broken);
    let restarting = time(percentile(&mut outcome.restarting, 0.99));
    let steady = time(percentile(&mut outcome.steady, 0.99));
    measurement.note(format!(
        "GetFeature p99 {restarting} in restarts, else {steady}"
    ))
}

/// Each status that is not OK, on standard error.
fn explain(row: &Row, side: Side, outcome: &Outcome) -> io::Result<()> {
    let mut out = io::stderr();
    for (text, count) in &outcome.failures {
        writeln!(out, "{}, {side:?}: {count} × {text}", row.name)?;
    }
    Ok(())
}
