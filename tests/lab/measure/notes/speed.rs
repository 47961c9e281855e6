//! How fast notes are left, and how often the store is asked for each.

use std::time::Duration;

use proto::routeguide::route_guide_client::RouteGuideClient;
use samples::redis::Redis;
use tokio::{sync::mpsc, task::JoinSet, time::Instant};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, transport::Channel};

use super::{commands, note, start};
use crate::measure::{
    measurement::{Measurement, percentile, time},
    server_under_test::ServerUnderTest,
};

const CHATS: i32 = 64;
/// So that each note brings back exactly one: its reply.
const ONE: [&str; 2] = ["--notes-per-point", "1"];

pub(crate) async fn speed(lasts: Duration) -> Option<Measurement> {
    let redis = Redis::start(&[]).await?;
    let memory = start(None, &ONE).await;
    first_notes(&memory).await;
    let mut measurement = told(
        Measurement::new(),
        "memory",
        &mut chat(&memory, lasts).await,
        lasts,
    );
    drop(memory);

    let server = start(Some(&redis.url()), &ONE).await;
    // What a store is asked but once comes before: a probe, and the script that it does not know yet.
    first_notes(&server).await;
    let before = commands(&redis).await;
    let mut notes = chat(&server, lasts).await;
    let after = commands(&redis).await;
    let asked = |command: &str| {
        let [before, after] = [&before, &after].map(|commands| commands.get(command));
        let count = |counts: Option<&[u64; 2]>| counts.copied().unwrap_or_default();
        [0, 1].map(|nth| count(after)[nth] - count(before)[nth])
    };
    let [calls, failed] = asked("evalsha");
    measurement = told(measurement, "Redis", &mut notes, lasts);
    Some(measurement.goal(
        calls == notes.len() as u64 && failed == 0,
        format!(
            "{calls} evalsha for {} notes, {failed} refused",
            notes.len()
        ),
    ))
}

fn told(
    measurement: Measurement,
    store: &str,
    times: &mut [Duration],
    lasts: Duration,
) -> Measurement {
    measurement.note(format!(
        "{store} {:.0} notes/s, p50 {}, p99 {}",
        times.len() as f64 / lasts.as_secs_f64(),
        time(percentile(times, 0.5)),
        time(percentile(times, 0.99)),
    ))
}

/// Leaves a note at each place, which brings back nothing.
async fn first_notes(server: &ServerUnderTest) {
    let mut client = RouteGuideClient::new(server.channel());
    let notes: Vec<_> = (0..CHATS).map(|nth| note((nth, 0), "first")).collect();
    let replies = client.route_chat(tokio_stream::iter(notes)).await;
    let mut replies = replies.expect("a chat").into_inner();
    let reply = replies.message().await.expect("an end");
    assert_eq!(reply, None, "places without a note");
}

/// A note after the other in many chats at once, each at a place of its own: how long each reply took.
async fn chat(server: &ServerUnderTest, lasts: Duration) -> Vec<Duration> {
    let end = Instant::now() + lasts;
    let mut chats = JoinSet::new();
    for nth in 0..CHATS {
        chats.spawn(one_chat(server.channel(), nth, end));
    }
    let times = chats.join_all().await.into_iter();
    let times: Result<Vec<_>, _> = times.collect();
    times.expect("replies").concat()
}

async fn one_chat(channel: Channel, nth: i32, end: Instant) -> Result<Vec<Duration>, Status> {
    let (requests, notes) = mpsc::channel(1);
    let mut client = RouteGuideClient::new(channel);
    let replies = client.route_chat(ReceiverStream::new(notes)).await?;
    let mut replies = replies.into_inner();
    let mut times = Vec::new();
    while Instant::now() < end {
        let began = Instant::now();
        // A chat that has ended says so with its status.
        let _ = requests.send(note((nth, 0), "note")).await;
        replies.message().await?;
        times.push(began.elapsed());
    }
    Ok(times)
}
