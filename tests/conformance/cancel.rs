//! A cancelled request is never mistaken for a complete one; its handler is dropped.

use echo::pb::echo_client::EchoClient;
use harness::{Conversation, start, within};
use tokio_stream::StreamExt as _;

use echo::{Ended, ended};

#[tokio::test]
async fn a_stream_that_is_reset_is_an_error_whatever_the_reason() {
    let server = start(echo::APP, &[]).await;
    let client = Conversation::with(server.addr).await;
    for (name, reset, expected) in [
        ("collect to the end", None, Ended::Complete),
        ("collect cancelled", Some(h2::Reason::CANCEL), Ended::Reset),
        // HTTP/2 alone takes this for an end in order.
        ("collect no error", Some(h2::Reason::NO_ERROR), Ended::Reset),
    ] {
        let mut call = client
            .call("/grpc.examples.echo.Echo/BidirectionalStreamingEcho", &[])
            .await;
        call.say(&echo::request(name));
        // A later stream has been answered, so the handler of this one reads.
        let mut other = client.call("/grpc.examples.echo.Echo/UnaryEcho", &[]).await;
        other.say_last(&echo::request("other"));
        other.end().await;
        match reset {
            Some(reason) => call.reset(reason),
            None => call.say_last(&echo::request("more")),
        }
        assert_eq!(ended(name).await, expected, "{reset:?}");
    }
}

#[tokio::test]
async fn a_lost_connection_is_an_error() {
    let server = start(echo::APP, &[]).await;
    let client = Conversation::with(server.addr).await;
    let mut call = client
        .call("/grpc.examples.echo.Echo/BidirectionalStreamingEcho", &[])
        .await;
    call.say(&echo::request("collect lost"));
    let mut other = client.call("/grpc.examples.echo.Echo/UnaryEcho", &[]).await;
    other.say_last(&echo::request("other"));
    other.end().await;
    client.hang_up();
    assert_eq!(ended("collect lost").await, Ended::Reset);
    // Not before, or the call would have been called off.
    drop(call);
}

#[tokio::test]
async fn a_handler_is_dropped_with_its_call() {
    let server = start(echo::APP, &[]).await;
    let client = Conversation::with(server.addr).await;
    for (method, name) in [
        ("UnaryEcho", "hang unary"),
        ("ServerStreamingEcho", "hang in replies"),
        ("ServerStreamingEcho", "endless replies"),
        ("BidirectionalStreamingEcho", "hang both"),
    ] {
        let mut call = client
            .call(&format!("/grpc.examples.echo.Echo/{method}"), &[])
            .await;
        call.say_last(&echo::request(name));
        let mut other = client.call("/grpc.examples.echo.Echo/UnaryEcho", &[]).await;
        other.say_last(&echo::request("other"));
        other.end().await;
        call.reset(h2::Reason::CANCEL);
        assert_eq!(ended(name).await, Ended::Dropped, "{name}");
    }
}

#[tokio::test]
async fn a_producer_is_aborted_with_its_call() {
    let server = start(echo::APP, &[]).await;
    let name = "produce for nobody and hang";
    let replies = EchoClient::new(server.channel())
        .server_streaming_echo(echo::request(name))
        .await;
    let mut replies = replies.expect("a stream").into_inner();
    within(replies.next()).await.expect("one").expect("a reply");
    drop(replies);
    assert_eq!(ended(name).await, Ended::Dropped);
}
