//! Callers on a thread of their own, so that the tool's other work is not taken for the server's.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use proto::routeguide::{Point, RouteNote, route_guide_client::RouteGuideClient};
use tokio::{
    runtime,
    task::JoinSet,
    time::{Interval, MissedTickBehavior, interval_at},
};
use tonic::{Code, Request, Status, transport::Channel};

use crate::measure::measurement::percentile;

/// What they call.
#[derive(Debug, Clone)]
pub(super) enum What {
    GetFeature,
    /// RouteChat with this note, and all that comes back for it.
    Chat(RouteNote),
}

/// A call that is over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    pub(super) began: Instant,
    pub(super) took: Duration,
    pub(super) code: Code,
}

impl Call {
    pub(super) fn ended(&self) -> Instant {
        self.began + self.took
    }
}

/// Callers, each with a connection of its own.
pub(super) struct Callers {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<Vec<Call>>,
}

impl Callers {
    /// Starts so many, each with a call in every `pace` unless it is still busy with one. They take turns:
    /// calls at the same time would wait for each other here.
    pub(super) fn start(addr: SocketAddr, what: What, callers: u32, pace: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let mut tasks = JoinSet::new();
                let start = tokio::time::Instant::now();
                for nth in 0..callers {
                    let (what, stopped) = (what.clone(), stopped.clone());
                    let mut turns = interval_at(start + pace * nth / callers, pace);
                    turns.set_missed_tick_behavior(MissedTickBehavior::Skip);
                    tasks.spawn(caller(addr, what, turns, stopped));
                }
                tasks.join_all().await.concat()
            })
        });
        Self { stop, thread }
    }

    pub(super) fn stop(self) -> Vec<Call> {
        self.stop.store(true, Relaxed);
        self.thread.join().expect("callers that do not panic")
    }
}

async fn caller(
    addr: SocketAddr,
    what: What,
    mut turns: Interval,
    stopped: Arc<AtomicBool>,
) -> Vec<Call> {
    let mut client = RouteGuideClient::new(harness::channel(addr));
    let mut calls = Vec::new();
    while !stopped.load(Relaxed) {
        turns.tick().await;
        let began = Instant::now();
        let code = call(&mut client, &what)
            .await
            .map_or_else(|status| status.code(), |()| Code::Ok);
        calls.push(Call {
            began,
            took: began.elapsed(),
            code,
        });
    }
    calls
}

async fn call(client: &mut RouteGuideClient<Channel>, what: &What) -> Result<(), Status> {
    fn request<T>(message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(Duration::from_secs(5));
        request
    }
    match what {
        What::GetFeature => _ = client.get_feature(request(Point::default())).await?,
        What::Chat(note) => {
            let notes = tokio_stream::iter([note.clone()]);
            let mut earlier = client.route_chat(request(notes)).await?.into_inner();
            while earlier.message().await?.is_some() {}
        }
    }
    Ok(())
}

/// The 99th percentile of these calls.
pub(super) fn p99<'a>(calls: impl IntoIterator<Item = &'a Call>) -> Option<Duration> {
    let mut times: Vec<_> = calls.into_iter().map(|call| call.took).collect();
    percentile(&mut times, 0.99)
}

/// Whether a p99 is at most so many times another, or near enough: that of a few thousand calls varies
/// by half a millisecond on two cores.
pub(super) fn near(this: Option<Duration>, other: Option<Duration>, times: f64) -> bool {
    const NOISE: Duration = Duration::from_micros(500);
    let both = this.zip(other);
    both.is_some_and(|(this, other)| this <= other.mul_f64(times).max(other + NOISE))
}
