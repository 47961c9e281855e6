//! `helloworld.Greeter`: every kind of RPC in its smallest form.

use std::pin::Pin;

use chassis::{App, Error, Runtime, Services, invalid_argument};
use proto::helloworld::{
    HelloReply, HelloRequest,
    greeter_server::{Greeter, GreeterServer},
};
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

mod greeting;

use greeting::{Name, Refused};

/// The server binary, for the chassis.
pub const APP: App<Settings> = App {
    name: "greeter",
    about: env!("CARGO_PKG_DESCRIPTION"),
    listen_port: 9000,
    build: |settings, runtime| Box::pin(build(settings, runtime)),
};

/// Empty: the Greeter has no settings beyond those of the chassis.
#[derive(Debug, Clone, clap::Args)]
pub struct Settings {}

async fn build(_: Settings, _: Runtime) -> Result<Services, Error> {
    Ok(
        Services::described_by(proto::helloworld::FILE_DESCRIPTOR_SET)
            .add_service(GreeterServer::new(Service)),
    )
}

struct Service;

type Replies = Pin<Box<dyn Stream<Item = Result<HelloReply, Status>> + Send>>;

#[tonic::async_trait]
impl Greeter for Service {
    type SayHelloStreamReplyStream = Replies;
    type SayHelloBidiStreamStream = Replies;

    async fn say_hello(
        &self,
        request: Request<HelloRequest>,
    ) -> Result<Response<HelloReply>, Status> {
        let name = name(request.into_inner())?;
        Ok(Response::new(reply(name.hello())))
    }

    async fn say_hello_stream_reply(
        &self,
        request: Request<HelloRequest>,
    ) -> Result<Response<Replies>, Status> {
        let name = name(request.into_inner())?;
        let replies = tokio_stream::iter(name.hellos().map(|hello| Ok(reply(hello))));
        Ok(Response::new(Box::pin(replies)))
    }

    async fn say_hello_bidi_stream(
        &self,
        request: Request<Streaming<HelloRequest>>,
    ) -> Result<Response<Replies>, Status> {
        let mut requests = request.into_inner();
        Ok(Response::new(Box::pin(async_stream::try_stream! {
            while let Some(request) = requests.message().await? {
                yield reply(name(request)?.hello());
            }
        })))
    }
}

fn name(request: HelloRequest) -> Result<Name, Status> {
    Name::parse(request.name).map_err(|refused| match refused {
        Refused::Empty => invalid_argument("name", "must not be empty"),
        Refused::TooLong { bytes } => invalid_argument(
            "name",
            format!("{bytes} bytes, and at most {} are allowed", Name::LONGEST),
        ),
    })
}

fn reply(message: String) -> HelloReply {
    HelloReply { message }
}
