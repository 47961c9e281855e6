//! The admin pages.

use std::time::{Duration, Instant};

use harness::{
    PREFACE,
    frames::{self, Peer, flag},
    get, raw, start, within,
};
use http::Request;
use tokio::{io::AsyncReadExt as _, net::TcpStream};

#[tokio::test]
async fn the_pages_say_alive_ready_and_which_version() {
    let server = start(echo::APP, &[]).await;
    assert_eq!(get(server.admin, "/healthz").await, (200, "ok".to_owned()));
    assert_eq!(
        get(server.admin, "/readyz").await,
        (200, "serving".to_owned())
    );
    let version = format!("echo {}", chassis::VERSION);
    assert_eq!(get(server.admin, "/version").await, (200, version));
    assert_eq!(get(server.admin, "/").await.0, 404);
}

#[tokio::test]
async fn the_pages_are_served_over_http_2_as_well() {
    let server = start(echo::APP, &[]).await;
    let request = Request::get(format!("http://{}/readyz", server.admin));
    let answer = raw(
        server.admin,
        request.body(Default::default()).expect("a request"),
    )
    .await;
    assert_eq!(
        (answer.status.as_u16(), answer.body.as_ref()),
        (200, b"serving\n".as_slice())
    );
}

#[tokio::test]
async fn a_server_that_shuts_down_is_alive_but_not_ready() {
    let mut server = start(echo::APP, &["--lame-duck", "1h"]).await;
    server.stop();
    within(async { while get(server.admin, "/readyz").await.0 == 200 {} }).await;
    assert_eq!(
        get(server.admin, "/readyz").await,
        (503, "lame duck".to_owned())
    );
    assert_eq!(get(server.admin, "/healthz").await, (200, "ok".to_owned()));
}

#[tokio::test]
async fn a_peer_that_says_nothing_is_let_go() {
    let server = start(echo::APP, &["--handshake-timeout", "100ms"]).await;
    let mut silent = TcpStream::connect(server.admin).await.expect("queued");
    let _ = within(silent.read_to_end(&mut Vec::new())).await;
}

#[tokio::test]
async fn an_answer_does_not_wait_for_another_to_be_acknowledged() {
    const ROUNDS: u32 = 25;
    let server = start(echo::APP, &[]).await;
    let mut peer = Peer::connect(server.admin).await.expect("a connection");
    peer.send(PREFACE).await;
    let head: Vec<u8> = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/grpc.health.v1.Health/Check"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ]
    .iter()
    .flat_map(|(name, value)| frames::field(name, value))
    .collect();
    let began = Instant::now();
    for stream in (1..).step_by(2).take(ROUNDS as usize) {
        // The PING is answered first. Linux acknowledges that after 40 ms, as it has nothing to send with it.
        let ping = frames::ping(u64::from(stream).to_be_bytes());
        let head = frames::headers(stream, flag::END_HEADERS, &head);
        let message = frames::data(stream, flag::END_STREAM, &frames::message(0, b""));
        peer.send(&[ping, head, message].concat()).await;
        let answered = |heard: &frames::Heard| {
            let answer = heard.responses.get(&stream)?;
            answer.is_whole().then_some(answer.messages() == 1)
        };
        peer.listen(answered).await.expect("an answer");
    }
    let each = began.elapsed() / ROUNDS;
    assert!(each < Duration::from_millis(20), "{each:?}");
}
