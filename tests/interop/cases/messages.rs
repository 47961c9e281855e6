//! The cases about what is sent and comes back.

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request, Response,
    metadata::{MetadataMap, MetadataValue},
};

use super::{Client, Outcome, equal, holds, is_large, large_request, zeros};
use crate::testing::{
    Empty, ResponseParameters, StreamingInputCallRequest, StreamingOutputCallRequest,
};

/// Bytes of the requests of a stream.
const REQUESTS: [usize; 4] = [27_182, 8, 1_828, 45_904];
/// Bytes of the responses of a stream.
const RESPONSES: [i32; 4] = [31_415, 9, 2_653, 58_979];

pub(super) async fn empty_unary(mut client: Client) -> Outcome {
    client.empty_call(Empty {}).await?;
    Ok(())
}

pub(super) async fn large_unary(mut client: Client) -> Outcome {
    is_large(client.unary_call(large_request()).await?.get_ref())
}

pub(super) async fn client_streaming(mut client: Client) -> Outcome {
    let requests = REQUESTS.map(|bytes| StreamingInputCallRequest {
        payload: zeros(bytes),
        ..StreamingInputCallRequest::default()
    });
    let response = client.streaming_input_call(tokio_stream::iter(requests));
    let bytes = response.await?.get_ref().aggregated_payload_size;
    equal("aggregated_payload_size", &bytes, &74_922)
}

pub(super) async fn server_streaming(mut client: Client) -> Outcome {
    let request = StreamingOutputCallRequest {
        response_parameters: RESPONSES.map(asking_for).to_vec(),
        ..StreamingOutputCallRequest::default()
    };
    let mut responses = client.streaming_output_call(request).await?.into_inner();
    for bytes in RESPONSES {
        let response = responses.message().await?.ok_or("too few responses")?;
        holds(response.payload.as_ref(), bytes.try_into()?)?;
    }
    equal("one more", &responses.message().await?, &None)
}

pub(super) async fn ping_pong(mut client: Client) -> Outcome {
    let mut pings = REQUESTS.into_iter().zip(RESPONSES).map(ping);
    let (sender, requests) = mpsc::channel(1);
    // Some servers begin their answer with the first response.
    sender.send(pings.next().unwrap_or_default()).await?;
    let pongs = client.full_duplex_call(ReceiverStream::new(requests));
    let mut pongs = pongs.await?.into_inner();
    for bytes in RESPONSES {
        let pong = pongs.message().await?.ok_or("too few responses")?;
        holds(pong.payload.as_ref(), bytes.try_into()?)?;
        if let Some(ping) = pings.next() {
            sender.send(ping).await?;
        }
    }
    drop(sender);
    equal("one more", &pongs.message().await?, &None)
}

pub(super) async fn empty_stream(mut client: Client) -> Outcome {
    let responses = client.full_duplex_call(tokio_stream::empty()).await?;
    equal("one", &responses.into_inner().message().await?, &None)
}

pub(super) async fn custom_metadata(mut client: Client) -> Outcome {
    let response = client.unary_call(with_metadata(large_request())).await?;
    is_large(response.get_ref())?;
    is_initial(response.metadata())?;
    // Those of one response are among the initial ones, in tonic.
    is_trailing(response.metadata())?;

    let pings = tokio_stream::once(ping((271_828, 314_159)));
    let response = client.full_duplex_call(with_metadata(pings)).await?;
    is_initial(response.metadata())?;
    let mut pongs = Response::into_inner(response);
    let pong = pongs.message().await?.ok_or("no response")?;
    holds(pong.payload.as_ref(), 314_159)?;
    is_trailing(&pongs.trailers().await?.ok_or("no trailers")?)
}

const INITIAL: &str = "x-grpc-test-echo-initial";
const TRAILING: &str = "x-grpc-test-echo-trailing-bin";

fn with_metadata<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    let metadata = request.metadata_mut();
    let value = MetadataValue::from_static("test_initial_metadata_value");
    metadata.insert(INITIAL, value);
    metadata.insert_bin(TRAILING, MetadataValue::from_bytes(&[0xab; 3]));
    request
}

fn is_initial(metadata: &MetadataMap) -> Outcome {
    let expected = MetadataValue::from_static("test_initial_metadata_value");
    equal(INITIAL, &metadata.get(INITIAL), &Some(&expected))
}

fn is_trailing(metadata: &MetadataMap) -> Outcome {
    let expected = MetadataValue::from_bytes(&[0xab; 3]);
    equal(TRAILING, &metadata.get_bin(TRAILING), &Some(&expected))
}

/// Of so many bytes, asking for so many.
pub(super) fn ping((bytes, answer): (usize, i32)) -> StreamingOutputCallRequest {
    StreamingOutputCallRequest {
        response_parameters: vec![asking_for(answer)],
        payload: zeros(bytes),
        ..StreamingOutputCallRequest::default()
    }
}

fn asking_for(size: i32) -> ResponseParameters {
    ResponseParameters {
        size,
        compressed: None,
    }
}
