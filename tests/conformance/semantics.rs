//! What gRPC says of a call, whatever its method: time, form, size and encoding.

use std::io::Write as _;

use echo::pb::EchoResponse;
use flate2::{
    Compression,
    write::{GzEncoder, ZlibEncoder},
};
use harness::{Conversation, Ending, framed, frames, start};
use http::Request;
use prost::Message as _;
use tonic::Code;

use echo::{Ended, ended};

const UNARY: &str = "/grpc.examples.echo.Echo/UnaryEcho";
const REPLIES: &str = "/grpc.examples.echo.Echo/ServerStreamingEcho";
const BOTH: &str = "/grpc.examples.echo.Echo/BidirectionalStreamingEcho";

/// Says one name on a call with these headers, and waits for the end.
async fn ask(client: &Conversation, path: &str, headers: &[(&str, &str)], name: &str) -> Ending {
    let mut call = client.call(path, headers).await;
    call.say_last(&echo::request(name));
    call.end().await
}

#[tokio::test]
async fn a_deadline_ends_every_kind_of_call_and_drops_its_handler() {
    let server = start(echo::APP, &[]).await;
    let client = Conversation::with(server.addr).await;
    for (path, name) in [
        (UNARY, "hang past the deadline"),
        (REPLIES, "hang past the deadline in replies"),
        (REPLIES, "endless past the deadline"),
        (BOTH, "hang past the deadline in both"),
    ] {
        let ending = ask(&client, path, &[("grpc-timeout", "50m")], name).await;
        assert_eq!(ending.code(), Some(Code::DeadlineExceeded), "{name}");
        assert_eq!(ended(name).await, Ended::Dropped, "{name}");
    }
    // A client stream, and a chat that has been answered.
    for name in ["collect past the deadline", "chat past the deadline"] {
        let mut call = client.call(BOTH, &[("grpc-timeout", "50m")]).await;
        call.say(&echo::request(name));
        assert_eq!(
            call.end().await.code(),
            Some(Code::DeadlineExceeded),
            "{name}"
        );
        assert_ne!(ended(name).await, Ended::Complete, "{name}");
    }
}

#[tokio::test]
async fn a_deadline_ends_a_call_whose_reply_nobody_takes() {
    let server = start(echo::APP, &["--stall-timeout", "1h"]).await;
    let client = Conversation::with(server.addr).await;
    let name = "endless and not taken";
    let mut call = client.call(REPLIES, &[("grpc-timeout", "100m")]).await;
    call.say_last(&echo::request(name));
    // Without anyone to read it, flow control soon holds the reply back.
    let (_, mut replies, _request) = call.head().await;
    assert_eq!(ended(name).await, Ended::Dropped);
    let end = harness::within(async {
        loop {
            match replies.data().await {
                Some(Ok(data)) => {
                    let _ = replies.flow_control().release_capacity(data.len());
                }
                Some(Err(error)) => break error.reason(),
                None => break None,
            }
        }
    });
    assert_eq!(end.await, Some(h2::Reason::CANCEL));
}

#[tokio::test]
async fn a_unary_call_has_a_deadline_of_ours_whatever_its_client_sets() {
    let server = start(echo::APP, &["--unary-timeout", "50ms"]).await;
    let client = Conversation::with(server.addr).await;
    for headers in [&[][..], &[("grpc-timeout", "1H")]] {
        let ending = ask(&client, UNARY, headers, "hang for too long").await;
        assert_eq!(ending.code(), Some(Code::DeadlineExceeded));
    }
    // One whose request never ends.
    let mut call = client.call(UNARY, &[]).await;
    call.say(&echo::request("unfinished"));
    assert_eq!(call.end().await.code(), Some(Code::DeadlineExceeded));
    // Streams are not bound by it.
    let ending = ask(
        &client,
        REPLIES,
        &[("grpc-timeout", "200m")],
        "hang in replies",
    )
    .await;
    assert_eq!(ending.code(), Some(Code::DeadlineExceeded));
    assert!(!ending.body.is_empty(), "it was answered before its end");
}

#[tokio::test]
async fn a_timeout_that_is_none_is_refused_and_one_of_nothing_has_passed() {
    let server = start(echo::APP, &[]).await;
    let client = Conversation::with(server.addr).await;
    for (timeout, code) in [
        ("", Code::InvalidArgument),
        ("S", Code::InvalidArgument),
        ("1", Code::InvalidArgument),
        ("-1S", Code::InvalidArgument),
        ("1s", Code::InvalidArgument),
        ("123456789m", Code::InvalidArgument),
        ("0n", Code::DeadlineExceeded),
        ("00000000S", Code::DeadlineExceeded),
        ("99999999H", Code::Ok),
        ("10S", Code::Ok),
    ] {
        let ending = ask(&client, UNARY, &[("grpc-timeout", timeout)], "timed").await;
        assert_eq!(ending.code(), Some(code), "{timeout:?}");
    }
}

#[tokio::test]
async fn what_is_not_grpc_is_told_so_in_http() {
    let server = start(echo::APP, &[]).await;
    let request = || Request::builder().uri(format!("{}{UNARY}", server.url()));
    for method in ["GET", "PUT", "DELETE", "OPTIONS"] {
        let request = request()
            .method(method)
            .header("content-type", "application/grpc");
        let answer = harness::raw(server.addr, request.body(Default::default()).expect("")).await;
        assert_eq!(answer.status, 405, "{method}");
        assert_eq!(answer.headers["allow"], "POST");
        assert_eq!(answer.headers["grpc-status"], "13");
    }
    for content_type in ["", "application/json", "application/grpc-web", "text/html"] {
        let request = request()
            .method("POST")
            .header("content-type", content_type);
        let answer = harness::raw(server.addr, request.body(Default::default()).expect("")).await;
        assert_eq!(answer.status, 415, "{content_type}");
        assert_eq!(answer.headers["grpc-status"], "3");
    }
}

#[tokio::test]
async fn a_second_message_is_refused_where_there_is_one() {
    let server = start(echo::APP, &[]).await;
    let client = Conversation::with(server.addr).await;
    for path in [UNARY, REPLIES] {
        let mut call = client.call(path, &[]).await;
        call.say(&echo::request("one"));
        call.say_last(&echo::request("two"));
        assert_eq!(call.end().await.code(), Some(Code::Unimplemented), "{path}");
        // The frames may be cut anywhere.
        let both = [framed(&echo::request("one")), framed(&echo::request("two"))].concat();
        let (some, rest) = both.split_at(6);
        let mut call = client.call(path, &[]).await;
        call.send(some.to_vec(), false);
        call.send(rest.to_vec(), true);
        assert_eq!(call.end().await.code(), Some(Code::Unimplemented), "{path}");
    }
}

#[tokio::test]
async fn a_message_that_is_too_long_is_refused_by_its_length_alone() {
    let server = start(echo::APP, &[]).await;
    let client = Conversation::with(server.addr).await;
    for path in [UNARY, REPLIES, BOTH] {
        let mut call = client.call(path, &[]).await;
        // Nothing of it follows.
        call.send(&b"\0\x00\x01\x00\x01"[..], false);
        let ending = call.end().await;
        assert_eq!(ending.code(), Some(Code::ResourceExhausted), "{path}");
        let message = ending.field("grpc-message").expect("a message");
        assert!(
            message.contains("65537") && message.contains("65536"),
            "{message}"
        );
    }
}

#[tokio::test]
async fn messages_before_one_that_is_refused_are_answered() {
    let server = start(echo::APP, &[]).await;
    let client = Conversation::with(server.addr).await;
    let mut call = client.call(BOTH, &[]).await;
    let both = [
        &framed(&echo::request("chat first"))[..],
        b"\0\xff\xff\xff\xff",
    ]
    .concat();
    call.send(both, false);
    let ending = call.end().await;
    assert_eq!(ending.code(), Some(Code::ResourceExhausted));
    let reply = EchoResponse {
        message: "chat first".into(),
    };
    assert_eq!(ending.body, framed(&reply));
}

/// A message packed by hand, with its five bytes in front.
fn packed(message: &[u8], encoding: &str) -> Vec<u8> {
    let packed = match encoding {
        "gzip" => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
            encoder.write_all(message).expect("memory");
            encoder.finish().expect("memory")
        }
        "deflate" => {
            let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
            encoder.write_all(message).expect("memory");
            encoder.finish().expect("memory")
        }
        _ => zstd::encode_all(message, 0).expect("memory"),
    };
    frames::message(1, &packed)
}

#[tokio::test]
async fn a_reply_is_not_compressed_for_a_client_that_does_not_accept_it() {
    let server = start(echo::APP, &[]).await;
    let client = Conversation::with(server.addr).await;
    for (accepted, compressed) in [
        ("identity", 0),
        ("identity,deflate", 0),
        ("identity, gzip", 1),
    ] {
        let headers = [
            ("grpc-encoding", "gzip"),
            ("grpc-accept-encoding", accepted),
        ];
        let mut call = client.call(UNARY, &headers).await;
        call.send(packed(&echo::request("x").encode_to_vec(), "gzip"), true);
        assert_eq!(
            call.end().await.body.first(),
            Some(&compressed),
            "{accepted}"
        );
    }
}

#[tokio::test]
async fn every_member_of_a_gzip_message_is_read_and_nothing_else_may_follow() {
    let server = start(echo::APP, &[]).await;
    let client = Conversation::with(server.addr).await;
    let member = |name: &str| packed(&echo::request(name).encode_to_vec(), "gzip")[5..].to_vec();
    let accepts = [
        ("grpc-encoding", "gzip"),
        ("grpc-accept-encoding", "identity"),
    ];
    let mut call = client.call(UNARY, &accepts).await;
    call.send(
        frames::message(1, &[member("first"), member("second")].concat()),
        true,
    );
    // In protobuf, the last value of a field counts.
    let body = call.end().await.body;
    assert!(body.ends_with(b"second"), "{body:?}");

    let rest = |encoding| [&packed(b"", encoding)[5..], b"rest"].concat();
    for encoding in ["gzip", "deflate", "zstd"] {
        let mut call = client.call(UNARY, &[("grpc-encoding", encoding)]).await;
        call.send(frames::message(1, &rest(encoding)), true);
        assert_eq!(call.end().await.code(), Some(Code::Internal), "{encoding}");
    }
}

#[tokio::test]
async fn packed_requests_are_taken_and_answered_in_kind() {
    let server = start(echo::APP, &[]).await;
    let client = Conversation::with(server.addr).await;
    for encoding in ["gzip", "deflate", "zstd"] {
        let mut call = client.call(UNARY, &[("grpc-encoding", encoding)]).await;
        call.send(
            packed(&echo::request("packed").encode_to_vec(), encoding),
            true,
        );
        let ending = call.end().await;
        assert_eq!(ending.code(), Some(Code::Ok), "{encoding}");
        assert_eq!(ending.headers["grpc-encoding"], encoding);
        assert_eq!(ending.body.first(), Some(&1), "a packed message");
    }
    // Nearly every client says that it would take this.
    let ending = ask(
        &client,
        UNARY,
        &[("grpc-accept-encoding", "identity,gzip")],
        "plain",
    )
    .await;
    assert_eq!(ending.body.first(), Some(&0), "a plain message");
    assert!(!ending.headers.contains_key("grpc-encoding"));
    assert_eq!(
        ending.headers["grpc-accept-encoding"],
        "identity,deflate,gzip,zstd"
    );
}

#[tokio::test]
async fn an_unknown_encoding_is_unimplemented_and_the_known_ones_are_named() {
    let server = start(echo::APP, &[]).await;
    let client = Conversation::with(server.addr).await;
    let ending = ask(&client, UNARY, &[("grpc-encoding", "snappy")], "packed").await;
    assert_eq!(ending.code(), Some(Code::Unimplemented));
    assert_eq!(
        ending.field("grpc-accept-encoding"),
        Some("identity,deflate,gzip,zstd")
    );
}

#[tokio::test]
async fn a_bomb_is_refused_when_it_has_unpacked_to_the_limit() {
    let server = start(echo::APP, &[]).await;
    let client = Conversation::with(server.addr).await;
    for encoding in ["gzip", "zstd"] {
        let bomb = packed(&vec![0; 32 * 1024 * 1024], encoding);
        assert!(
            bomb.len() < 64 * 1024,
            "{} bytes would be refused unopened",
            bomb.len()
        );
        let mut call = client.call(UNARY, &[("grpc-encoding", encoding)]).await;
        call.send(bomb, true);
        assert_eq!(
            call.end().await.code(),
            Some(Code::ResourceExhausted),
            "{encoding}"
        );
    }
}
