//! What a legal client does at full speed, which no limit may touch: neither its calls nor those of a
//! bystander on the same connection.

use harness::{
    Conversation, Running,
    frames::{self, Peer, flag},
    get, start, within,
};
use prost::Message as _;
use tonic::Code;

use echo::{Ended, ended};

const UNARY: &str = "/grpc.examples.echo.Echo/UnaryEcho";
const REPLIES: &str = "/grpc.examples.echo.Echo/ServerStreamingEcho";
const BOTH: &str = "/grpc.examples.echo.Echo/BidirectionalStreamingEcho";

/// A chat that has had an answer and expects another.
struct Bystander {
    replies: h2::RecvStream,
    request: h2::SendStream<bytes::Bytes>,
}

impl Bystander {
    async fn on(client: &Conversation) -> Self {
        let mut chat = client.call(BOTH, &[]).await;
        chat.say(&echo::request("chat that stands by"));
        let (_, mut replies, request) = chat.head().await;
        within(replies.data())
            .await
            .expect("a reply")
            .expect("data");
        Self { replies, request }
    }

    async fn lives(mut self) {
        let more = harness::framed(&echo::request("chat on"));
        self.request.send_data(more, false).expect("an open stream");
        let reply = within(self.replies.data()).await;
        reply.expect("an open stream").expect("no error");
    }
}

#[tokio::test]
async fn a_stream_of_small_messages_leaves_its_connection_alone() {
    const MESSAGES: usize = 50_000;
    let server = start(echo::APP, &[]).await;
    let client = Conversation::with(server.addr).await;
    let bystander = Bystander::on(&client).await;
    let name = "collect small ones";
    let mut call = client.call(BOTH, &[]).await;
    call.say(&echo::request(name));
    call.say_often(&echo::request("a small one"), MESSAGES)
        .await;
    call.say_last(&echo::request("the last"));
    assert_eq!(call.end().await.code(), Some(Code::Ok));
    assert_eq!(ended(name).await, Ended::Complete);
    bystander.lives().await;
}

#[tokio::test]
async fn streams_whose_handlers_do_not_read_leave_their_connection_alone() {
    let server = start(echo::APP, &[]).await;
    let client = Conversation::with(server.addr).await;
    let bystander = Bystander::on(&client).await;
    let mut stalled = Vec::new();
    for _ in 0..8 {
        let mut call = client.call(BOTH, &[]).await;
        call.say(&echo::request("hang and do not read"));
        // Of five bytes: nearly all that its window holds.
        call.say_often(&echo::request(""), 12_000).await;
        stalled.push(call);
    }
    bystander.lives().await;
}

#[tokio::test]
async fn small_replies_that_are_all_acknowledged_leave_their_connection_alone() {
    let server = start(echo::APP, &[]).await;
    let client = Conversation::with(server.addr).await;
    let bystander = Bystander::on(&client).await;
    // WINDOW_UPDATE for the stream and for the connection, as soon as anything has come.
    let mut call = client.call(REPLIES, &[]).await;
    call.say_last(&echo::request("repeat 50001 times for legal"));
    let ending = call.end().await;
    assert_eq!(ending.code(), Some(Code::Ok));
    bystander.lives().await;
}

#[tokio::test]
async fn calls_that_are_cancelled_at_full_speed_leave_their_connection_alone() {
    let server = start(echo::APP, &[]).await;
    let client = Conversation::with(server.addr).await;
    let bystander = Bystander::on(&client).await;
    for _ in 0..12_000 {
        let mut call = client.call(UNARY, &[]).await;
        call.say_last(&echo::request("hang until it is cancelled"));
        call.reset(h2::Reason::CANCEL);
    }
    bystander.lives().await;
}

fn request(path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ]
    .iter()
    .chain(more)
    .flat_map(|(name, value)| frames::field(name, value))
    .collect()
}

/// Makes calls that are answered while their upload is under way, beside a chat on the same connection.
async fn upload_into_early_answers(
    server: &Running,
    path: &str,
    more: &[(&str, &str)],
    code: &str,
) {
    const CALLS: u32 = 1500;
    let mut peer = Peer::connect(server.addr).await.expect("queued");
    peer.send(harness::PREFACE).await;
    let chat = frames::message(0, &echo::request("chat that stands by").encode_to_vec());
    let token = [("authorization", "Bearer known")];
    peer.send(&frames::headers(
        1,
        flag::END_HEADERS,
        &request(BOTH, &token),
    ))
    .await;
    peer.send(&frames::data(1, flag::NONE, &chat)).await;
    let message = frames::message(0, &echo::request(&"n".repeat(65_000)).encode_to_vec());
    let (begin, rest) = message.split_at(100);
    for stream in (3..).step_by(2).take(CALLS as usize) {
        peer.send(&frames::headers(
            stream,
            flag::END_HEADERS,
            &request(path, more),
        ))
        .await;
        peer.send(&frames::data(stream, flag::NONE, begin)).await;
        let whole = |heard: &frames::Heard| {
            let response = heard.responses.get(&stream)?;
            response
                .is_whole()
                .then(|| response.field("grpc-status") == Some(code))
        };
        let heard = peer.listen(whole).await;
        heard.unwrap_or_else(|heard| panic!("stream {stream}: {heard:.500}"));
        // What was under way.
        for part in rest[..300].chunks(100) {
            peer.send(&frames::data(stream, flag::NONE, part)).await;
        }
        peer.send(&frames::rst_stream(stream, frames::code::CANCEL))
            .await;
    }
    peer.send(&frames::data(1, flag::NONE, &chat)).await;
    let answered =
        |heard: &frames::Heard| (heard.responses.get(&1)?.messages() == 2).then_some(true);
    peer.listen(answered).await.expect("a bystander that lives");
    assert_eq!(peer.heard.goaway, None);
}

#[tokio::test]
async fn uploads_that_are_answered_early_leave_their_connection_alone() {
    let server = start(echo::APP, &[]).await;
    // INVALID_ARGUMENT for a timeout that is none, and DEADLINE_EXCEEDED.
    for (timeout, code) in [("soon", "3"), ("1m", "4")] {
        upload_into_early_answers(&server, UNARY, &[("grpc-timeout", timeout)], code).await;
    }
    upload_into_early_answers(&server, "/grpc.examples.echo.Echo/Nothing", &[], "12").await;
}

#[tokio::test]
async fn uploads_without_a_token_leave_their_connection_alone() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(&file, "known\n").expect("written");
    let path = file.path().to_str().expect("text");
    let server = start(echo::APP, &["--tokens-file", path]).await;
    upload_into_early_answers(&server, UNARY, &[], "16").await;
}

#[tokio::test]
async fn uploads_that_are_one_too_many_leave_their_connection_alone() {
    let server = start(echo::APP, &["--max-calls", "1"]).await;
    upload_into_early_answers(&server, UNARY, &[], "14").await;
    let (_, metrics) = get(server.admin, "/metrics").await;
    assert!(
        metrics.contains(r#"grpc_server_rejected_total{reason="call_of_peer"} 1500"#),
        "{metrics}"
    );
}
