//! A chat that asks for more than it reads, beside others at the same point.

use std::time::{Duration, Instant};

use harness::framed;
use samples::redis::Redis;
use tokio::time::sleep;

use super::{
    callers::{Call, Callers, What, near, p99},
    note, start,
};
use crate::measure::{
    client::{Bare, code},
    measurement::{Measurement, time},
    server_under_test::ServerUnderTest,
};

const PLACE: (i32, i32) = (1, 1);
/// Turn about, so that what else changes on the machine is in both.
const TURN: Duration = Duration::from_secs(3);
/// As many as are kept at a point, and more than fit into a window of 64 KiB.
const NOTES: usize = 100;

pub(crate) async fn slow_reader(turns: usize) -> Option<Measurement> {
    let redis = Redis::start(&[]).await?;
    let mut measurement = Measurement::new();
    for (store, url) in [("memory", None), ("Redis", Some(redis.url()))] {
        let server = start(url.as_deref(), &[]).await;
        measurement = compared(measurement, store, &server, turns).await;
    }
    Some(measurement)
}

async fn compared(
    measurement: Measurement,
    store: &str,
    server: &ServerUnderTest,
    turns: usize,
) -> Measurement {
    let code = fill(server).await;
    assert_eq!(code, "0", "a point that is full of notes");
    let what = What::Chat(note(PLACE, "x".repeat(64)));
    let callers = Callers::start(server.addr, what, 4, Duration::from_millis(8));
    let mut stalled = Vec::new();
    for _ in 0..turns {
        sleep(TURN).await;
        let began = Instant::now();
        let slow = SlowReader::begin(server).await;
        sleep(TURN).await;
        drop(slow);
        stalled.push(began..Instant::now());
    }
    let calls = callers.stop();
    let failed = (calls.iter()).filter(|call| call.code != tonic::Code::Ok);
    let failed = failed.count();
    let (with, without) = calls
        .iter()
        .partition::<Vec<&Call>, _>(|call| stalled.iter().any(|turn| turn.contains(&call.began)));
    let counts = (with.len(), without.len());
    let (with, without) = (p99(with), p99(without));
    measurement
        .likely(
            near(with, without, 1.05),
            format!("{store} p99 {} → {}", time(without), time(with)),
        )
        .goal(
            failed == 0,
            format!("{failed} of {} + {} lost", counts.1, counts.0),
        )
}

/// Leaves as many notes as are kept.
async fn fill(server: &ServerUnderTest) -> String {
    let mut client = Bare::connect(server.addr).await;
    let mut call = chat(&mut client).await;
    let notes = framed(&note(PLACE, "x".repeat(64))).repeat(NOTES);
    call.request.send_data(notes.into(), true).expect("sent");
    code(call.answer).await.expect("an end")
}

async fn chat(client: &mut Bare) -> crate::measure::client::Call {
    let call = client.call("/routeguide.RouteGuide/RouteChat", None).await;
    call.expect("sent")
}

/// A chat whose replies fill its window, and are not read.
struct SlowReader {
    _client: Bare,
    _call: crate::measure::client::Call,
}

impl SlowReader {
    async fn begin(server: &ServerUnderTest) -> Self {
        let mut client = Bare::connect(server.addr).await;
        let mut call = chat(&mut client).await;
        let notes = framed(&note(PLACE, "x".repeat(64))).repeat(NOTES);
        call.request.send_data(notes.into(), false).expect("sent");
        Self {
            _client: client,
            _call: call,
        }
    }
}
