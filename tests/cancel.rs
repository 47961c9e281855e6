//! What a client calls off is never taken for finished.

use std::{
    pin::Pin,
    sync::{Mutex, OnceLock},
};

use chassis::{App, Services};
use harness::{start, within};
use proto::helloworld::{
    HelloReply, HelloRequest,
    greeter_server::{Greeter, GreeterServer},
};
use tokio::{net::TcpStream, sync::mpsc};
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

/// How a handler saw its stream of requests end.
#[derive(Debug, PartialEq)]
enum Seen {
    End,
    Error,
}

static SEEN: OnceLock<Mutex<mpsc::UnboundedSender<Seen>>> = OnceLock::new();

/// A Greeter that reads a stream of requests to its end, as one that commits something there would.
struct Reader;

const READER: App<greeter::Settings> = App {
    name: "reader",
    about: "Reads to the end",
    listen: "127.0.0.1:0",
    services: |_| {
        let services = Services::described_by(proto::FILE_DESCRIPTOR_SET);
        Ok(chassis::serve!(services, GreeterServer::new(Reader), 1024))
    },
};

type Replies = Pin<Box<dyn Stream<Item = Result<HelloReply, Status>> + Send>>;

#[tonic::async_trait]
impl Greeter for Reader {
    type SayHelloStreamReplyStream = Replies;
    type SayHelloBidiStreamStream = Replies;

    async fn say_hello(&self, _: Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
        Ok(Response::new(HelloReply::default()))
    }

    async fn say_hello_stream_reply(
        &self,
        _: Request<HelloRequest>,
    ) -> Result<Response<Replies>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn say_hello_bidi_stream(
        &self,
        request: Request<Streaming<HelloRequest>>,
    ) -> Result<Response<Replies>, Status> {
        let mut requests = request.into_inner();
        let seen = loop {
            match requests.message().await {
                Ok(Some(_)) => {}
                Ok(None) => break Seen::End,
                Err(_) => break Seen::Error,
            }
        };
        let sender = SEEN.get().expect("set").lock().expect("sound").clone();
        sender.send(seen).expect("a test that listens");
        Ok(Response::new(Box::pin(tokio_stream::empty())))
    }
}

#[tokio::test]
async fn a_stream_that_is_reset_is_an_error_whatever_the_reason() {
    let (sender, mut seen) = mpsc::unbounded_channel();
    SEEN.set(Mutex::new(sender)).expect("the only test");
    let server = start(READER, &[]).await;
    let stream = TcpStream::connect(server.addr).await.expect("a connection");
    let (mut client, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    tokio::spawn(connection);
    for (reset, expected) in [
        (None, Seen::End),
        (Some(h2::Reason::CANCEL), Seen::Error),
        // HTTP/2 alone takes this for an end in order.
        (Some(h2::Reason::NO_ERROR), Seen::Error),
    ] {
        let message = || b"\0\0\0\0\0".as_slice().into();
        let call = |method| {
            http::Request::post(format!(
                "http://{}/helloworld.Greeter/{method}",
                server.addr
            ))
            .header("content-type", "application/grpc")
            .body(())
            .expect("a request")
        };
        client = client.ready().await.expect("ready");
        let (_answer, mut requests) = client
            .send_request(call("SayHelloBidiStream"), false)
            .expect("sent");
        requests.send_data(message(), false).expect("sent");
        // A later stream has been answered, so the handler of this one reads.
        client = client.ready().await.expect("ready");
        let (answer, mut request) = client.send_request(call("SayHello"), false).expect("sent");
        request.send_data(message(), true).expect("sent");
        within(answer).await.expect("an answer");
        match reset {
            Some(reason) => requests.send_reset(reason),
            None => requests.send_data(message(), true).expect("sent"),
        }
        assert_eq!(within(seen.recv()).await, Some(expected), "{reset:?}");
    }
}
