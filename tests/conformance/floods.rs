//! What costs an attacker little: it is bounded in places, memory and processor time, and health stays
//! truthful meanwhile.

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream};
use harness::{Conversation, PREFACE, Process, Running, frames, get, start, within};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    runtime::Handle,
    sync::mpsc,
    time::timeout,
};
use tonic::Code;

const UNARY: &str = "/grpc.examples.echo.Echo/UnaryEcho";
const BOTH: &str = "/grpc.examples.echo.Echo/BidirectionalStreamingEcho";
const CHECK: &str = "/grpc.health.v1.Health/Check";
const WATCH: &str = "/grpc.health.v1.Health/Watch";

const EMPTY: &[u8] = b"\0\0\0\0\0";

/// Waits until a page of the admin listener has this line.
async fn metrics_have(server: &Running, line: &str) {
    within(async { while !get(server.admin, "/metrics").await.1.contains(line) {} }).await;
}

async fn check(addr: SocketAddr, headers: &[(&str, &str)]) -> Option<Code> {
    let client = Conversation::with(addr).await;
    let mut check = client.call(CHECK, headers).await;
    check.send(EMPTY, true);
    check.end().await.code()
}

#[tokio::test]
async fn watches_and_half_sent_checks_leave_health_to_others() {
    const CONNECTIONS: usize = 20;
    const EACH: usize = 100;
    // Far fewer than there are Watches and half-sent checks.
    let server = start(echo::APP, &["--max-calls", "400"]).await;
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS {
        let client = Conversation::with(server.addr).await;
        let mut calls = Vec::new();
        for _ in 0..EACH {
            let mut watch = client.call(WATCH, &[]).await;
            watch.send(EMPTY, true);
            let mut half = client.call(CHECK, &[]).await;
            half.send(&EMPTY[..3], false);
            calls.extend([watch, half]);
        }
        held.push((client, calls));
    }
    metrics_have(
        &server,
        r#"grpc_server_rejected_total{reason="call_of_peer"}"#,
    )
    .await;
    let alb = [("user-agent", "ELB-HealthChecker/2.0")];
    for _ in 0..20 {
        assert_eq!(check(server.addr, &[]).await, Some(Code::Ok));
        assert_eq!(check(server.addr, &alb).await, Some(Code::Ok));
        // As the kubelet asks.
        assert_eq!(check(server.admin, &[]).await, Some(Code::Ok));
        assert_eq!(get(server.admin, "/readyz").await.0, 200);
    }
}

#[tokio::test]
async fn a_load_balancer_is_answered_before_it_has_sent_its_request() {
    let server = start(echo::APP, &[]).await;
    let client = Conversation::with(server.addr).await;
    let alb = [("user-agent", "ELB-HealthChecker/2.0")];
    let half = client.call(CHECK, &alb).await;
    assert_eq!(half.end().await.code(), Some(Code::Ok));
}

#[tokio::test]
async fn an_unknown_method_of_health_is_a_call_like_any_other() {
    let server = start(echo::APP, &["--max-calls", "1"]).await;
    let client = Conversation::with(server.addr).await;
    let mut chat = client.call(BOTH, &[]).await;
    chat.say(&echo::request("chat that takes the only place"));
    let _open = chat.head().await;
    let mut unknown = client.call("/grpc.health.v1.Health/Chck", &[]).await;
    unknown.send(EMPTY, true);
    assert_eq!(unknown.end().await.code(), Some(Code::Unavailable));
}

#[tokio::test]
async fn one_peer_has_its_share_of_the_calls() {
    let server = start(echo::APP, &["--max-calls", "8"]).await;
    let greedy = Conversation::with(server.addr).await;
    let mut held = Vec::new();
    for (place, expected) in [(0, Code::Ok), (1, Code::Ok), (2, Code::Unavailable)] {
        let mut chat = greedy.call(BOTH, &[]).await;
        chat.say(&echo::request("chat in silence"));
        match expected {
            Code::Ok => held.push(chat.head().await),
            _ => assert_eq!(chat.end().await.code(), Some(expected), "{place}"),
        }
    }
    let modest = Conversation::from([127, 0, 0, 2], server.addr).await;
    let mut call = modest.call(UNARY, &[]).await;
    call.say_last(&echo::request("another peer"));
    assert_eq!(call.end().await.code(), Some(Code::Ok));
}

#[tokio::test]
async fn a_reply_that_is_not_taken_keeps_its_place_until_it_is_reset() {
    let flags = ["--max-calls", "1", "--stall-timeout", "500ms"];
    let server = start(echo::APP, &flags).await;
    let client = Conversation::with_window(server.addr, 1).await;
    let mut call = client.call(UNARY, &[]).await;
    call.say_last(&echo::request("a reply of more than a byte"));
    let _taken_by_nobody = call.head().await;
    let other = Conversation::with(server.addr).await;
    let mut refused = other.call(UNARY, &[]).await;
    refused.say_last(&echo::request("too many"));
    assert_eq!(refused.end().await.code(), Some(Code::Unavailable));
    metrics_have(&server, "grpc_server_in_flight 0\n").await;
    let mut served = other.call(UNARY, &[]).await;
    served.say_last(&echo::request("in time"));
    assert_eq!(served.end().await.code(), Some(Code::Ok));
}

#[tokio::test]
async fn a_call_that_is_over_leaves_no_task_behind() {
    let server = start(echo::APP, &[]).await;
    let client = Conversation::with(server.addr).await;
    assert_eq!(check(server.addr, &[]).await, Some(Code::Ok));
    let mut first = client.call(UNARY, &[]).await;
    first.say_last(&echo::request("the connection is there"));
    first.end().await;
    metrics_have(&server, "grpc_server_connections 1\n").await;
    let before = Handle::current().metrics().num_alive_tasks();
    // The deadline ends the call, and its client leaves the request open: the handler's task waits for what is
    // next in it.
    let mut held = Vec::new();
    for _ in 0..100 {
        let mut call = client.call(BOTH, &[("grpc-timeout", "500m")]).await;
        call.say(&echo::request("detach"));
        held.push(call.head().await);
    }
    metrics_have(&server, "grpc_server_in_flight 0\n").await;
    within(async {
        while Handle::current().metrics().num_alive_tasks() > before {
            tokio::task::yield_now().await;
        }
    })
    .await;
    drop((held, client));
}

/// Sends `frame` until the server closes the connection.
pub(crate) async fn flood(addr: SocketAddr, begin: &[u8], frame: &[u8]) {
    let stream = TcpStream::connect(addr).await.expect("queued");
    let (mut read, mut write) = stream.into_split();
    write
        .write_all(&[PREFACE, begin].concat())
        .await
        .expect("sent");
    let flood = async { while write.write_all(&frame.repeat(100)).await.is_ok() {} };
    // It is read from, or the flood would end by itself.
    let gone = async {
        let _ = read.read_to_end(&mut Vec::new()).await;
    };
    within(async {
        tokio::select! { () = flood => {} () = gone => {} }
    })
    .await;
}

#[tokio::test]
async fn a_flood_of_frames_that_cost_nothing_ends_the_connection_and_is_told() {
    let server = start(echo::APP, &[]).await;
    let head: Vec<u8> = [(":method", "GET"), (":scheme", "http"), (":path", "/")]
        .iter()
        .flat_map(|(name, value)| frames::field(name, value))
        .collect();
    let closed_stream = frames::headers(
        1,
        frames::flag::END_HEADERS | frames::flag::END_STREAM,
        &head,
    );
    for addr in [server.addr, server.admin] {
        for (begin, frame) in [
            (&b""[..], frames::window_update(0, 1)),
            (&closed_stream, frames::window_update(1, 1)),
            (&closed_stream, frames::rst_stream(1, frames::code::CANCEL)),
            (b"", frames::goaway(0, frames::code::NO_ERROR, b"")),
            (b"", frames::ping(*b"whatever")),
        ] {
            flood(addr, begin, &frame).await;
        }
    }
    let reason = r#"grpc_server_connections_failed_total{reason="control_frames"}"#;
    metrics_have(&server, reason).await;
}

#[tokio::test]
async fn a_peer_that_stalls_the_admin_listener_is_let_go() {
    let server = start(
        echo::APP,
        &["--stall-timeout=100ms", "--handshake-timeout=100ms"],
    )
    .await;
    for says in [
        &b"P"[..],
        b"PRI",
        &PREFACE[..30],
        &[PREFACE, b"\0\0\x08\x06\0"].concat(),
    ] {
        let mut stream = TcpStream::connect(server.admin).await.expect("queued");
        stream.write_all(says).await.expect("sent");
        let _ = within(stream.read_to_end(&mut Vec::new())).await;
    }
}

#[tokio::test]
async fn callers_cannot_take_the_descriptors_that_the_admin_listener_needs() {
    // A peer that is not served within that finds no descriptor left for it.
    const WAITS: Duration = Duration::from_secs(1);
    let server = Process::start_with_files(256, "echo", &["--max-connections=5000"]).await;
    let mut held = Vec::new();
    loop {
        let mut stream = TcpStream::connect(server.addr).await.expect("queued");
        let settings = async {
            stream.write_all(PREFACE).await?;
            stream.read_exact(&mut [0; 9]).await
        };
        match timeout(WAITS, settings).await {
            Ok(Ok(_)) => held.push(stream),
            _ => break,
        }
    }
    for _ in 0..10 {
        assert_eq!(get(server.admin, "/healthz").await, (200, "ok".to_owned()));
        assert_eq!(check(server.admin, &[]).await, Some(Code::Ok));
    }
    assert!(held.len() > 128, "{} for callers", held.len());
}

#[tokio::test]
async fn the_soft_limit_of_descriptors_is_raised() {
    let server = Process::start_with_soft_limit(64, "echo", &[]).await;
    let mut held = Vec::new();
    for _ in 0..100 {
        let mut stream = TcpStream::connect(server.addr).await.expect("queued");
        stream.write_all(PREFACE).await.expect("sent");
        within(stream.read_exact(&mut [0; 9]))
            .await
            .expect("its SETTINGS");
        held.push(stream);
    }
}

#[tokio::test]
async fn connects_without_end_do_not_prolong_the_drain() {
    const CONNECTING: usize = 2;
    let mut server = start(echo::APP, &["--drain-timeout", "1s"]).await;
    let addr = server.addr;
    let client = Conversation::with(addr).await;
    let mut chat = client.call(BOTH, &[]).await;
    chat.say(&echo::request("a call that is open when the drain begins"));
    // Threads, so that one of them connects in time however busy the machine is. They end with the listener.
    let (connects, mut connected) = mpsc::unbounded_channel();
    for _ in 0..CONNECTING {
        let connects = connects.clone();
        thread::spawn(move || {
            while std::net::TcpStream::connect(addr).is_ok() {
                let _ = connects.send(());
                thread::sleep(Duration::from_millis(3));
            }
        });
    }
    for _ in 0..10 * CONNECTING {
        within(connected.recv()).await;
    }
    server.stop();
    let began = Instant::now();
    assert_eq!(chat.end().await.code(), Some(Code::Unavailable));
    let took = began.elapsed();
    // It has half of the drain's time. With a wait for each of up to 1024 connections before that began, it had
    // 1.6 s more.
    assert!(took < Duration::from_millis(1500), "{took:?}");
}

#[tokio::test]
async fn a_flood_of_health_checks_is_told_of() {
    let mut server = Process::start("echo", &[]).await;
    let client = Conversation::with(server.addr).await;
    let check = async |_| {
        let mut check = client.call(CHECK, &[]).await;
        check.send(EMPTY, true);
        check.end().await;
    };
    let checks = stream::iter(0..).map(check).buffer_unordered(100);
    let checks = checks.for_each(async |()| {});
    tokio::select! {
        () = checks => {}
        line = within(server.log("over 1000 health checks a second")) => {
            assert_eq!(line["level"], "WARN");
        }
    }
}

#[tokio::test]
async fn who_shows_no_token_is_not_told_which_replica_answered() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(&file, "known\n").expect("written");
    let path = file.path().to_str().expect("text");
    let server = start(echo::APP, &["--tokens-file", path]).await;
    let client = Conversation::with(server.addr).await;
    for (token, replica) in [("Bearer known", true), ("Bearer unknown", false)] {
        let mut call = client.call(UNARY, &[("authorization", token)]).await;
        call.say_last(&echo::request("who?"));
        let named = call.end().await.field("x-served-by").is_some();
        assert_eq!(named, replica, "{token}");
    }
}
