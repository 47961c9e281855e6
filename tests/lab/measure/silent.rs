//! Connections on which nothing happens.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::AsyncReadExt as _,
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::measure::{
    client::GoodClient,
    measurement::{Measurement, percentile, time},
    server_under_test::{GREETER, ServerUnderTest, Side},
    wire::{self, ACK, Frames, SETTINGS},
};

pub(crate) async fn silent(side: Side) -> Measurement {
    const SOCKETS: u32 = 10_000;
    const GIVE_UP: Duration = Duration::from_secs(8);
    let subject = ServerUnderTest::start(side, GREETER).await;
    let good = GoodClient::start(subject.addr);
    sleep(Duration::from_secs(1)).await;
    let before = subject.rss();
    let storm = std::time::Instant::now();

    let mut sockets = JoinSet::new();
    for nth in 0..SOCKETS {
        let from = Ipv4Addr::new(127, 0, 0, 2 + (nth % 20) as u8);
        let stream = connect_from(from, subject.addr).await;
        sockets.spawn(closed_after(stream, GIVE_UP));
    }
    let connected = storm.elapsed();
    let each = (subject.rss() as f64 - before as f64) / f64::from(SOCKETS);
    let lives = sockets.join_all().await;
    let last = lives
        .into_iter()
        .collect::<Option<Vec<_>>>()
        .and_then(|lives| lives.into_iter().max());

    let served = good.stop();
    let (mut early, mut late): (Vec<_>, Vec<_>) =
        served.calls.iter().partition(|(began, _)| *began < storm);
    let p99 = |calls: &mut Vec<(std::time::Instant, Duration)>| {
        let mut times: Vec<_> = calls.iter().map(|(_, took)| *took).collect();
        percentile(&mut times, 0.99).expect("calls")
    };
    let (early, late) = (p99(&mut early), p99(&mut late));
    Measurement::new()
        .by(
            last,
            Duration::from_secs(6),
            format!("last closed after {}", time(last)),
        )
        .likely(
            late <= 2 * early,
            format!("good p99 {} → {}", time(early), time(late)),
        )
        .goal(served.errors == 0, format!("{} errors", served.errors))
        .figure(each <= 20_000.0, format!("{:.1} KB a socket", each / 1e3))
        .note(format!("connected in {}", time(connected)))
}

pub(crate) async fn connect_from(from: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket
        .bind((from, 0).into())
        .expect("an address of this host");
    socket.connect(to).await.expect("a connection")
}

async fn closed_after(mut stream: TcpStream, limit: Duration) -> Option<Duration> {
    let began = Instant::now();
    // A reset is as good as an end, and plain tonic speaks first.
    let _ = timeout(limit, stream.read_to_end(&mut Vec::new()))
        .await
        .ok()?;
    Some(began.elapsed())
}

pub(crate) async fn footprint(side: Side) -> Measurement {
    const CONNECTIONS: u32 = 1000;
    let subject = ServerUnderTest::start(side, GREETER).await;
    let idle = subject.rss();
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut stream = wire::connect(subject.addr).await;
        let mut frames = Frames::default();
        while !frames
            .read(&mut stream)
            .await
            .expect("settings")
            .is(SETTINGS, ACK)
        {}
        connections.push(stream);
    }
    let each = (subject.rss() - idle) as f64 / f64::from(CONNECTIONS) / 1e3;
    Measurement::new()
        .note(format!("idle {:.1} MB", idle as f64 / 1e6))
        .figure(each <= 20.0, format!("{each:.1} KB a connection"))
}
