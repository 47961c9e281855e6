//! From SIGTERM to exit.

use std::time::Duration;

use proto::helloworld::{HelloRequest, greeter_client::GreeterClient};
use rustix::process::Signal;
use tokio::{
    net::TcpStream,
    sync::mpsc,
    time::{Instant, sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::measure::{
    measurement::{Measurement, time},
    server_under_test::{GREETER, ServerUnderTest, Setup, Side},
    wire,
};

const LAME_DUCK: Duration = Duration::from_millis(200);
const DRAIN: Duration = Duration::from_secs(2);
const QUICK: Setup<'_> = Setup {
    ours: &["--lame-duck", "200ms", "--drain-timeout", "2s"],
    ..GREETER
};

pub(crate) async fn sigterm(side: Side) -> Measurement {
    const GIVE_UP: Duration = Duration::from_secs(10);
    let lame_duck = if side == Side::Ours {
        LAME_DUCK
    } else {
        Duration::ZERO
    };

    let idle = ServerUnderTest::start(side, QUICK)
        .await
        .terminate(GIVE_UP)
        .await;
    let after_lame_duck = idle.map(|took| took.saturating_sub(lame_duck));

    let subject = ServerUnderTest::start(side, QUICK).await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(
            TcpStream::connect(subject.addr)
                .await
                .expect("a connection"),
        );
    }
    let _mute = wire::connect(subject.addr).await;
    let _watch = watch(subject.channel()).await;
    let (_requests, requests) = mpsc::channel::<HelloRequest>(1);
    let mut greeter = GreeterClient::new(subject.channel());
    let chat = greeter
        .say_hello_bidi_stream(ReceiverStream::new(requests))
        .await;
    let _chat = chat.expect("an open stream");
    let busy = subject.terminate(GIVE_UP).await;

    let allowed = LAME_DUCK + DRAIN + Duration::from_secs(1);
    Measurement::new().by(busy, allowed, time(busy)).by(
        after_lame_duck,
        Duration::from_millis(100),
        format!("idle: {} after the lame duck", time(after_lame_duck)),
    )
}

pub(crate) async fn not_serving(side: Side) -> Measurement {
    const STARTS: usize = 5;
    const GIVE_UP: Duration = Duration::from_secs(2);
    let (mut checked, mut watched) = (Some(Duration::ZERO), Some(Duration::ZERO));
    for _ in 0..STARTS {
        let subject = ServerUnderTest::start(side, QUICK).await;
        let mut statuses = watch(subject.channel()).await;
        let mut health = HealthClient::new(subject.channel());
        health
            .check(HealthCheckRequest::default())
            .await
            .expect("a status");
        let began = Instant::now();
        subject.signal(Signal::TERM);
        let (check, watch) = tokio::join!(
            timeout(GIVE_UP, refuses(&mut health)),
            timeout(GIVE_UP, async {
                let status = statuses.message().await.ok().flatten();
                (status?.status() == ServingStatus::NotServing).then(|| began.elapsed())
            }),
        );
        let check = check.ok().flatten().map(|at| at - began);
        checked = checked.zip(check).map(|(worst, this)| worst.max(this));
        watched = watched
            .zip(watch.ok().flatten())
            .map(|(worst, this)| worst.max(this));
    }
    let soon = Duration::from_millis(50);
    Measurement::new()
        .by(checked, soon, format!("Check {}", time(checked)))
        .by(watched, soon, format!("Watch {}", time(watched)))
        .note(format!("worst of {STARTS}"))
}

async fn watch(channel: Channel) -> tonic::Streaming<tonic_health::pb::HealthCheckResponse> {
    let watch = HealthClient::new(channel)
        .watch(HealthCheckRequest::default())
        .await;
    let mut statuses = watch.expect("a watch").into_inner();
    let first = statuses
        .message()
        .await
        .expect("a status")
        .expect("a status");
    assert_eq!(first.status(), ServingStatus::Serving);
    statuses
}

/// When a check says NOT_SERVING; none if checks fail instead.
async fn refuses(health: &mut HealthClient<Channel>) -> Option<Instant> {
    loop {
        let status = health
            .check(HealthCheckRequest::default())
            .await
            .ok()?
            .into_inner()
            .status();
        if status == ServingStatus::NotServing {
            return Some(Instant::now());
        }
        sleep(Duration::from_millis(1)).await;
    }
}
