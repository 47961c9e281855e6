//! Connections that grow old.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::AsyncWriteExt as _,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::measure::{
    measurement::{Measurement, time},
    server_under_test::{GREETER, ServerUnderTest, Setup, Side},
    wire::{
        self, ACK, DATA, EMPTY_MESSAGE, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, PING,
        SETTINGS,
    },
};

const CONNECTIONS: u32 = 1000;

/// What became of a connection.
struct Life {
    goaway: Option<Duration>,
    closed: Option<Duration>,
    served: bool,
}

pub(crate) async fn age(side: Side) -> Measurement {
    let setup = Setup {
        ours: &[
            "--max-connection-age",
            "2s",
            "--max-connection-age-grace",
            "1s",
        ],
        plain: &["--age", "2", "--grace", "1"],
        ..GREETER
    };
    let subject = ServerUnderTest::start(side, setup).await;
    let mut connections = JoinSet::new();
    for nth in 0..CONNECTIONS {
        connections.spawn(live(
            subject.addr,
            Duration::from_millis((nth * 7 % 1700).into()),
        ));
        // Opened over a second: the tool's own queue must not be measured.
        sleep(Duration::from_millis(1)).await;
    }
    let lives = connections.join_all().await;
    let failed = lives.iter().filter(|life| !life.served).count();
    let ages: Vec<_> = lives.iter().filter_map(|life| life.goaway).collect();
    let earliest = ages.iter().min().copied();
    let latest = ages.iter().max().copied();
    let in_window =
        |age: Option<Duration>| age.is_some_and(|age| (1.79..=2.25).contains(&age.as_secs_f64()));
    let spread = chi_square(&ages);
    Measurement::new()
        .goal(
            ages.len() == lives.len(),
            format!("GOAWAY to {}", ages.len()),
        )
        .figure(
            in_window(earliest) && in_window(latest),
            format!("from {} to {}", time(earliest), time(latest)),
        )
        .likely(spread <= 16.92, format!("chi-square {spread:.1}"))
        .goal(failed == 0, format!("{failed} lost calls"))
        .note(format!(
            "closed by {}",
            time(lives.iter().filter_map(|life| life.closed).max())
        ))
}

/// Makes one call at this time, and stays until the server closes.
async fn live(addr: SocketAddr, call_at: Duration) -> Life {
    let mut life = Life {
        goaway: None,
        closed: None,
        served: false,
    };
    let mut stream = wire::connect(addr).await;
    let opened = Instant::now();
    let (mut reader, mut writer) = stream.split();
    let call = async {
        sleep(call_at).await;
        let mut call = Vec::new();
        wire::frame(
            &mut call,
            HEADERS,
            END_HEADERS,
            1,
            &wire::call("/grpc.health.v1.Health/Check"),
        );
        wire::frame(&mut call, DATA, END_STREAM, 1, EMPTY_MESSAGE);
        call
    };
    let mut call = std::pin::pin!(call);
    let mut frames = Frames::default();
    let (mut called, mut data) = (false, false);
    let end = opened + Duration::from_secs(6);
    loop {
        let mut answer = Vec::new();
        tokio::select! {
            bytes = &mut call, if !called => {
                called = true;
                answer = bytes;
            }
            frame = timeout(end - Instant::now(), frames.read(&mut reader)) => match frame {
                Err(_) => return life,
                Ok(None) => {
                    life.closed = Some(opened.elapsed());
                    return life;
                }
                Ok(Some(frame)) => match frame.kind {
                    SETTINGS if !frame.is(SETTINGS, ACK) => wire::frame(&mut answer, SETTINGS, ACK, 0, &[]),
                    PING if !frame.is(PING, ACK) => wire::frame(&mut answer, PING, ACK, 0, &frame.payload),
                    GOAWAY => _ = life.goaway.get_or_insert(opened.elapsed()),
                    DATA => data = true,
                    // An error would have no message before its trailers.
                    HEADERS if frame.is(HEADERS, END_STREAM) => life.served = data,
                    _ => {}
                },
            },
        }
        // The connection may be closed by now, which the next read tells.
        let _ = writer.write_all(&answer).await;
    }
}

/// How far from even ten parts of the window are; by chance over 16.92 once in twenty times.
fn chi_square(ages: &[Duration]) -> f64 {
    let mut parts = [0_u32; 10];
    for age in ages {
        let part = (age.as_secs_f64() - 1.8) / 0.04;
        parts[(part as usize).min(9)] += 1;
    }
    let even = f64::from(CONNECTIONS) / 10.0;
    parts
        .iter()
        .map(|&part| (f64::from(part) - even).powi(2) / even)
        .sum()
}
