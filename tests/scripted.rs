//! A Greeter that does what the name in the request says, and tells how its handlers ended.
//!
//! The first word of a name is the script; the whole name is unique to a test, which asks by it.

use std::{
    future::{pending, ready},
    pin::Pin,
    sync::LazyLock,
};

use chassis::{App, Services};
use harness::within;
use proto::helloworld::{
    HelloReply, HelloRequest,
    greeter_server::{Greeter, GreeterServer},
};
use tokio::sync::{mpsc, watch};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};

pub(crate) const APP: App<greeter::Settings> = App {
    name: "scripted",
    about: "Does as it is told",
    listen_port: 0,
    build: |_, _| {
        let services = Services::described_by(proto::helloworld::FILE_DESCRIPTOR_SET);
        Box::pin(ready(
            Ok(services.add_service(GreeterServer::new(Scripted))),
        ))
    },
};

pub(crate) fn hello(name: &str) -> HelloRequest {
    HelloRequest { name: name.into() }
}

/// How a handler ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It saw its requests to their end.
    Whole,
    /// Its requests broke off.
    BrokenOff,
    /// It was dropped before it was done.
    Dropped,
}

static ENDED: LazyLock<watch::Sender<Vec<(String, Ended)>>> = LazyLock::new(Default::default);

/// Waits for the end of the handler that was called with this name.
pub(crate) async fn ended(name: &str) -> Ended {
    let mut all = ENDED.subscribe();
    let of_name = |all: &Vec<(String, Ended)>| {
        let found = all.iter().find(|(of, _)| of == name);
        found.map(|(_, ended)| *ended)
    };
    let all = within(all.wait_for(|all| of_name(all).is_some())).await;
    of_name(&all.expect("a static")).expect("waited for")
}

/// Tells, when it is dropped, how its handler ended.
struct Witness {
    name: String,
    ended: Ended,
}

impl Witness {
    fn of(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ended: Ended::Dropped,
        }
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        let end = (std::mem::take(&mut self.name), self.ended);
        ENDED.send_modify(|all| all.push(end));
    }
}

struct Scripted;

type Replies = Pin<Box<dyn Stream<Item = Result<HelloReply, Status>> + Send>>;

fn reply(message: &str) -> HelloReply {
    HelloReply {
        message: message.to_owned(),
    }
}

#[tonic::async_trait]
impl Greeter for Scripted {
    type SayHelloStreamReplyStream = Replies;
    type SayHelloBidiStreamStream = Replies;

    async fn say_hello(
        &self,
        request: Request<HelloRequest>,
    ) -> Result<Response<HelloReply>, Status> {
        let name = request.into_inner().name;
        let _witness = Witness::of(&name);
        match name.split(' ').next() {
            Some("hang") => pending().await,
            Some("panic") => panic!("as told"),
            _ => Ok(Response::new(reply(&name))),
        }
    }

    async fn say_hello_stream_reply(
        &self,
        request: Request<HelloRequest>,
    ) -> Result<Response<Replies>, Status> {
        let name = request.into_inner().name;
        let witness = Witness::of(&name);
        Ok(Response::new(match name.split(' ').next() {
            Some("produce") => Box::pin(chassis::produced(1, move |replies| async move {
                let _witness = witness;
                let _ = replies.send(reply(&name)).await;
                match name.ends_with("and hang") {
                    true => pending().await,
                    false => panic!("as told"),
                }
            })),
            _ => Box::pin(async_stream::stream! {
                let _witness = witness;
                yield Ok(reply(&name));
                match name.split(' ').next() {
                    Some("hang") => pending().await,
                    Some("panic") => panic!("as told"),
                    Some("small") => for _ in 0..50_000 { yield Ok(reply("small")) },
                    // Always ready, and large, so that buffers fill.
                    Some("endless") => loop { yield Ok(reply(&"x".repeat(16 * 1024))) },
                    _ => {}
                }
            }),
        }))
    }

    /// Answers each name, except where it is to hang or to read in silence; by itself or, as many servers
    /// do, from a task that nobody aborts.
    async fn say_hello_bidi_stream(
        &self,
        request: Request<Streaming<HelloRequest>>,
    ) -> Result<Response<Replies>, Status> {
        let mut requests = request.into_inner();
        let Some(HelloRequest { name }) = requests.message().await? else {
            return Ok(Response::new(Box::pin(tokio_stream::empty())));
        };
        let mut witness = Witness::of(&name);
        match name.split(' ').next() {
            Some("hang") => pending().await,
            Some("panic") => panic!("as told"),
            Some("collect") => {
                while requests
                    .message()
                    .await
                    .inspect_err(|_| witness.ended = Ended::BrokenOff)?
                    .is_some()
                {}
                witness.ended = Ended::Whole;
                Ok(Response::new(Box::pin(tokio_stream::empty())))
            }
            Some("detach") => {
                let (replies, receiver) = mpsc::channel(1);
                tokio::spawn(async move {
                    let _witness = witness;
                    while let Ok(Some(_)) = requests.message().await {
                        let _ = replies.send(Ok(reply("from a task"))).await;
                    }
                });
                Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
            }
            _ => Ok(Response::new(Box::pin(async_stream::try_stream! {
                let _witness = witness;
                yield reply(&name);
                while let Some(HelloRequest { name }) = requests.message().await? {
                    yield reply(&name);
                }
            }))),
        }
    }
}
