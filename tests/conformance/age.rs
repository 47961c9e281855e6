//! Connections come to an end of their own, and nobody loses a call by it.

use std::time::{Duration, Instant};

use harness::{Conversation, start, within};
use tonic::Code;

const UNARY: &str = "/grpc.examples.echo.Echo/UnaryEcho";
const BOTH: &str = "/grpc.examples.echo.Echo/BidirectionalStreamingEcho";

#[tokio::test]
async fn an_old_connection_is_asked_to_go_and_its_call_goes_on() {
    let flags = [
        "--max-connection-age",
        "50ms",
        "--max-connection-age-grace",
        "1h",
    ];
    let server = start(echo::APP, &flags).await;
    let client = Conversation::with(server.addr).await;
    let mut call = client.call(BOTH, &[]).await;
    call.say(&echo::request("chat on and on"));
    // No new call is taken after GOAWAY, and what is open goes on.
    within(client.farewell()).await;
    call.say_last(&echo::request("the last word"));
    let ending = call.end().await;
    assert_eq!(ending.code(), Some(Code::Ok));
    assert!(ending.body.ends_with(b"the last word"));
    client.closed().await;
}

#[tokio::test]
async fn calls_that_outstay_the_grace_are_told_before_the_connection_closes() {
    let flags = [
        "--max-connection-age",
        "50ms",
        "--max-connection-age-grace",
        "50ms",
    ];
    let server = start(echo::APP, &flags).await;
    let client = Conversation::with(server.addr).await;
    let mut call = client.call(BOTH, &[]).await;
    call.say(&echo::request("chat for too long"));
    assert_eq!(call.end().await.code(), Some(Code::Unavailable));
    client.closed().await;
}

#[tokio::test]
async fn a_connection_without_a_call_is_closed_and_one_with_a_call_is_not() {
    let server = start(echo::APP, &["--max-connection-idle", "100ms"]).await;
    let idle = Conversation::with(server.addr).await;
    let busy = Conversation::with(server.addr).await;
    let mut call = busy.call(BOTH, &[]).await;
    call.say(&echo::request("chat while the other idles"));
    idle.closed().await;
    call.say_last(&echo::request("not idle"));
    assert_eq!(call.end().await.code(), Some(Code::Ok));
    // Idle only now, however old it is.
    let mut call = busy.call(UNARY, &[]).await;
    let before = Instant::now();
    call.say_last(&echo::request("once more"));
    assert_eq!(call.end().await.code(), Some(Code::Ok));
    busy.closed().await;
    assert!(
        before.elapsed() >= Duration::from_millis(100),
        "{:?}",
        before.elapsed()
    );
}
