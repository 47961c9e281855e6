//! What the Greeter answers.

use harness::{Running, start, within};
use proto::helloworld::{HelloRequest, greeter_client::GreeterClient};
use tokio::sync::mpsc;
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt as _;

async fn greeter() -> (Running, GreeterClient<Channel>) {
    let server = start(greeter::APP, &[]).await;
    let client = GreeterClient::new(server.channel());
    (server, client)
}

fn request(name: &str) -> HelloRequest {
    HelloRequest {
        name: name.to_owned(),
    }
}

/// Asserts that `status` refuses the field `name` and says why.
fn assert_refuses_name(status: &Status, why: &str) {
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let details = status
        .get_details_bad_request()
        .expect("a BadRequest detail");
    let [violation] = details.field_violations.as_slice() else {
        panic!("{details:?}")
    };
    assert_eq!(
        (violation.field.as_str(), violation.description.as_str()),
        ("name", why)
    );
}

#[tokio::test]
async fn say_hello_greets_by_name() {
    let (_server, mut client) = greeter().await;
    let reply = client
        .say_hello(request("Ada"))
        .await
        .expect("a reply")
        .into_inner();
    assert_eq!(reply.message, "Hello Ada");
}

#[tokio::test]
async fn say_hello_stream_reply_greets_five_times() {
    let (_server, mut client) = greeter().await;
    let replies = client
        .say_hello_stream_reply(request("Ada"))
        .await
        .expect("replies");
    let replies: Vec<_> = replies
        .into_inner()
        .map(|reply| reply.expect("a reply").message)
        .collect()
        .await;
    let expected: Vec<_> = (1..=5)
        .map(|number| format!("Hello Ada ({number} of 5)"))
        .collect();
    assert_eq!(replies, expected);
}

#[tokio::test]
async fn say_hello_bidi_stream_answers_each_name_as_it_arrives() {
    let (_server, mut client) = greeter().await;
    let (names, sent) = mpsc::channel(1);
    let replies = client
        .say_hello_bidi_stream(ReceiverStream::new(sent))
        .await;
    let mut replies = replies.expect("a stream").into_inner();
    for name in ["Ada", "Grace", "Barbara"] {
        names.send(request(name)).await.expect("an open stream");
        // The next name is not sent before this reply has come.
        let reply = within(replies.message())
            .await
            .expect("a reply")
            .expect("a reply");
        assert_eq!(reply.message, format!("Hello {name}"));
    }
    drop(names);
    assert_eq!(within(replies.message()).await.expect("a clean end"), None);
}

#[tokio::test]
async fn a_name_that_is_empty_or_too_long_is_refused_in_every_method() {
    let (_server, mut client) = greeter().await;
    let long = "x".repeat(1025);
    for (name, why) in [
        ("", "must not be empty"),
        (long.as_str(), "1025 bytes, and at most 1024 are allowed"),
    ] {
        let status = client.say_hello(request(name)).await.expect_err("refused");
        assert_refuses_name(&status, why);
        let status = client
            .say_hello_stream_reply(request(name))
            .await
            .expect_err("refused");
        assert_refuses_name(&status, why);

        let names = tokio_stream::iter([request("Ada"), request(name)]);
        let replies = client.say_hello_bidi_stream(names).await.expect("a stream");
        let mut replies = replies.into_inner();
        let reply = replies
            .message()
            .await
            .expect("the reply before")
            .expect("the reply before");
        assert_eq!(reply.message, "Hello Ada");
        assert_refuses_name(&replies.message().await.expect_err("refused"), why);
    }
    let longest = "x".repeat(1024);
    client
        .say_hello(request(&longest))
        .await
        .expect("still serving, and 1024 bytes are allowed");
}
