//! Server reflection, in both versions that tools speak.

use chassis::App;
use harness::start;
use prost::Message as _;
use prost_types::FileDescriptorProto;
use tonic::Code;
use tonic_reflection::pb::v1::{
    ServerReflectionResponse, server_reflection_response::MessageResponse,
};

/// Asks one version and returns its answer as encoded.
macro_rules! ask_version {
    ($version:ident, $server:expr, $question:ident($text:expr)) => {{
        use tonic_reflection::pb::$version::{
            ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
            server_reflection_request::MessageRequest,
        };
        let request = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::$question($text.to_owned())),
        };
        let mut client = ServerReflectionClient::new($server.channel());
        let answers = client
            .server_reflection_info(tokio_stream::iter([request]))
            .await;
        let answer = match answers {
            Ok(mut answers) => answers.get_mut().message().await,
            Err(status) => Err(status),
        };
        answer.map(|answer| answer.expect("an answer").encode_to_vec())
    }};
}

/// Asks both versions, which differ only in name, and returns the one answer.
macro_rules! ask {
    ($server:expr, $question:ident($text:expr)) => {{
        let newest = ask_version!(v1, $server, $question($text));
        let oldest = ask_version!(v1alpha, $server, $question($text));
        match (newest, oldest) {
            (Ok(newest), Ok(oldest)) => {
                assert_eq!(newest, oldest);
                let answer = ServerReflectionResponse::decode(newest.as_slice());
                Ok(answer
                    .expect("an answer")
                    .message_response
                    .expect("an answer"))
            }
            (Err(newest), Err(oldest)) => {
                assert_eq!(newest.code(), oldest.code());
                Err(newest)
            }
            different => panic!("v1 and v1alpha differ: {different:?}"),
        }
    }};
}

async fn assert_lists<S: clap::Args + Send + 'static>(app: App<S>, service: &str) {
    let server = start(app, &[]).await;
    let answer = ask!(server, ListServices("")).expect("a list");
    let MessageResponse::ListServicesResponse(list) = answer else {
        panic!("{answer:?}")
    };
    let names: Vec<_> = list
        .service
        .iter()
        .map(|service| service.name.as_str())
        .collect();
    assert_eq!(
        names,
        [
            "grpc.health.v1.Health",
            service,
            "grpc.reflection.v1.ServerReflection",
            "grpc.reflection.v1alpha.ServerReflection"
        ]
    );
}

#[tokio::test]
async fn each_server_lists_exactly_what_it_serves() {
    assert_lists(greeter::APP, "helloworld.Greeter").await;
    assert_lists(route_guide::APP, "routeguide.RouteGuide").await;
}

#[tokio::test]
async fn every_listed_service_is_described() {
    let server = start(route_guide::APP, &[]).await;
    for (symbol, file_name) in [
        ("routeguide.RouteGuide", "route_guide.proto"),
        ("routeguide.RouteGuide.RouteChat", "route_guide.proto"),
        ("routeguide.RouteNote", "route_guide.proto"),
        ("grpc.health.v1.Health.List", "health.proto"),
    ] {
        let answer = ask!(server, FileContainingSymbol(symbol)).expect("a file");
        let MessageResponse::FileDescriptorResponse(files) = answer else {
            panic!("{answer:?}")
        };
        let [file] = files.file_descriptor_proto.as_slice() else {
            panic!("{symbol}: {files:?}")
        };
        let file = FileDescriptorProto::decode(file.as_slice()).expect("a descriptor");
        assert_eq!(file.name(), file_name, "{symbol}");
    }
    let status = ask!(server, FileContainingSymbol("no.Such")).expect_err("unknown");
    assert_eq!(status.code(), Code::NotFound);
}

#[tokio::test]
async fn one_switch_turns_reflection_off() {
    let server = start(greeter::APP, &["--reflection", "off"]).await;
    let status = ask!(server, ListServices("")).expect_err("not served");
    assert_eq!(status.code(), Code::Unimplemented);
}
