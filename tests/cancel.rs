//! A cancelled request is never mistaken for a complete one; its handler is dropped.

use harness::{Conversation, start, within};
use proto::helloworld::greeter_client::GreeterClient;
use tokio_stream::StreamExt as _;

use crate::scripted::{self, Ended, ended, hello};

#[tokio::test]
async fn a_stream_that_is_reset_is_an_error_whatever_the_reason() {
    let server = start(scripted::APP, &[]).await;
    let client = Conversation::with(server.addr).await;
    for (name, reset, expected) in [
        ("collect to the end", None, Ended::Whole),
        (
            "collect cancelled",
            Some(h2::Reason::CANCEL),
            Ended::BrokenOff,
        ),
        // HTTP/2 alone takes this for an end in order.
        (
            "collect no error",
            Some(h2::Reason::NO_ERROR),
            Ended::BrokenOff,
        ),
    ] {
        let mut call = client
            .call("/helloworld.Greeter/SayHelloBidiStream", &[])
            .await;
        call.say(&hello(name));
        // A later stream has been answered, so the handler of this one reads.
        let mut other = client.call("/helloworld.Greeter/SayHello", &[]).await;
        other.say_last(&hello("other"));
        other.end().await;
        match reset {
            Some(reason) => call.reset(reason),
            None => call.say_last(&hello("more")),
        }
        assert_eq!(ended(name).await, expected, "{reset:?}");
    }
}

#[tokio::test]
async fn a_lost_connection_is_an_error() {
    let server = start(scripted::APP, &[]).await;
    let client = Conversation::with(server.addr).await;
    let mut call = client
        .call("/helloworld.Greeter/SayHelloBidiStream", &[])
        .await;
    call.say(&hello("collect lost"));
    let mut other = client.call("/helloworld.Greeter/SayHello", &[]).await;
    other.say_last(&hello("other"));
    other.end().await;
    client.hang_up();
    assert_eq!(ended("collect lost").await, Ended::BrokenOff);
    // Not before, or the call would have been called off.
    drop(call);
}

#[tokio::test]
async fn a_handler_is_dropped_with_its_call() {
    let server = start(scripted::APP, &[]).await;
    let client = Conversation::with(server.addr).await;
    for (method, name) in [
        ("SayHello", "hang unary"),
        ("SayHelloStreamReply", "hang in replies"),
        ("SayHelloStreamReply", "endless replies"),
        ("SayHelloBidiStream", "hang both"),
    ] {
        let mut call = client
            .call(&format!("/helloworld.Greeter/{method}"), &[])
            .await;
        call.say_last(&hello(name));
        let mut other = client.call("/helloworld.Greeter/SayHello", &[]).await;
        other.say_last(&hello("other"));
        other.end().await;
        call.reset(h2::Reason::CANCEL);
        assert_eq!(ended(name).await, Ended::Dropped, "{name}");
    }
}

#[tokio::test]
async fn a_producer_is_aborted_with_its_call() {
    let server = start(scripted::APP, &[]).await;
    let name = "produce for nobody and hang";
    let replies = GreeterClient::new(server.channel())
        .say_hello_stream_reply(hello(name))
        .await;
    let mut replies = replies.expect("a stream").into_inner();
    within(replies.next()).await.expect("one").expect("a reply");
    drop(replies);
    assert_eq!(ended(name).await, Ended::Dropped);
}
