//! Peers that open streams at speed.

use std::{net::SocketAddr, time::Duration};

use bytes::Buf as _;
use tokio::{io::AsyncWriteExt as _, time::timeout};

use crate::measure::{
    client::GoodClient,
    measurement::{Measurement, growth},
    server_under_test::{GREETER, ServerUnderTest, Side},
    wire::{
        self, ACK, END_HEADERS, Frames, GOAWAY, HEADERS, PING, RST_STREAM, WHOLE_WINDOW,
        WINDOW_UPDATE,
    },
};

const CHAT: &str = "/helloworld.Greeter/SayHelloBidiStream";

/// What a flood came to.
#[derive(Debug, Default)]
struct Flood {
    closed: bool,
    /// The last stream that the server has heard of, as far as it tells.
    last: u32,
    resets: u32,
}

impl Flood {
    /// How many streams the server has seen.
    fn streams(&self) -> u32 {
        self.last.div_ceil(2)
    }
}

pub(crate) async fn rapid_reset(side: Side) -> Measurement {
    // As short as can be: three fields of the static table (RFC 7541, A).
    let block = vec![0x83, 0x86, 0x84];
    resets(side, block, |out, stream| {
        wire::frame(out, RST_STREAM, 0, stream, &8_u32.to_be_bytes());
    })
    .await
}

/// The server is made to reset the stream: a window that was open cannot be opened by 2^31 - 1 more.
pub(crate) async fn made_you_reset(side: Side) -> Measurement {
    resets(side, wire::call(CHAT), |out, stream| {
        wire::frame(out, WINDOW_UPDATE, 0, stream, &WHOLE_WINDOW);
    })
    .await
}

async fn resets(side: Side, block: Vec<u8>, reset: fn(&mut Vec<u8>, u32)) -> Measurement {
    const STREAMS: u32 = 1_000_000;
    let subject = ServerUnderTest::start(side, GREETER).await;
    let good = GoodClient::start(subject.addr);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let before = subject.rss();
    let flood = flood(subject.addr, STREAMS, block, reset).await;
    let served = good.stop();
    let (mb, rss) = growth(before, subject.peak_rss());
    let streams = flood.streams();
    let closed = if flood.closed {
        format!("closed at stream {streams}")
    } else {
        format!("never closed, {STREAMS} streams")
    };
    Measurement::new()
        .goal(flood.closed && streams <= 1100, closed)
        .figure(mb <= 20.0, rss)
        .goal(
            served.errors == 0,
            format!("{} errors of a good client", served.errors),
        )
}

pub(crate) async fn streams(side: Side) -> Measurement {
    const STREAMS: u32 = 20_000;
    let subject = ServerUnderTest::start(side, GREETER).await;
    let before = subject.rss();
    let flood = flood(subject.addr, STREAMS, wire::call(CHAT), |_, _| {}).await;
    let (mb, rss) = growth(before, subject.peak_rss());
    let opened = if flood.closed {
        flood.streams()
    } else {
        STREAMS
    };
    let admitted = opened - flood.resets;
    let measurement = Measurement::new()
        .goal(admitted <= 200, format!("{admitted} admitted"))
        .figure(mb <= 5.0, rss);
    if flood.closed {
        measurement.note(format!("closed at stream {opened}"))
    } else {
        measurement
    }
}

/// Opens so many streams, and does to each what `then` says.
async fn flood(
    addr: SocketAddr,
    streams: u32,
    block: Vec<u8>,
    then: fn(&mut Vec<u8>, u32),
) -> Flood {
    let (mut reader, mut writer) = wire::connect(addr).await.into_split();
    let sent = tokio::spawn(async move {
        let mut out = Vec::new();
        for stream in (0..streams).map(|nth| 2 * nth + 1) {
            wire::frame(&mut out, HEADERS, END_HEADERS, stream, &block);
            then(&mut out, stream);
            if out.len() > 8 * 1024 {
                writer.write_all(&out).await.ok()?;
                out.clear();
            }
        }
        // When this comes back, all before it has been dealt with.
        wire::frame(&mut out, PING, 0, 0, &[0; 8]);
        writer.write_all(&out).await.ok()?;
        Some(writer)
    });
    let mut flood = Flood::default();
    let mut frames = Frames::default();
    let all = async {
        while let Some(frame) = frames.read(&mut reader).await {
            flood.last = flood.last.max(frame.stream);
            match frame.kind {
                RST_STREAM => flood.resets += 1,
                GOAWAY => flood.last = flood.last.max(frame.payload.clone().get_u32()),
                PING if frame.is(PING, ACK) => return,
                _ => {}
            }
        }
        flood.closed = true;
    };
    timeout(Duration::from_secs(60), all)
        .await
        .expect("an end of the flood");
    sent.abort();
    flood
}
