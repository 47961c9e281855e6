//! A server that has no file descriptor left.

use std::time::Duration;

use tokio::{
    net::TcpStream,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::measure::{
    client::Bare,
    measurement::{Measurement, time, within},
    server_under_test::{GREETER, ServerUnderTest, Setup, Side},
};

pub(crate) async fn emfile(side: Side) -> Measurement {
    const HELD: Duration = Duration::from_secs(2);
    let setup = Setup {
        run: "ulimit -n 64 && exec",
        ..GREETER
    };
    let subject = ServerUnderTest::start(side, setup).await;
    let mut attempts = JoinSet::new();
    for _ in 0..200 {
        attempts.spawn(TcpStream::connect(subject.addr));
    }
    let connections = attempts.join_all().await;
    let before = subject.cpu();
    sleep(HELD).await;
    let cpu = (subject.cpu() - before).as_secs_f64() / HELD.as_secs_f64() * 100.0;
    drop(connections);
    let began = Instant::now();
    let call = async || {
        let mut client = Bare::connect(subject.addr).await;
        client.unary("/grpc.health.v1.Health/Check").await
    };
    // A client that gives up and tries again: where the queue is full, the kernel drops its SYN and
    // would send the next one a whole second later.
    const ATTEMPT: Duration = Duration::from_millis(200);
    let answered = async { while !matches!(timeout(ATTEMPT, call()).await, Ok(Ok(_))) {} };
    let recovered = timeout(Duration::from_secs(10), answered)
        .await
        .ok()
        .map(|()| began.elapsed());
    Measurement::new()
        .figure(cpu <= 5.0, format!("{cpu:.1} % of a core"))
        .likely(
            within(recovered, Duration::from_secs(1)),
            format!("next call served after {}", time(recovered)),
        )
}
