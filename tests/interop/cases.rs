//! The interop cases, by name, and what they have in common.

use std::{error::Error, fmt};

use clap::ValueEnum;
use cli::{Channel, Failure};
use tonic::{Code, Status, codec::CompressionEncoding};

mod endings;
mod loads;
mod messages;
mod packed;

use crate::{
    CommandLine,
    testing::{Payload, SimpleRequest, SimpleResponse, test_service_client::TestServiceClient},
    wire::Wire,
};

/// One of the cases.
#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Case {
    EmptyUnary,
    LargeUnary,
    ClientStreaming,
    ServerStreaming,
    PingPong,
    EmptyStream,
    StatusCodeAndMessage,
    SpecialStatusMessage,
    CustomMetadata,
    UnimplementedMethod,
    UnimplementedService,
    ClientCompressedUnary,
    ServerCompressedUnary,
    ClientCompressedStreaming,
    ServerCompressedStreaming,
    CancelAfterBegin,
    CancelAfterFirstResponse,
    TimeoutOnSleepingServer,
    ConcurrentLargeUnary,
    RpcSoak,
    ChannelSoak,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("", |value| value.get_name()))
    }
}

/// How a case went; why, if not well.
pub(crate) type Outcome = Result<(), Box<dyn Error>>;

type Client = TestServiceClient<Wire<Channel>>;

impl Case {
    /// Plays this case on a connection of its own.
    pub(crate) async fn play(self, command_line: &CommandLine) -> Outcome {
        let client = connect(command_line)?;
        match self {
            Self::EmptyUnary => messages::empty_unary(client).await,
            Self::LargeUnary => messages::large_unary(client).await,
            Self::ClientStreaming => messages::client_streaming(client).await,
            Self::ServerStreaming => messages::server_streaming(client).await,
            Self::PingPong => messages::ping_pong(client).await,
            Self::EmptyStream => messages::empty_stream(client).await,
            Self::StatusCodeAndMessage => endings::status_code_and_message(client).await,
            Self::SpecialStatusMessage => endings::special_status_message(client).await,
            Self::CustomMetadata => messages::custom_metadata(client).await,
            Self::UnimplementedMethod => endings::unimplemented_method(client).await,
            Self::UnimplementedService => endings::unimplemented_service(command_line).await,
            Self::ClientCompressedUnary => packed::client_compressed_unary(client).await,
            Self::ServerCompressedUnary => packed::server_compressed_unary(client).await,
            Self::ClientCompressedStreaming => packed::client_compressed_streaming(client).await,
            Self::ServerCompressedStreaming => packed::server_compressed_streaming(client).await,
            Self::CancelAfterBegin => endings::cancel_after_begin(client).await,
            Self::CancelAfterFirstResponse => endings::cancel_after_first_response(client).await,
            Self::TimeoutOnSleepingServer => endings::timeout_on_sleeping_server(client).await,
            Self::ConcurrentLargeUnary => {
                loads::concurrent_large_unary(client, command_line.concurrency).await
            }
            Self::RpcSoak => loads::rpc_soak(client, command_line).await,
            Self::ChannelSoak => loads::channel_soak(command_line).await,
        }
    }
}

/// A client on a connection of its own.
fn connect(command_line: &CommandLine) -> Result<Client, Failure> {
    let client = TestServiceClient::new(Wire::to(command_line)?);
    Ok(client.accept_compressed(CompressionEncoding::Gzip))
}

/// What a client sends of each message where the cases say no more.
fn zeros(bytes: usize) -> Option<Payload> {
    Some(Payload::zeros(bytes))
}

/// The message of large_unary.
fn large_request() -> SimpleRequest {
    SimpleRequest {
        response_size: 314_159,
        payload: zeros(271_828),
        ..SimpleRequest::default()
    }
}

/// Checks the answer to [`large_request`].
fn is_large(response: &SimpleResponse) -> Outcome {
    holds(response.payload.as_ref(), 314_159)
}

fn holds(payload: Option<&Payload>, bytes: usize) -> Outcome {
    let body = payload.map_or(&[][..], |payload| &payload.body);
    equal("bytes of the payload", &body.len(), &bytes)?;
    equal(
        "all of them zero",
        &body.iter().all(|byte| *byte == 0),
        &true,
    )
}

fn equal<T: PartialEq + fmt::Debug>(what: &str, found: &T, expected: &T) -> Outcome {
    if found == expected {
        return Ok(());
    }
    Err(format!("{what}: {found:?}, and {expected:?} was expected").into())
}

/// Checks that a call has ended with this code, and gives its whole status.
fn ended<T>(outcome: Result<T, Status>, code: Code) -> Result<Status, Box<dyn Error>> {
    match outcome {
        Ok(_) => Err(format!("the call went well, and {code:?} was expected").into()),
        Err(status) if status.code() == code => Ok(status),
        Err(status) => Err(format!("{status}, and {code:?} was expected").into()),
    }
}
