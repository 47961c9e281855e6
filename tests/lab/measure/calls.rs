//! Calls that their client gives up: by a deadline that it leaves to the server, or by RST_STREAM.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout};

use crate::measure::{
    client::{Bare, code},
    measurement::{Measurement, time},
    server_under_test::{ROUTE_GUIDE, ServerUnderTest, Side},
};

/// A method of each kind and a first message. All but Watch wait for more of their request, so none
/// ends by itself; no RPC of RouteGuide that streams only its reply is without an end.
const ENDLESS: [(&str, &str, Option<&[u8]>); 4] = [
    ("unary", "/routeguide.RouteGuide/GetFeature", None),
    (
        "client",
        "/routeguide.RouteGuide/RecordRoute",
        Some(&[0; 5]),
    ),
    ("server", "/grpc.health.v1.Health/Watch", Some(&[0; 5])),
    ("bidi", "/routeguide.RouteGuide/RouteChat", None),
];

pub(crate) async fn deadline(side: Side) -> Measurement {
    const RUNS: usize = 20;
    let subject = ServerUnderTest::start(side, ROUTE_GUIDE).await;
    let mut measurement = Measurement::new();
    for (kind, path, message) in ENDLESS {
        let mut client = Bare::connect(subject.addr).await;
        let mut worst = Some(Duration::ZERO);
        let mut codes = Vec::new();
        for _ in 0..RUNS {
            let late = lateness(&mut client, path, message).await;
            worst = worst
                .zip(late.as_ref())
                .map(|(worst, (late, _))| worst.max(*late));
            let Some((_, code)) = late else { break };
            codes.push(code);
        }
        codes.sort();
        codes.dedup();
        measurement = measurement.by(
            worst,
            Duration::from_millis(20),
            format!("{kind} {}", time(worst)),
        );
        if worst.is_some() {
            let status = format!("status {}", codes.join(", "));
            measurement = measurement.goal(codes == ["4"], status);
        }
    }
    measurement
}

/// How long after its deadline the call ends, and how; none if it does not end.
async fn lateness(
    client: &mut Bare,
    path: &str,
    message: Option<&'static [u8]>,
) -> Option<(Duration, String)> {
    const GIVEN: Duration = Duration::from_millis(200);
    const GIVE_UP: Duration = Duration::from_secs(2);
    let began = Instant::now();
    let mut call = client.call(path, Some("200m")).await.expect("sent");
    if let Some(message) = message {
        // A Watch begins when its request has ended; RecordRoute is to wait for a second message.
        let end = path.ends_with("/Watch");
        call.request
            .send_data(Bytes::from_static(message), end)
            .expect("sent");
    }
    let code = timeout(GIVE_UP, code(call.answer)).await.ok()?;
    let late = began
        .elapsed()
        .checked_sub(GIVEN)
        .expect("a deadline that is waited for");
    Some((late, code.unwrap_or_else(|error| error.to_string())))
}

pub(crate) async fn cancel(side: Side) -> Measurement {
    const CALLS: usize = 10_000;
    const AT_ONCE: usize = 50;
    let mut subject = ServerUnderTest::start(side, ROUTE_GUIDE).await;
    let mut client = Bare::connect(subject.addr).await;

    let mut worst = Some(Duration::ZERO);
    for _ in 0..20 {
        let took = handler_outlives(&mut subject, &mut client).await;
        worst = worst.zip(took).map(|(worst, took)| worst.max(took));
    }
    for _ in 0..CALLS / AT_ONCE {
        let mut calls = Vec::new();
        for _ in 0..AT_ONCE {
            calls.push(begin_route(&mut client).await);
        }
        // A later call has been answered, so the handlers of these have begun.
        client
            .unary("/routeguide.RouteGuide/GetFeature")
            .await
            .expect("an answer");
        for mut call in calls {
            call.request.send_reset(h2::Reason::CANCEL);
        }
    }
    wait_for_none(&mut subject).await;
    let (_, committed) = subject.record_routes().await;
    Measurement::new()
        .by(
            worst,
            Duration::from_millis(50),
            format!("handler gone after {}", time(worst)),
        )
        .goal(committed == 0, format!("{committed} commits"))
}

/// How long a handler goes on after RST_STREAM.
async fn handler_outlives(subject: &mut ServerUnderTest, client: &mut Bare) -> Option<Duration> {
    let mut call = begin_route(client).await;
    while subject.record_routes().await.0 == 0 {}
    let began = Instant::now();
    call.request.send_reset(h2::Reason::CANCEL);
    timeout(Duration::from_secs(2), wait_for_none(subject))
        .await
        .ok()?;
    Some(began.elapsed())
}

async fn begin_route(client: &mut Bare) -> crate::measure::client::Call {
    let mut call = client
        .call("/routeguide.RouteGuide/RecordRoute", None)
        .await
        .expect("sent");
    call.request
        .send_data(Bytes::from_static(&[0; 10]), false)
        .expect("sent");
    call
}

async fn wait_for_none(subject: &mut ServerUnderTest) {
    while subject.record_routes().await.0 > 0 {
        sleep(Duration::from_micros(200)).await;
    }
}
