//! `grpc.examples.echo.Echo` on the chassis, with handlers that do what a request says, and report how they
//! ended: the service that the chassis is tested with.
//!
//! The first word of a message is the behavior; the whole message is unique to a test, which asks by it. Any
//! other message is sent back as it is.

use std::{future::pending, path::PathBuf, pin::Pin, sync::LazyLock, time::Duration};

use chassis::{App, Error, Runtime, Services, bytes_in};
use tokio::{
    sync::{mpsc, watch},
    task::spawn_blocking,
    time::timeout,
};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};

/// The generated code of the contract.
#[allow(missing_docs, reason = "generated")]
pub mod pb {
    tonic::include_proto!("grpc.examples.echo");

    /// The contract's descriptors.
    pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("echo");
}

use pb::{
    EchoRequest, EchoResponse,
    echo_server::{Echo, EchoServer},
};

/// The path of the unary method.
pub const UNARY: &str = "/grpc.examples.echo.Echo/UnaryEcho";
/// The path of the method that streams its responses.
pub const SERVER_STREAMING: &str = "/grpc.examples.echo.Echo/ServerStreamingEcho";
/// The path of the method whose requests are streamed.
pub const CLIENT_STREAMING: &str = "/grpc.examples.echo.Echo/ClientStreamingEcho";
/// The path of the method that streams both.
pub const BIDIRECTIONAL: &str = "/grpc.examples.echo.Echo/BidirectionalStreamingEcho";

/// The server.
pub const APP: App<Settings> = App {
    name: "echo",
    about: "grpc.examples.echo.Echo, for the tests of the chassis",
    listen_port: 50052,
    build: |settings, runtime| Box::pin(build(settings, runtime)),
};

/// One setting of each kind that the chassis knows how to read.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Echo")]
pub struct Settings {
    /// A file to read before the server starts, which may never end
    #[arg(long)]
    pub start_file: Option<PathBuf>,

    /// Bytes in each response of an endless stream
    #[arg(
        long,
        default_value = "16KiB",
        value_parser = bytes_in::<usize>(0..=1 << 20)
    )]
    pub response_bytes: usize,

    /// A password, which nothing asks for
    #[arg(long)]
    pub echo_password: Option<String>,
}

async fn build(settings: Settings, _: Runtime) -> Result<Services, Error> {
    if let Some(file) = settings.start_file {
        spawn_blocking(move || std::fs::read(file)).await??;
    }
    let server = EchoServer::new(Scripted {
        response_bytes: settings.response_bytes,
    });
    Ok(Services::described_by(pb::FILE_DESCRIPTOR_SET).add_service(server))
}

/// The service by itself, for another server.
pub fn server() -> EchoServer<impl Echo> {
    EchoServer::new(Scripted {
        response_bytes: 16 << 10,
    })
}

/// A request with this message.
pub fn request(message: &str) -> EchoRequest {
    EchoRequest {
        message: message.into(),
    }
}

/// How a handler ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It read its requests to their end.
    Complete,
    /// Its requests ended with an error.
    Reset,
    /// It was dropped before it was done.
    Dropped,
}

/// Longer than any handler takes to end.
const PATIENCE: Duration = Duration::from_secs(20);

static ENDED: LazyLock<watch::Sender<Vec<(String, Ended)>>> = LazyLock::new(Default::default);

/// Waits for the end of the handler that was called with this message.
pub async fn ended(message: &str) -> Ended {
    let mut all = ENDED.subscribe();
    let of_message = |all: &Vec<(String, Ended)>| {
        let found = all.iter().find(|(of, _)| of == message);
        found.map(|(_, ended)| *ended)
    };
    let all = timeout(PATIENCE, all.wait_for(|all| of_message(all).is_some())).await;
    let all = all.expect("the handler does not end");
    of_message(&all.expect("a static")).expect("waited for")
}

/// Tells, when it is dropped, how its handler ended.
struct Witness {
    message: String,
    ended: Ended,
}

impl Witness {
    fn of(message: &str) -> Self {
        Self {
            message: message.to_owned(),
            ended: Ended::Dropped,
        }
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        let end = (std::mem::take(&mut self.message), self.ended);
        ENDED.send_modify(|all| all.push(end));
    }
}

struct Scripted {
    response_bytes: usize,
}

type Replies = Pin<Box<dyn Stream<Item = Result<EchoResponse, Status>> + Send>>;

/// N of `repeat N …`.
fn times(message: &str) -> usize {
    let count = message.split(' ').nth(1).map(str::parse);
    count.and_then(Result::ok).unwrap_or_default()
}

fn reply(message: &str) -> EchoResponse {
    EchoResponse {
        message: message.to_owned(),
    }
}

/// Reads the requests to their end, and returns the last one.
async fn collect(
    requests: &mut Streaming<EchoRequest>,
    witness: &mut Witness,
) -> Result<Option<String>, Status> {
    let mut last = None;
    loop {
        match requests.message().await {
            Ok(Some(request)) => last = Some(request.message),
            Ok(None) => break,
            Err(status) => {
                witness.ended = Ended::Reset;
                return Err(status);
            }
        }
    }
    witness.ended = Ended::Complete;
    Ok(last)
}

#[tonic::async_trait]
impl Echo for Scripted {
    type ServerStreamingEchoStream = Replies;
    type BidirectionalStreamingEchoStream = Replies;

    async fn unary_echo(
        &self,
        request: Request<EchoRequest>,
    ) -> Result<Response<EchoResponse>, Status> {
        let message = request.into_inner().message;
        let _witness = Witness::of(&message);
        match message.split(' ').next() {
            Some("hang") => pending().await,
            Some("panic") => panic!("as told"),
            Some("fail") => Err(Status::invalid_argument("as told")),
            _ => Ok(Response::new(reply(&message))),
        }
    }

    async fn server_streaming_echo(
        &self,
        request: Request<EchoRequest>,
    ) -> Result<Response<Replies>, Status> {
        let message = request.into_inner().message;
        let witness = Witness::of(&message);
        let response_bytes = self.response_bytes;
        Ok(Response::new(match message.split(' ').next() {
            Some("fail") => return Err(Status::invalid_argument("as told")),
            Some("produce") => Box::pin(chassis::produced(1, move |replies| async move {
                let _witness = witness;
                let _ = replies.send(reply(&message)).await;
                match message.ends_with("and hang") {
                    true => pending().await,
                    false => panic!("as told"),
                }
            })),
            _ => Box::pin(async_stream::stream! {
                let _witness = witness;
                yield Ok(reply(&message));
                match message.split(' ').next() {
                    Some("hang") => pending().await,
                    Some("panic") => panic!("as told"),
                    Some("repeat") => for _ in 1..times(&message) { yield Ok(reply("again")) },
                    // Always ready, and large, so that buffers fill.
                    Some("endless") => loop { yield Ok(reply(&"x".repeat(response_bytes))) },
                    _ => {}
                }
            }),
        }))
    }

    /// Answers with the last message when the client has sent all of them.
    async fn client_streaming_echo(
        &self,
        request: Request<Streaming<EchoRequest>>,
    ) -> Result<Response<EchoResponse>, Status> {
        let mut requests = request.into_inner();
        let first = requests.message().await?.unwrap_or_default().message;
        let mut witness = Witness::of(&first);
        match first.split(' ').next() {
            Some("hang") => pending().await,
            Some("panic") => panic!("as told"),
            _ => {
                let last = collect(&mut requests, &mut witness).await?;
                Ok(Response::new(reply(&last.unwrap_or(first))))
            }
        }
    }

    /// Answers each message, except where it is to hang or to read in silence; by itself or, as many servers
    /// do, from a task that nobody aborts.
    async fn bidirectional_streaming_echo(
        &self,
        request: Request<Streaming<EchoRequest>>,
    ) -> Result<Response<Replies>, Status> {
        let mut requests = request.into_inner();
        let Some(EchoRequest { message }) = requests.message().await? else {
            return Ok(Response::new(Box::pin(tokio_stream::empty())));
        };
        let mut witness = Witness::of(&message);
        match message.split(' ').next() {
            Some("hang") => pending().await,
            Some("panic") => panic!("as told"),
            Some("collect") => {
                collect(&mut requests, &mut witness).await?;
                Ok(Response::new(Box::pin(tokio_stream::empty())))
            }
            Some("detach") => {
                let (responses, receiver) = mpsc::channel(1);
                tokio::spawn(async move {
                    let _witness = witness;
                    while let Ok(Some(_)) = requests.message().await {
                        let _ = responses.send(Ok(reply("from a task"))).await;
                    }
                });
                Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
            }
            _ => Ok(Response::new(Box::pin(async_stream::try_stream! {
                let _witness = witness;
                yield reply(&message);
                while let Some(EchoRequest { message }) = requests.message().await? {
                    if message.starts_with("fail") {
                        Err(Status::invalid_argument("as told"))?;
                    }
                    yield reply(&message);
                }
            }))),
        }
    }
}
