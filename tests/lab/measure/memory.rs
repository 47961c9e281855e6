//! Peers that have the server hold as much memory as it lets them.

use std::{net::SocketAddr, time::Duration};

use proto::helloworld::{HelloRequest, greeter_client::GreeterClient};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::measure::{
    client::GoodClient,
    measurement::{self, Measurement},
    server_under_test::{GREETER, ServerUnderTest, Setup, Side},
    wire::{self, DATA, END_HEADERS, END_STREAM, HEADERS, SETTINGS},
};

/// As the manifests have it.
const MANIFEST: Setup<'_> = Setup {
    ours: &[
        "--max-connections=5000",
        "--max-calls=1000",
        "--max-calls-per-peer=1000",
    ],
    ..GREETER
};

/// The limit of the manifests, in MiB.
const LIMIT: f64 = 256.0;

const UNARY: &str = "/helloworld.Greeter/SayHello";
const CHAT: &str = "/helloworld.Greeter/SayHelloBidiStream";
const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";

/// What is sent on one stream.
type Attack = fn(&mut Vec<u8>, u32);

/// What they are called, and on how many connections they come.
const ATTACKS: [(&str, usize, Attack); 4] = [
    ("replies that are not taken", 40, replies),
    ("questions to reflection", 125, questions),
    ("unread frames of five bytes", 40, small_frames),
    ("requests and replies", 40, requests_and_replies),
];

pub(crate) async fn memory(side: Side) -> Measurement {
    let mut measurement = Measurement::new();
    for (name, connections, attack) in ATTACKS {
        let subject = ServerUnderTest::start(side, MANIFEST).await;
        let held = hold(subject.addr, connections, attack).await;
        sleep(Duration::from_secs(2)).await;
        let mebibytes = subject.peak_rss() as f64 / f64::from(1 << 20);
        let good = GoodClient::start(subject.addr);
        drop(held);
        sleep(Duration::from_millis(500)).await;
        good.stop();
        measurement = measurement.figure(mebibytes < LIMIT, format!("{name}: {mebibytes:.0} MiB"));
    }
    measurement
}

/// Attacks a greeter that somebody else runs, confines and watches: how soon it serves again.
pub(crate) async fn of_another(addr: SocketAddr) -> Measurement {
    const PATIENCE: Duration = Duration::from_secs(10);
    let mut measurement = Measurement::new();
    for (name, connections, attack) in ATTACKS {
        let held = hold(addr, connections, attack).await;
        sleep(Duration::from_secs(1)).await;
        drop(held);
        let took = timeout(PATIENCE, served(addr)).await.ok();
        let text = format!("{name}: serves after {}", measurement::time(took));
        measurement = measurement.goal(took.is_some(), text);
    }
    measurement
}

/// How long it takes until a call is served.
async fn served(addr: SocketAddr) -> Duration {
    let began = Instant::now();
    let mut client = GreeterClient::new(harness::channel(addr));
    let request = HelloRequest {
        name: "good".into(),
    };
    while client.say_hello(request.clone()).await.is_err() {
        sleep(Duration::from_millis(10)).await;
    }
    began.elapsed()
}

/// Opens 200 streams on each of so many connections, with a window of one byte for what comes back.
async fn hold(addr: SocketAddr, connections: usize, attack: Attack) -> JoinSet<()> {
    const STREAMS: u32 = 200;
    const INITIAL_WINDOW_SIZE: [u8; 6] = [0, 4, 0, 0, 0, 1];
    let mut held = JoinSet::new();
    for _ in 0..connections {
        let (mut reader, mut writer) = wire::connect(addr).await.into_split();
        held.spawn(async move {
            let mut heard = vec![0; 4096];
            while reader.read(&mut heard).await.is_ok_and(|read| read > 0) {}
        });
        let mut out = Vec::new();
        wire::frame(&mut out, SETTINGS, 0, 0, &INITIAL_WINDOW_SIZE);
        for stream in (1..).step_by(2).take(STREAMS as usize) {
            attack(&mut out, stream);
            // Those who are no longer heard have done their worst.
            let _ = writer.write_all(&out).await;
            out.clear();
        }
        held.spawn(async move {
            let _writer = writer;
            std::future::pending().await
        });
    }
    held
}

/// A name as long as the server takes it, as a message with its prefix.
fn hello() -> Vec<u8> {
    // Field 1, 1000 bytes; unknown fields 2 fill the message.
    let name = [&[0x0a, 0xe8, 0x07][..], &[b'n'; 1000]].concat();
    let rest = [&[0x12, 0xe8, 0x07][..], &[b'r'; 1000]].concat();
    let message = [name, rest.repeat(60)].concat();
    harness::frames::message(0, &message)
}

/// Messages in frames of no more than 16 KiB.
fn send(out: &mut Vec<u8>, stream: u32, last: bool, bytes: &[u8]) {
    let mut parts = bytes.chunks(16 * 1024).peekable();
    while let Some(part) = parts.next() {
        let flags = if last && parts.peek().is_none() {
            END_STREAM
        } else {
            0
        };
        wire::frame(out, DATA, flags, stream, part);
    }
}

fn replies(out: &mut Vec<u8>, stream: u32) {
    wire::frame(out, HEADERS, END_HEADERS, stream, &wire::call(UNARY));
    send(out, stream, true, &hello());
}

fn questions(out: &mut Vec<u8>, stream: u32) {
    // By symbol: the file that the answer holds is long.
    let question = b"\x22\x12helloworld.Greeter";
    wire::frame(out, HEADERS, END_HEADERS, stream, &wire::call(REFLECTION));
    send(
        out,
        stream,
        false,
        &harness::frames::message(0, question).repeat(50),
    );
}

fn small_frames(out: &mut Vec<u8>, stream: u32) {
    wire::frame(out, HEADERS, END_HEADERS, stream, &wire::call(CHAT));
    for _ in 0..1000 {
        wire::frame(out, DATA, 0, stream, &harness::frames::message(0, b""));
    }
}

fn requests_and_replies(out: &mut Vec<u8>, stream: u32) {
    wire::frame(out, HEADERS, END_HEADERS, stream, &wire::call(CHAT));
    send(out, stream, false, &hello());
    // No window is given back for what is not read, and a connection has 1 MiB.
    send(out, stream, false, &hello()[..4 * 1024]);
}
