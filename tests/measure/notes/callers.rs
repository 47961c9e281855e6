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
use tokio::{runtime, task::JoinSet, time::sleep};
use tonic::{Code, Request, Status, transport::Channel};

use crate::finding::percentile;

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
    /// Starts so many, who wait so long after each call.
    pub(super) fn start(addr: SocketAddr, what: What, callers: usize, pause: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let mut tasks = JoinSet::new();
                for _ in 0..callers {
                    let (what, stopped) = (what.clone(), stopped.clone());
                    tasks.spawn(caller(addr, what, pause, stopped));
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
    pause: Duration,
    stopped: Arc<AtomicBool>,
) -> Vec<Call> {
    let mut client = RouteGuideClient::new(harness::channel(addr));
    let mut calls = Vec::new();
    while !stopped.load(Relaxed) {
        let began = Instant::now();
        let code = call(&mut client, &what)
            .await
            .map_or_else(|status| status.code(), |()| Code::Ok);
        calls.push(Call {
            began,
            took: began.elapsed(),
            code,
        });
        sleep(pause).await;
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
