//! `grpc.testing.TestService`: does what its requests ask for.

use std::pin::Pin;

use chassis::invalid_argument;
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    LONGEST,
    packing::{Pack, Packed},
    testing::{
        BoolValue, EchoStatus, Empty, Payload, ResponseParameters, SimpleRequest, SimpleResponse,
        StreamingInputCallRequest, StreamingInputCallResponse, StreamingOutputCallRequest,
        StreamingOutputCallResponse, test_service_server,
    },
};

pub(crate) struct TestService;

type Replies = Pin<Box<dyn Stream<Item = Result<StreamingOutputCallResponse, Status>> + Send>>;

#[tonic::async_trait]
impl test_service_server::TestService for TestService {
    type StreamingOutputCallStream = Replies;
    type FullDuplexCallStream = Replies;

    async fn empty_call(&self, _: Request<Empty>) -> Result<Response<Empty>, Status> {
        Ok(Response::new(Empty {}))
    }

    async fn unary_call(
        &self,
        request: Request<SimpleRequest>,
    ) -> Result<Response<SimpleResponse>, Status> {
        let packed = packed(&request);
        let request = request.into_inner();
        came_as_said(request.expect_compressed, &packed)?;
        end_as_asked(request.response_status)?;
        let payload = Some(zeros("response_size", request.response_size)?);
        let mut response = Response::new(SimpleResponse { payload });
        let pack = Pack(vec![is_true(request.response_compressed)]);
        response.extensions_mut().insert(pack);
        Ok(response)
    }

    async fn streaming_output_call(
        &self,
        request: Request<StreamingOutputCallRequest>,
    ) -> Result<Response<Replies>, Status> {
        let request = request.into_inner();
        end_as_asked(request.response_status)?;
        let asked = request.response_parameters;
        let pack = asked.iter().map(|reply| is_true(reply.compressed));
        let pack = Pack(pack.collect());
        let replies = tokio_stream::iter(asked.into_iter().map(reply));
        let mut response = Response::new(Box::pin(replies) as Replies);
        response.extensions_mut().insert(pack);
        Ok(response)
    }

    async fn streaming_input_call(
        &self,
        request: Request<Streaming<StreamingInputCallRequest>>,
    ) -> Result<Response<StreamingInputCallResponse>, Status> {
        let packed = packed(&request);
        let mut requests = request.into_inner();
        let mut bytes = 0_usize;
        while let Some(request) = requests.message().await? {
            came_as_said(request.expect_compressed, &packed)?;
            bytes = bytes.saturating_add(request.payload.map_or(0, |payload| payload.body.len()));
        }
        Ok(Response::new(StreamingInputCallResponse {
            aggregated_payload_size: bytes.try_into().unwrap_or(i32::MAX),
        }))
    }

    async fn full_duplex_call(
        &self,
        request: Request<Streaming<StreamingOutputCallRequest>>,
    ) -> Result<Response<Replies>, Status> {
        let mut requests = request.into_inner();
        Ok(Response::new(Box::pin(async_stream::try_stream! {
            while let Some(request) = requests.message().await? {
                end_as_asked(request.response_status)?;
                for asked in request.response_parameters {
                    yield reply(asked)?;
                }
            }
        })))
    }

    async fn unimplemented_call(&self, _: Request<Empty>) -> Result<Response<Empty>, Status> {
        Err(Status::unimplemented("on purpose"))
    }
}

fn reply(asked: ResponseParameters) -> Result<StreamingOutputCallResponse, Status> {
    let payload = Some(zeros("response_parameters.size", asked.size)?);
    Ok(StreamingOutputCallResponse { payload })
}

fn zeros(field: &'static str, bytes: i32) -> Result<Payload, Status> {
    let bytes = usize::try_from(bytes)
        .ok()
        .filter(|bytes| *bytes <= LONGEST);
    let bytes = bytes.ok_or_else(|| invalid_argument(field, format!("not 0 to {LONGEST}")))?;
    Ok(Payload::zeros(bytes))
}

fn is_true(value: Option<BoolValue>) -> bool {
    value.is_some_and(|said| said.value)
}

fn packed<T>(request: &Request<T>) -> Packed {
    let packed = request.extensions().get().cloned();
    packed.unwrap_or_default()
}

/// Refuses a message that says that it was sent packed if it was not, and the other way round.
fn came_as_said(said: Option<BoolValue>, packed: &Packed) -> Result<(), Status> {
    let packed = packed.next();
    match said {
        Some(said) if packed != Some(said.value) => Err(invalid_argument(
            "expect_compressed",
            "the message came the other way",
        )),
        _ => Ok(()),
    }
}

fn end_as_asked(status: Option<EchoStatus>) -> Result<(), Status> {
    match status {
        Some(status) if status.code != 0 => Err(Status::new(status.code.into(), status.message)),
        _ => Ok(()),
    }
}
