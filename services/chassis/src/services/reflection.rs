//! Server reflection as grpc-go answers it: v1, and v1alpha because old tools ask for nothing else.
//! <https://github.com/grpc/grpc-proto/blob/master/grpc/reflection/v1/reflection.proto>
//!
//! tonic-reflection is not used: it ends the stream where the protocol wants an error in it, knows neither
//! extensions nor the names of enum values, sends no imports, and answers from a task that outlives its call.

use std::{pin::Pin, sync::Arc};

use tokio_stream::{Stream, StreamExt as _};
use tonic::{Code, Request, Response, Status, Streaming, server::NamedService as _};

use crate::{
    services::{
        Services,
        reflection::{
            descriptor_pool::DescriptorPool,
            v1::{
                ErrorResponse, ExtensionNumberResponse, FileDescriptorResponse,
                ListServiceResponse, ServerReflectionRequest, ServerReflectionResponse,
                ServiceResponse,
                server_reflection_request::MessageRequest,
                server_reflection_response::MessageResponse,
                server_reflection_server::{ServerReflection, ServerReflectionServer},
            },
        },
    },
    settings::Error,
};

mod descriptor_pool;

/// The protocol as generated code.
#[allow(clippy::all, missing_docs, unreachable_pub, reason = "generated code")]
mod v1 {
    tonic::include_proto!("grpc.reflection.v1");
}

/// The service alone: its messages are those of [`v1`].
#[allow(clippy::all, missing_docs, unreachable_pub, reason = "generated code")]
mod v1alpha {
    tonic::include_proto!("grpc.reflection.v1alpha");
}

/// Both versions of the protocol as an encoded `google.protobuf.FileDescriptorSet`.
const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("reflection");

/// `google.rpc.Status` and what is put into its details, which no contract imports: with these, tools print
/// a refusal in words.
const GOOGLE_RPC: &[u8] = tonic::include_file_descriptor_set!("google_rpc");

/// Adds server reflection, which lists exactly what is served. Fails if descriptors cannot be decoded.
pub(crate) fn add_to(services: Services) -> Result<Services, Error> {
    type V1 = ServerReflectionServer<Reflection>;
    type V1Alpha = v1alpha::server_reflection_server::ServerReflectionServer<Reflection>;
    // Bounds the names that are asked for, and are sent back with each answer.
    const MAX_REQUEST_BYTES: usize = 4096;
    let services = services
        .and_described_by(FILE_DESCRIPTOR_SET)
        .and_described_by(GOOGLE_RPC);
    let mut names: Vec<_> = services.names().chain([V1::NAME, V1Alpha::NAME]).collect();
    names.sort_unstable();
    let descriptors = DescriptorPool::new(services.descriptors())
        .map_err(|error| format!("the descriptors of the services: {error}"))?;
    let reflection = Reflection {
        services: names.into(),
        descriptors: Arc::new(descriptors),
    };
    Ok(services
        .add_service_limited(V1::new(reflection.clone()), MAX_REQUEST_BYTES)
        .add_service_limited(V1Alpha::new(reflection), MAX_REQUEST_BYTES))
}

/// What one server serves, and how it is described.
#[derive(Debug, Clone)]
struct Reflection {
    services: Arc<[&'static str]>,
    descriptors: Arc<DescriptorPool>,
}

type Answers = Pin<Box<dyn Stream<Item = Result<ServerReflectionResponse, Status>> + Send>>;

impl Reflection {
    /// One answer to each question, made when the connection takes it.
    fn answers(&self, questions: Streaming<ServerReflectionRequest>) -> Answers {
        let this = self.clone();
        let mut sent = vec![false; this.descriptors.len()];
        Box::pin(questions.map(move |question| this.answer(question?, &mut sent)))
    }

    /// What is not found is an error in the answer, and the stream goes on. `sent` is which files the stream
    /// has had.
    fn answer(
        &self,
        question: ServerReflectionRequest,
        sent: &mut [bool],
    ) -> Result<ServerReflectionResponse, Status> {
        let Some(asked) = &question.message_request else {
            return Err(Status::invalid_argument("message_request: missing"));
        };
        Ok(ServerReflectionResponse {
            valid_host: question.host.clone(),
            message_response: Some(self.found(asked, sent).unwrap_or_else(not_found)),
            original_request: Some(question),
        })
    }

    /// What is asked for, or what there is not.
    fn found(&self, asked: &MessageRequest, sent: &mut [bool]) -> Result<MessageResponse, String> {
        let pool = &self.descriptors;
        let file = match asked {
            MessageRequest::ListServices(_) => {
                return Ok(MessageResponse::ListServicesResponse(self.list()));
            }
            MessageRequest::AllExtensionNumbersOfType(name) => {
                let numbers = pool.extension_numbers(name);
                return (numbers.map(|numbers| extension_numbers(name, numbers)))
                    .ok_or_else(|| format!("type {name:.200}"));
            }
            MessageRequest::FileByFilename(name) => {
                (pool.file(name)).ok_or_else(|| format!("file {name:.200}"))
            }
            MessageRequest::FileContainingSymbol(name) => {
                (pool.file_of_symbol(name)).ok_or_else(|| format!("symbol {name:.200}"))
            }
            MessageRequest::FileContainingExtension(asked) => {
                let (name, number) = (&asked.containing_type, asked.extension_number);
                (pool.file_of_extension(name, number))
                    .ok_or_else(|| format!("extension {number} of {name:.200}"))
            }
        };
        Ok(MessageResponse::FileDescriptorResponse(
            FileDescriptorResponse {
                file_descriptor_proto: pool.with_imports(file?, sent),
            },
        ))
    }

    fn list(&self) -> ListServiceResponse {
        let name = |name: &&str| ServiceResponse {
            name: (*name).to_owned(),
        };
        ListServiceResponse {
            service: self.services.iter().map(name).collect(),
        }
    }
}

fn extension_numbers(name: &str, numbers: Vec<i32>) -> MessageResponse {
    MessageResponse::AllExtensionNumbersResponse(ExtensionNumberResponse {
        base_type_name: name.to_owned(),
        extension_number: numbers,
    })
}

fn not_found(what: String) -> MessageResponse {
    MessageResponse::ErrorResponse(ErrorResponse {
        error_code: Code::NotFound.into(),
        error_message: format!("no {what}"),
    })
}

#[tonic::async_trait]
impl ServerReflection for Reflection {
    type ServerReflectionInfoStream = Answers;

    async fn server_reflection_info(
        &self,
        request: Request<Streaming<ServerReflectionRequest>>,
    ) -> Result<Response<Answers>, Status> {
        Ok(Response::new(self.answers(request.into_inner())))
    }
}

#[tonic::async_trait]
impl v1alpha::server_reflection_server::ServerReflection for Reflection {
    type ServerReflectionInfoStream = Answers;

    async fn server_reflection_info(
        &self,
        request: Request<Streaming<ServerReflectionRequest>>,
    ) -> Result<Response<Answers>, Status> {
        Ok(Response::new(self.answers(request.into_inner())))
    }
}
