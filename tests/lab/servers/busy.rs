//! A Greeter with work to do, as ours and as plain tonic's: the capacity that overload is about.

use std::{pin::Pin, time::Duration};

use proto::helloworld::{HelloReply, HelloRequest, greeter_server::Greeter};
use tokio::{sync::Semaphore, time::sleep};
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming, async_trait};

/// How many calls it can work on at once, and what each takes: 2000 a second.
pub(crate) const WORKERS: usize = 20;
const WORK: Duration = Duration::from_millis(10);

pub(crate) struct Busy {
    workers: Semaphore,
}

impl Busy {
    pub(crate) fn new() -> Self {
        Self {
            workers: Semaphore::new(WORKERS),
        }
    }
}

type Replies = Pin<Box<dyn Stream<Item = Result<HelloReply, Status>> + Send>>;

#[async_trait]
impl Greeter for Busy {
    type SayHelloStreamReplyStream = Replies;
    type SayHelloBidiStreamStream = Replies;

    async fn say_hello(
        &self,
        request: Request<HelloRequest>,
    ) -> Result<Response<HelloReply>, Status> {
        // Never closed.
        let _worker = self.workers.acquire().await;
        sleep(WORK).await;
        Ok(Response::new(HelloReply {
            message: request.into_inner().name,
        }))
    }

    async fn say_hello_stream_reply(
        &self,
        _: Request<HelloRequest>,
    ) -> Result<Response<Replies>, Status> {
        Err(Status::unimplemented("only SayHello"))
    }

    async fn say_hello_bidi_stream(
        &self,
        _: Request<Streaming<HelloRequest>>,
    ) -> Result<Response<Replies>, Status> {
        Err(Status::unimplemented("only SayHello"))
    }
}
