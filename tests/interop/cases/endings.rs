//! The cases about calls that end in another way than well.

use std::{future, time::Duration};

use futures_util::stream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request};

use super::{Client, Outcome, ended, equal, holds, messages::ping, zeros};
use crate::{
    CommandLine,
    testing::{
        EchoStatus, Empty, SimpleRequest, StreamingInputCallRequest, StreamingOutputCallRequest,
        unimplemented_service_client::UnimplementedServiceClient,
    },
    wire::Wire,
};

pub(super) async fn status_code_and_message(client: Client) -> Outcome {
    let message = "test status message";
    unary_ends_with(client.clone(), message).await?;
    stream_ends_with(client, message).await
}

pub(super) async fn special_status_message(client: Client) -> Outcome {
    let message = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n";
    unary_ends_with(client, message).await
}

async fn unary_ends_with(mut client: Client, message: &str) -> Outcome {
    let request = SimpleRequest {
        response_status: unknown(message),
        ..SimpleRequest::default()
    };
    let status = ended(client.unary_call(request).await, Code::Unknown)?;
    equal("message", &status.message(), &message)
}

async fn stream_ends_with(mut client: Client, message: &str) -> Outcome {
    let request = StreamingOutputCallRequest {
        response_status: unknown(message),
        ..StreamingOutputCallRequest::default()
    };
    let outcome = async {
        let responses = client.full_duplex_call(tokio_stream::once(request)).await?;
        responses.into_inner().message().await
    };
    let status = ended(outcome.await, Code::Unknown)?;
    equal("message", &status.message(), &message)
}

fn unknown(message: &str) -> Option<EchoStatus> {
    Some(EchoStatus {
        code: Code::Unknown.into(),
        message: message.to_owned(),
    })
}

pub(super) async fn unimplemented_method(mut client: Client) -> Outcome {
    let outcome = client.unimplemented_call(Empty {}).await;
    ended(outcome, Code::Unimplemented).map(drop)
}

pub(super) async fn unimplemented_service(command_line: &CommandLine) -> Outcome {
    let mut client = UnimplementedServiceClient::new(Wire::to(command_line)?);
    let outcome = client.unimplemented_call(Empty {}).await;
    ended(outcome, Code::Unimplemented).map(drop)
}

pub(super) async fn cancel_after_begin(mut client: Client) -> Outcome {
    let (begun, mut has_begun) = mpsc::channel(1);
    // The first message is asked for after the headers have been sent.
    let requests = stream::once(async move {
        let _ = begun.send(()).await;
        future::pending::<StreamingInputCallRequest>().await
    });
    let mut request = Request::new(requests);
    let call = request.cancellation_handle();
    let cancelled = async {
        has_begun.recv().await;
        call.cancel();
    };
    let (outcome, ()) = tokio::join!(client.streaming_input_call(request), cancelled);
    ended(outcome, Code::Cancelled).map(drop)
}

pub(super) async fn cancel_after_first_response(mut client: Client) -> Outcome {
    let (sender, requests) = mpsc::channel(1);
    sender.send(ping((27_182, 31_415))).await?;
    let mut request = Request::new(ReceiverStream::new(requests));
    let call = request.cancellation_handle();
    let mut responses = client.full_duplex_call(request).await?.into_inner();
    let response = responses.message().await?.ok_or("no response")?;
    holds(response.payload.as_ref(), 31_415)?;
    call.cancel();
    ended(responses.message().await, Code::Cancelled).map(drop)
}

pub(super) async fn timeout_on_sleeping_server(mut client: Client) -> Outcome {
    let (sender, requests) = mpsc::channel(1);
    let request = StreamingOutputCallRequest {
        payload: zeros(27_182),
        ..StreamingOutputCallRequest::default()
    };
    sender.send(request).await?;
    let mut request = Request::new(ReceiverStream::new(requests));
    request.set_timeout(Duration::from_millis(1));
    let outcome = match client.full_duplex_call(request).await {
        Ok(responses) => responses.into_inner().message().await,
        Err(status) => Err(status),
    };
    ended(outcome, Code::DeadlineExceeded).map(drop)
}
