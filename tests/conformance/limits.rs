//! What one peer, or all of them, can take from the process.

use std::{net::SocketAddr, time::Duration};

use echo::{Ended, ended};
use harness::{Conversation, PREFACE, framed, get, start, within};
use http::Request;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::interval,
};
use tonic::Code;

use crate::floods::flood;

const UNARY: &str = "/grpc.examples.echo.Echo/UnaryEcho";
const REPLIES: &str = "/grpc.examples.echo.Echo/ServerStreamingEcho";
const BOTH: &str = "/grpc.examples.echo.Echo/BidirectionalStreamingEcho";

/// Connects from this address of the loopback network, and says hello in HTTP/2.
async fn connect(from: [u8; 4], addr: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind((from, 0).into()).expect("a free port");
    let mut stream = socket.connect(addr).await.expect("queued");
    stream.write_all(PREFACE).await.expect("sent");
    stream
}

/// Whether the server answers what has been said.
async fn is_served(stream: &mut TcpStream) -> bool {
    within(stream.read_exact(&mut [0; 9])).await.is_ok()
}

async fn is_closed(stream: &mut TcpStream) {
    let _ = within(stream.read_to_end(&mut Vec::new())).await;
}

#[tokio::test]
async fn one_peer_has_its_share_of_the_connections_and_all_have_theirs() {
    let flags = ["--max-connections", "3", "--max-connections-per-peer", "2"];
    let server = start(echo::APP, &flags).await;
    let (greedy, modest, late) = ([127, 0, 0, 2], [127, 0, 0, 3], [127, 0, 0, 4]);
    let mut held = Vec::new();
    for (peer, served) in [
        (greedy, true),
        (greedy, true),
        (greedy, false),
        (modest, true),
        (late, false),
    ] {
        let mut stream = connect(peer, server.addr).await;
        assert_eq!(is_served(&mut stream).await, served, "{peer:?}");
        held.push(stream);
    }
    let (_, metrics) = get(server.admin, "/metrics").await;
    for refused in ["connection_of_peer", "connection"] {
        let line = format!(r#"grpc_server_rejected_total{{reason="{refused}"}} 1"#);
        assert!(metrics.contains(&line), "{metrics}");
    }

    // What is given back can be had again.
    held.clear();
    within(async { while !is_served(&mut connect(greedy, server.addr).await).await {} }).await;
}

#[tokio::test]
async fn a_call_too_many_is_told_to_come_back_and_a_health_check_is_none() {
    let server = start(
        echo::APP,
        &["--max-calls", "2", "--max-calls-per-peer", "2"],
    )
    .await;
    let client = Conversation::with(server.addr).await;
    let mut watch = client.call("/grpc.health.v1.Health/Watch", &[]).await;
    watch.send(&b"\0\0\0\0\0"[..], true);
    let _watching = watch.head().await;
    let name = "chat that takes the last place";
    let mut chat = client.call(BOTH, &[]).await;
    chat.say(&echo::request(name));
    let (_, mut replies, mut request) = chat.head().await;

    let mut call = client.call(UNARY, &[]).await;
    call.say_last(&echo::request("too many"));
    let ending = call.end().await;
    assert_eq!(ending.code(), Some(Code::Unavailable));
    let pushback = ending.field("grpc-retry-pushback-ms").expect("a time");
    assert!(
        (500..1500).contains(&pushback.parse().expect("a number")),
        "{pushback}"
    );
    let mut health = client.call("/grpc.health.v1.Health/Check", &[]).await;
    health.send(&b"\0\0\0\0\0"[..], true);
    assert_eq!(health.end().await.code(), Some(Code::Ok));

    // The place is free when the stream has ended, and not before.
    request.send_data(Default::default(), true).expect("sent");
    while within(replies.data()).await.is_some() {}
    ended(name).await;
    within(async {
        loop {
            let mut call = client.call(UNARY, &[]).await;
            call.say_last(&echo::request("in time"));
            if call.end().await.code() == Some(Code::Ok) {
                break;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_peer_that_is_slow_to_begin_is_let_go() {
    let server = start(echo::APP, &["--handshake-timeout", "100ms"]).await;
    for says in [&b""[..], b"P", &PREFACE[..24], &PREFACE[..30]] {
        let mut stream = TcpStream::connect(server.addr).await.expect("queued");
        stream.write_all(says).await.expect("sent");
        is_closed(&mut stream).await;
    }
}

#[tokio::test]
async fn a_peer_that_leaves_a_frame_half_sent_is_let_go() {
    let server = start(echo::APP, &["--stall-timeout", "100ms"]).await;
    // RFC 9113, 4.1: length, type, flags, stream.
    for says in [
        // Half a header, half a PING, and HEADERS that go on.
        &b"\0\0"[..],
        b"\0\0\x08\x06\0\0\0\0\0half",
        b"\0\0\x01\x01\0\0\0\0\x01\x82",
        // A whole one, and half a second.
        b"\0\0\x08\x06\0\0\0\0\0whole...\0\0\x08",
    ] {
        let mut stream = TcpStream::connect(server.addr).await.expect("queued");
        stream.write_all(PREFACE).await.expect("sent");
        stream.write_all(says).await.expect("sent");
        is_closed(&mut stream).await;
    }
}

#[tokio::test]
async fn a_header_block_that_drips_is_let_go() {
    let server = start(echo::APP, &["--stall-timeout", "200ms"]).await;
    let mut stream = TcpStream::connect(server.addr).await.expect("queued");
    stream.write_all(PREFACE).await.expect("sent");
    let begin = b"\0\0\x01\x01\0\0\0\0\x01\x82";
    stream.write_all(begin).await.expect("sent");
    let (mut read, mut write) = stream.into_split();
    let dripping = async {
        // CONTINUATION, a byte at a time; a failure to write means that the server has gone.
        let mut pause = interval(Duration::from_millis(20));
        while write
            .write_all(b"\0\0\x01\x09\0\0\0\0\x01\x84")
            .await
            .is_ok()
        {
            pause.tick().await;
        }
    };
    let gone = async {
        let _ = read.read_to_end(&mut Vec::new()).await;
    };
    within(async {
        tokio::select! { () = dripping => {} () = gone => {} }
    })
    .await;
}

#[tokio::test]
async fn a_connection_that_is_only_quiet_is_kept() {
    let flags = ["--stall-timeout", "50ms", "--handshake-timeout", "50ms"];
    let server = start(echo::APP, &flags).await;
    let client = Conversation::with(server.addr).await;
    // Whoever is let go for less has been before these time out; the second has been answered once.
    for path in [UNARY, REPLIES] {
        let mut call = client.call(path, &[("grpc-timeout", "300m")]).await;
        call.say_last(&echo::request("hang meanwhile"));
        assert_eq!(call.end().await.code(), Some(Code::DeadlineExceeded));
    }
    let mut call = client.call(UNARY, &[]).await;
    call.say_last(&echo::request("still here"));
    assert_eq!(call.end().await.code(), Some(Code::Ok));
}

#[tokio::test]
async fn a_reply_that_nobody_takes_is_given_up() {
    let server = start(echo::APP, &["--stall-timeout", "100ms"]).await;
    let client = Conversation::with(server.addr).await;
    let name = "endless for nobody";
    let mut call = client.call(REPLIES, &[]).await;
    call.say_last(&echo::request(name));
    let (_, replies, _request) = call.head().await;
    assert_eq!(ended(name).await, Ended::Dropped);
    // The connection is as good as before, once its window is.
    drop(replies);
    let mut call = client.call(UNARY, &[]).await;
    call.say_last(&echo::request("after that"));
    assert_eq!(call.end().await.code(), Some(Code::Ok));
    let (_, metrics) = get(server.admin, "/metrics").await;
    let line = r#"grpc_method="ServerStreamingEcho",grpc_code="Unavailable"} 1"#;
    assert!(metrics.contains(line), "{metrics}");
}

#[tokio::test]
async fn a_peer_that_stops_reading_its_socket_is_let_go() {
    let server = start(echo::APP, &["--stall-timeout", "100ms"]).await;
    let stream = TcpStream::connect(server.addr).await.expect("queued");
    // Windows that hold nothing back, so that only the socket does.
    let (mut requests, mut connection) = h2::client::Builder::new()
        .initial_window_size(1 << 30)
        .initial_connection_window_size(1 << 30)
        .handshake::<_, bytes::Bytes>(stream)
        .await
        .expect("HTTP/2");
    let head = Request::post(format!("{}{REPLIES}", server.url()))
        .header("content-type", "application/grpc")
        .body(())
        .expect("a head");
    let (answer, mut request) = requests.send_request(head, false).expect("sent");
    let message = framed(&echo::request("endless into a full socket"));
    request.send_data(message, true).expect("sent");
    tokio::select! {
        _ = &mut connection => panic!("closed too early"),
        answer = within(answer) => { answer.expect("a head"); }
    }
    // From here on nobody reads.
    within(async {
        while !get(server.admin, "/metrics")
            .await
            .1
            .contains("grpc_server_connections 0\n")
        {}
    })
    .await;
}

#[tokio::test]
async fn a_call_whose_client_falls_silent_ends_and_one_that_only_listens_does_not() {
    let server = start(echo::APP, &["--stream-idle-timeout", "50ms"]).await;
    let client = Conversation::with(server.addr).await;
    for name in ["chat silent", "collect silent"] {
        let mut call = client.call(BOTH, &[]).await;
        call.say(&echo::request(name));
        assert_eq!(
            call.end().await.code(),
            Some(Code::DeadlineExceeded),
            "{name}"
        );
    }
    let name = "hang and listen";
    let mut call = client.call(REPLIES, &[("grpc-timeout", "300m")]).await;
    call.say_last(&echo::request(name));
    let ending = call.end().await;
    let message = ending.field("grpc-message").expect("a message");
    assert_eq!(message, "the%20deadline%20has%20passed", "not for idleness");
}

#[tokio::test]
async fn a_call_with_something_to_say_is_not_idle() {
    let server = start(echo::APP, &["--stream-idle-timeout", "1s"]).await;
    let client = Conversation::with(server.addr).await;
    let mut call = client.call(BOTH, &[]).await;
    let mut pause = interval(Duration::from_millis(100));
    for _ in 0..15 {
        pause.tick().await;
        call.say(&echo::request("chat on"));
    }
    call.say_last(&echo::request("chat no more"));
    assert_eq!(call.end().await.code(), Some(Code::Ok));
}

#[tokio::test]
async fn a_flood_of_control_frames_ends_the_connection() {
    let server = start(echo::APP, &[]).await;
    for frame in [
        &b"\0\0\x08\x06\0\0\0\0\0whatever"[..],
        b"\0\0\0\x04\0\0\0\0\0",
        b"\0\0\x05\x02\0\0\0\0\x01\0\0\0\0\0",
    ] {
        flood(server.addr, b"", frame).await;
    }
}

#[tokio::test]
async fn a_call_on_the_admin_listener_is_bound_by_the_same_rules() {
    let server = start(echo::APP, &[]).await;
    let request = Request::post(format!(
        "http://{}/grpc.health.v1.Health/Check",
        server.admin
    ));
    let answer = harness::raw(server.admin, request.body(Default::default()).expect("")).await;
    assert_eq!(answer.status, 415);
}
