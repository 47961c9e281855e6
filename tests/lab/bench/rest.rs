//! The same answers as gRPC and as JSON over HTTP/1.1.

use std::{
    fmt::Write as _,
    fs,
    io::{self, Write as _},
    net::SocketAddr,
};

use harness::raw;
use http::Request;
use samples::features;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};

use crate::bench::{
    call::{Call, Files},
    h2load::Load,
    peer::{OURS, REST, Ready},
    report::nanoseconds,
    rounds::{Contestant, Rounds},
};

/// How the calls come: a name, the protocol, and connections and streams.
const WAYS: [(&str, bool, [u64; 2]); 5] = [
    ("gRPC, one at a time", false, [1, 1]),
    ("gRPC, 50 at once on one connection", false, [1, 50]),
    ("gRPC, 50 connections", false, [50, 1]),
    ("REST, one at a time", true, [1, 1]),
    ("REST, 50 connections", true, [50, 1]),
];

/// Tables of Markdown.
pub(crate) async fn measure(rounds: Rounds, files: &Files) -> String {
    let grpc = Ready::make(&OURS).await.expect("nothing to make");
    let rest = Ready::make(&REST).await.expect("built with this");
    let mut out = String::new();
    for (title, call) in [("SayHello", Call::Hello), ("100 features", Call::Few)] {
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "### gRPC beside REST: {title}\n\n| way | bytes there | bytes back | CPU a call | calls a second | p50 | \
             p99 |\n|---|--:|--:|--:|--:|--:|--:|"
        );
        let mut contestants = Vec::new();
        let mut bytes = Vec::new();
        for (way, http1, at_once) in WAYS {
            let _ = writeln!(io::stderr(), "{title}: {way}");
            let server = if http1 { &rest } else { &grpc }.start(call, files).await;
            let load = if http1 {
                as_json(call, server.addr, files, at_once).await
            } else {
                call.load(server.addr, files, at_once).await
            };
            bytes.push(on_the_wire(&load).await);
            contestants.push(Contestant {
                server,
                load,
                units: 1,
                timed: true,
            });
        }
        let samples = rounds.measure(&contestants).await;
        for (((way, ..), bytes), sample) in WAYS.iter().zip(bytes).zip(samples) {
            let [p50, p99] = &sample.times;
            let _ = writeln!(
                out,
                "| {way} | {:.0} | {:.0} | {} | {:.0} | {} | {} |",
                bytes[0],
                bytes[1],
                nanoseconds(sample.cpu.median()),
                sample.rate.median(),
                nanoseconds(p50.median()),
                nanoseconds(p99.median()),
            );
        }
        out.push('\n');
    }
    out
}

/// The load that asks for the same over REST, of a server that gives the same answer.
async fn as_json(call: Call, addr: SocketAddr, files: &Files, [connections, _]: [u64; 2]) -> Load {
    let json: &[&str] = &["content-type: application/json"];
    let (path, headers, body) = match call {
        Call::Hello => ("/hello", json, Some(r#"{"name":"tonic"}"#)),
        _ => (
            "/features?south=-900000000&west=-1800000000&north=900000000&east=1800000000",
            &[][..],
            None,
        ),
    };
    let mut request = Request::get(path);
    if body.is_some() {
        request = Request::post(path).header("content-type", "application/json");
    }
    let request = request.body(body.unwrap_or_default().into());
    let answer = raw(addr, request.expect("a request")).await;
    let right = match call {
        Call::Hello => answer.body == br#"{"message":"Hello tonic"}"#.as_slice(),
        _ => features::read(answer.body.as_ref()) == features::all(),
    };
    assert!(right, "{answer:?}");
    let file = files.body(call).with_extension("json");
    fs::write(&file, body.unwrap_or_default()).expect("a file");
    Load {
        addr,
        path,
        headers,
        body: body.map(|_| file),
        http1: true,
        connections,
        streams: 1,
        reply: answer.body.len() as u64,
    }
}

/// How many bytes a call takes there and back on a connection that is kept, by TCP's count.
async fn on_the_wire(load: &Load) -> [f64; 2] {
    const CALLS: u64 = 200;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let one = Load {
        addr: listener.local_addr().expect("bound"),
        connections: 1,
        streams: 1,
        ..load.clone()
    };
    let server = load.addr;
    let between = async {
        let (mut client, _) = listener.accept().await.expect("h2load");
        let mut server = TcpStream::connect(server).await.expect("a server");
        copy_bidirectional(&mut client, &mut server)
            .await
            .expect("bytes")
    };
    let ((there, back), _) = tokio::join!(between, one.run(CALLS));
    [there, back].map(|bytes| bytes as f64 / CALLS as f64)
}
