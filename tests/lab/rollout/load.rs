//! Calls of all four kinds, each as soon as the one before it is over, while servers come and go.

use std::{
    collections::BTreeMap,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use harness::measurement::Measurement;
use tokio::{
    io::AsyncWriteExt as _,
    process::{ChildStdin, Command},
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep},
};
use tonic::Status;

use crate::rollout::{
    caller::{Caller, Transport},
    replies::Verdict,
};

/// How many call at once without a pause, and how many take their time with each message, so that
/// there is always a call open that is older than the end of a server. `load.py` has the same.
const BRISK: i32 = 4;
const SLOW: i32 = 4;
const PAUSE: Duration = Duration::from_millis(20);

/// Where the rollout stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Every server is up.
    Steady,
    /// One is not, or soon will not be.
    Restarting,
    /// Nothing will change any more.
    Over,
}

/// What became of the calls.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) calls: u64,
    /// How often each status came that is not OK.
    pub(crate) failures: BTreeMap<String, u64>,
    pub(crate) truncated: u64,
    pub(crate) duplicated: u64,
    pub(crate) wrong: u64,
    /// What each GetFeature took that began while all servers were up.
    pub(crate) steady: Vec<Duration>,
    /// What those took that began while one restarted.
    pub(crate) restarting: Vec<Duration>,
}

impl Outcome {
    /// None may be lost, and none be anything but whole; where a promise is `broken`, some must be lost.
    pub(crate) fn measurement(&self, broken: bool) -> Measurement {
        let (calls, failed) = (self.calls, self.failures.values().sum::<u64>());
        let figures = [
            (self.truncated, "truncated"),
            (self.duplicated, "duplicated"),
            (self.wrong, "wrong"),
        ];
        let lost = format!("{failed} of {calls} lost");
        let measurement = Measurement::new().goal((failed > 0) == broken, lost);
        figures
            .into_iter()
            .fold(measurement, |measurement, (count, what)| {
                measurement.goal(count == 0 || broken, format!("{count} {what}"))
            })
    }

    fn count(&mut self, result: Result<Verdict, Status>) {
        self.calls += 1;
        match result {
            Ok(Verdict::Whole) => {}
            Ok(Verdict::Truncated) => self.truncated += 1,
            Ok(Verdict::Duplicated) => self.duplicated += 1,
            Ok(Verdict::Wrong) => self.wrong += 1,
            Err(status) => {
                let text = format!("{:?}: {}", status.code(), status.message());
                *self.failures.entry(text).or_default() += 1;
            }
        }
    }

    fn add(mut self, other: Self) -> Self {
        self.calls += other.calls;
        for (text, count) in other.failures {
            *self.failures.entry(text).or_default() += count;
        }
        self.truncated += other.truncated;
        self.duplicated += other.duplicated;
        self.wrong += other.wrong;
        self.steady.extend(other.steady);
        self.restarting.extend(other.restarting);
        self
    }

    /// What `load.py` prints.
    fn parse(line: &[u8]) -> serde_json::Result<Self> {
        let line: serde_json::Value = serde_json::from_slice(line)?;
        let number = |field: &str| line[field].as_u64().unwrap_or_default();
        let failures = line["failures"].as_object().into_iter().flatten();
        let times = |field: &str| {
            let times = line[field].as_array().into_iter().flatten();
            let micros = times.filter_map(serde_json::Value::as_u64);
            micros.map(Duration::from_micros).collect()
        };
        Ok(Self {
            calls: number("calls"),
            failures: failures
                .map(|(text, count)| (text.clone(), count.as_u64().unwrap_or_default()))
                .collect(),
            truncated: number("truncated"),
            duplicated: number("duplicated"),
            wrong: number("wrong"),
            steady: times("steady"),
            restarting: times("restarting"),
        })
    }
}

/// Calls from this process, until the rollout is over and there were as many calls as are wanted.
pub(crate) async fn here(
    transport: impl Transport,
    stage: watch::Receiver<Stage>,
    wanted: u64,
) -> Outcome {
    let made = Arc::new(AtomicU64::new(0));
    let mut workers = JoinSet::new();
    for number in 0..BRISK + SLOW {
        let pause = if number < BRISK {
            Duration::ZERO
        } else {
            PAUSE
        };
        let caller = Caller::new(transport.clone(), number, pause);
        workers.spawn(work(caller, stage.clone(), made.clone(), wanted));
    }
    let outcomes = workers.join_all().await;
    outcomes.into_iter().fold(Outcome::default(), Outcome::add)
}

async fn work(
    mut caller: Caller<impl Transport>,
    stage: watch::Receiver<Stage>,
    made: Arc<AtomicU64>,
    wanted: u64,
) -> Outcome {
    // Without it, calls that fail at once would soon be most of all calls.
    const AFTER_A_FAILURE: Duration = Duration::from_millis(10);

    let mut outcome = Outcome::default();
    for nth in 0.. {
        let before = *stage.borrow();
        if before == Stage::Over && made.load(Relaxed) >= wanted {
            break;
        }
        let began = Instant::now();
        let result = caller.call(nth).await;
        let took = began.elapsed();
        let failed = result.is_err();
        outcome.count(result);
        made.fetch_add(1, Relaxed);
        match (nth % 4, before) {
            (0, Stage::Restarting) => outcome.restarting.push(took),
            (0, _) => outcome.steady.push(took),
            _ => {}
        }
        if failed {
            sleep(AFTER_A_FAILURE).await;
        }
    }
    outcome
}

/// Calls from a child process that hears of each stage in a line, and prints what became of them.
pub(crate) async fn child(mut command: Command, stage: watch::Receiver<Stage>) -> Outcome {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("a client that starts");
    let stdin = child.stdin.take().expect("piped");
    tokio::spawn(tell(stdin, stage));
    let output = child.wait_with_output().await;
    let output = output.expect("a process to wait for");
    Outcome::parse(&output.stdout).expect("a client that says what became of its calls")
}

async fn tell(mut stdin: ChildStdin, mut stage: watch::Receiver<Stage>) {
    while stage.changed().await.is_ok() {
        let line: &[u8] = match *stage.borrow_and_update() {
            Stage::Steady => b"steady\n",
            Stage::Restarting => b"restarting\n",
            Stage::Over => return,
        };
        // A child that has died says nothing at the end, which is told then.
        let _ = stdin.write_all(line).await;
    }
}
