//! Server reflection, in both versions that tools speak: what grpc-go answers.

use std::{future::ready, sync::LazyLock};

use chassis::{App, Services};
use harness::{NOTHING, Running, bind, get, start};
use prost::Message as _;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, EnumValueDescriptorProto, FieldDescriptorProto,
    FileDescriptorProto, FileDescriptorSet, OneofDescriptorProto, descriptor_proto::ExtensionRange,
    field_descriptor_proto::Type,
};
use proto::helloworld::{HelloRequest, greeter_client::GreeterClient};
use tonic::{Code, Request, Status, client::Grpc};
use tonic_prost::ProstCodec;
use tonic_reflection::pb::v1::{
    ExtensionRequest, FileDescriptorResponse, ServerReflectionRequest, ServerReflectionResponse,
    server_reflection_request::MessageRequest::{
        self, AllExtensionNumbersOfType, FileByFilename, FileContainingExtension,
        FileContainingSymbol, ListServices,
    },
    server_reflection_response::MessageResponse,
};

const HEALTH: &str = "grpc/health/v1/health.proto";
const REFLECTION: &str = "grpc/reflection/v1/reflection.proto";
const ERROR_DETAILS: &str = "google/rpc/error_details.proto google/protobuf/duration.proto";

/// Serves nothing of its own, and describes the Greeter and files that have what those of the suite lack.
const EXTENDED: App<greeter::Settings> = App {
    name: "extended",
    about: "Describes extensions",
    listen_port: 0,
    build: |_, _| {
        let services = Services::described_by(proto::helloworld::FILE_DESCRIPTOR_SET);
        Box::pin(ready(Ok(services.and_described_by(&EXTENSIONS))))
    },
};

/// `base.proto` has a message to extend, which `middle.proto` does, and `top.proto` imports both, one of them
/// twice removed.
static EXTENSIONS: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let base = FileDescriptorProto {
        message_type: vec![DescriptorProto {
            extension_range: vec![ExtensionRange {
                start: Some(100),
                end: Some(200),
                options: None,
            }],
            ..message("Base")
        }],
        ..file("base.proto", &[])
    };
    let middle = FileDescriptorProto {
        extension: vec![extension("whole", 102)],
        message_type: vec![DescriptorProto {
            extension: vec![extension("inner", 101)],
            ..message("Middle")
        }],
        ..file("middle.proto", &["base.proto"])
    };
    let top = FileDescriptorProto {
        message_type: vec![top()],
        enum_type: vec![kind("Kind", "OUTER")],
        ..file("top.proto", &["middle.proto", "not/there.proto"])
    };
    let set = FileDescriptorSet {
        file: vec![base, middle, top],
    };
    set.encode_to_vec()
});

fn file(name: &str, imports: &[&str]) -> FileDescriptorProto {
    FileDescriptorProto {
        name: Some(name.to_owned()),
        package: Some("deep.package".to_owned()),
        dependency: imports.iter().map(|&name| name.to_owned()).collect(),
        ..FileDescriptorProto::default()
    }
}

fn message(name: &str) -> DescriptorProto {
    DescriptorProto {
        name: Some(name.to_owned()),
        ..DescriptorProto::default()
    }
}

fn top() -> DescriptorProto {
    let nested = DescriptorProto {
        enum_type: vec![kind("Kind", "INNER")],
        ..message("Nested")
    };
    DescriptorProto {
        field: vec![FieldDescriptorProto {
            name: Some("chosen".to_owned()),
            number: Some(1),
            oneof_index: Some(0),
            r#type: Some(Type::String.into()),
            ..FieldDescriptorProto::default()
        }],
        oneof_decl: vec![OneofDescriptorProto {
            name: Some("choice".to_owned()),
            options: None,
        }],
        nested_type: vec![nested],
        ..message("Top")
    }
}

fn kind(name: &str, value: &str) -> EnumDescriptorProto {
    EnumDescriptorProto {
        name: Some(name.to_owned()),
        value: vec![EnumValueDescriptorProto {
            name: Some(value.to_owned()),
            number: Some(0),
            options: None,
        }],
        ..EnumDescriptorProto::default()
    }
}

fn extension(name: &str, number: i32) -> FieldDescriptorProto {
    FieldDescriptorProto {
        name: Some(name.to_owned()),
        extendee: Some(".deep.package.Base".to_owned()),
        number: Some(number),
        r#type: Some(Type::String.into()),
        ..FieldDescriptorProto::default()
    }
}

fn symbol(name: &str) -> MessageRequest {
    FileContainingSymbol(name.to_owned())
}

fn file_named(name: &str) -> MessageRequest {
    FileByFilename(name.to_owned())
}

fn numbers_of(name: &str) -> MessageRequest {
    AllExtensionNumbersOfType(name.to_owned())
}

fn extension_of(name: &str, number: i32) -> MessageRequest {
    FileContainingExtension(ExtensionRequest {
        containing_type: name.to_owned(),
        extension_number: number,
    })
}

/// All answers of one stream.
async fn ask_version(
    server: &Running,
    version: &str,
    questions: Vec<ServerReflectionRequest>,
) -> Result<Vec<ServerReflectionResponse>, Status> {
    let path = format!("/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo");
    let mut client = Grpc::new(server.channel());
    client.ready().await.expect("a connection");
    let questions = Request::new(tokio_stream::iter(questions));
    let path = path.parse().expect("a path");
    let answers = client.streaming(questions, path, ProstCodec::default());
    let mut answers = answers.await?.into_inner();
    let mut all = Vec::new();
    while let Some(answer) = answers.message().await? {
        all.push(answer);
    }
    Ok(all)
}

/// Asks both versions, which differ only in name, and returns the one outcome.
async fn ask(
    server: &Running,
    questions: &[Option<MessageRequest>],
) -> Result<Vec<MessageResponse>, Status> {
    let questions: Vec<_> = (questions.iter().cloned())
        .map(|message_request| ServerReflectionRequest {
            host: "an.example".to_owned(),
            message_request,
        })
        .collect();
    let newest = ask_version(server, "v1", questions.clone()).await;
    let oldest = ask_version(server, "v1alpha", questions.clone()).await;
    match (newest, oldest) {
        (Ok(newest), Ok(oldest)) => {
            assert_eq!(newest, oldest);
            assert_eq!(newest.len(), questions.len());
            let answers = newest.into_iter().zip(questions);
            let message = |(answer, question): (ServerReflectionResponse, _)| {
                assert_eq!(answer.valid_host, "an.example");
                assert_eq!(answer.original_request, Some(question));
                answer.message_response.expect("an answer")
            };
            Ok(answers.map(message).collect())
        }
        (Err(newest), Err(oldest)) => {
            assert_eq!(newest.code(), oldest.code());
            Err(newest)
        }
        different => panic!("v1 and v1alpha differ: {different:?}"),
    }
}

/// What is in an answer, in words: files by name, or names, or numbers with their type, or a code.
fn in_words(answer: &MessageResponse) -> String {
    match answer {
        MessageResponse::FileDescriptorResponse(FileDescriptorResponse {
            file_descriptor_proto,
        }) => {
            let name = |file: &Vec<u8>| {
                let file = FileDescriptorProto::decode(file.as_slice());
                file.expect("a descriptor").name().to_owned()
            };
            let names: Vec<_> = file_descriptor_proto.iter().map(name).collect();
            names.join(" ")
        }
        MessageResponse::AllExtensionNumbersResponse(of) => {
            format!("{} {:?}", of.base_type_name, of.extension_number)
        }
        MessageResponse::ListServicesResponse(list) => {
            let names: Vec<_> = (list.service.iter().map(|of| of.name.as_str())).collect();
            names.join(" ")
        }
        MessageResponse::ErrorResponse(error) => {
            assert!(!error.error_message.is_empty());
            format!("{:?}", Code::from(error.error_code))
        }
    }
}

/// Asks everything on one stream.
async fn assert_answers(server: &Running, table: &[(MessageRequest, &str)]) {
    let questions: Vec<_> = (table.iter().map(|(question, _)| Some(question.clone()))).collect();
    let answers = ask(server, &questions).await.expect("answers");
    for ((question, expected), answer) in table.iter().zip(answers) {
        assert_eq!(in_words(&answer), *expected, "{question:?}");
    }
}

/// Asks each question on a stream of its own.
async fn assert_first_answers(server: &Running, table: &[(MessageRequest, &str)]) {
    for row in table {
        assert_answers(server, std::slice::from_ref(row)).await;
    }
}

#[tokio::test]
async fn each_server_lists_exactly_what_it_serves() {
    const REST: &str = "grpc.health.v1.Health grpc.reflection.v1.ServerReflection \
                        grpc.reflection.v1alpha.ServerReflection";
    let list = ListServices("*".to_owned());
    for (server, service) in [
        (start(greeter::APP, &[]).await, "helloworld.Greeter"),
        (start(route_guide::APP, &[]).await, "routeguide.RouteGuide"),
    ] {
        assert_answers(&server, &[(list.clone(), &format!("{REST} {service}"))]).await;
    }
}

#[tokio::test]
async fn every_symbol_is_found_by_its_full_name() {
    let server = start(route_guide::APP, &[]).await;
    assert_first_answers(
        &server,
        &[
            (symbol("routeguide.RouteGuide"), "route_guide.proto"),
            (
                symbol("routeguide.RouteGuide.RouteChat"),
                "route_guide.proto",
            ),
            (symbol("routeguide.RouteNote"), "route_guide.proto"),
            (symbol("routeguide.RouteNote.location"), "route_guide.proto"),
            (symbol("grpc.health.v1.Health.List"), HEALTH),
            (
                symbol("grpc.health.v1.HealthCheckResponse.ServingStatus"),
                HEALTH,
            ),
            (symbol("grpc.health.v1.HealthCheckResponse.SERVING"), HEALTH),
            (
                symbol("grpc.health.v1.HealthCheckResponse.ServingStatus.SERVING"),
                "NotFound",
            ),
            (
                symbol("grpc.health.v1.HealthListResponse.StatusesEntry.key"),
                HEALTH,
            ),
            (symbol("grpc.reflection.v1.ServerReflection"), REFLECTION),
            (
                symbol("grpc.reflection.v1.ServerReflectionRequest.message_request"),
                REFLECTION,
            ),
            (
                symbol("grpc.reflection.v1alpha.ServerReflection"),
                "grpc/reflection/v1alpha/reflection.proto",
            ),
            (
                symbol("google.rpc.BadRequest.FieldViolation"),
                ERROR_DETAILS,
            ),
            (symbol("google.rpc.RetryInfo"), ERROR_DETAILS),
            (
                symbol("google.rpc.Status"),
                "google/rpc/status.proto google/protobuf/any.proto",
            ),
            (symbol("google.protobuf.Any"), "google/protobuf/any.proto"),
            // No symbol, no full name, or not of this server.
            (symbol("routeguide"), "NotFound"),
            (symbol("RouteGuide"), "NotFound"),
            (symbol(".routeguide.RouteGuide"), "NotFound"),
            (symbol(""), "NotFound"),
            (symbol("helloworld.Greeter"), "NotFound"),
            (symbol("helloworld.HelloRequest"), "NotFound"),
            (file_named("helloworld.proto"), "NotFound"),
        ],
    )
    .await;
}

#[tokio::test]
async fn extensions_are_found_with_the_files_that_they_need() {
    const TOP: &str = "top.proto middle.proto base.proto";
    let server = start(EXTENDED, &[]).await;
    assert_first_answers(
        &server,
        &[
            (symbol("deep.package.Kind"), TOP),
            (symbol("deep.package.OUTER"), TOP),
            (symbol("deep.package.Kind.OUTER"), "NotFound"),
            (symbol("deep.package.Top.Nested.Kind"), TOP),
            (symbol("deep.package.Top.Nested.INNER"), TOP),
            (symbol("deep.package.Top.choice"), TOP),
            (symbol("deep.package.Top.chosen"), TOP),
            (symbol("deep.package.whole"), "middle.proto base.proto"),
            (
                symbol("deep.package.Middle.inner"),
                "middle.proto base.proto",
            ),
            (file_named("top.proto"), TOP),
            (file_named("not/there.proto"), "NotFound"),
            (
                extension_of("deep.package.Base", 101),
                "middle.proto base.proto",
            ),
            (
                extension_of("deep.package.Base", 102),
                "middle.proto base.proto",
            ),
            (extension_of("deep.package.Base", 103), "NotFound"),
            (extension_of("deep.package.Top", 101), "NotFound"),
            (
                numbers_of("deep.package.Base"),
                "deep.package.Base [101, 102]",
            ),
            (numbers_of("deep.package.Top"), "deep.package.Top []"),
            (numbers_of("deep.package.No"), "NotFound"),
        ],
    )
    .await;
}

#[tokio::test]
async fn the_stream_goes_on_and_repeats_no_import() {
    let server = start(EXTENDED, &[]).await;
    assert_answers(
        &server,
        &[
            (file_named("no.proto"), "NotFound"),
            (symbol("no.Such"), "NotFound"),
            (extension_of("no.Such", 1), "NotFound"),
            (numbers_of("no.Such"), "NotFound"),
            (file_named("middle.proto"), "middle.proto base.proto"),
            (file_named("top.proto"), "top.proto"),
            // What is asked for itself is sent as often.
            (file_named("base.proto"), "base.proto"),
            (file_named("middle.proto"), "middle.proto"),
            (symbol("google.rpc.Help"), ERROR_DETAILS),
            (symbol("google.rpc.Help"), "google/rpc/error_details.proto"),
            (symbol(&"a".repeat(4000)), "NotFound"),
        ],
    )
    .await;
}

#[tokio::test]
async fn what_is_no_question_ends_the_stream() {
    let server = start(greeter::APP, &[]).await;
    let known = Some(symbol("helloworld.Greeter"));
    for (bad, code) in [
        (None, Code::InvalidArgument),
        (Some(symbol(&"a".repeat(4096))), Code::ResourceExhausted),
    ] {
        let status = ask(&server, &[known.clone(), bad, known.clone()]).await;
        assert_eq!(status.expect_err("no answer").code(), code);
    }
}

/// Options of the file that nobody here knows: field 50000 is 1.
const CUSTOM_OPTIONS: &[u8] = &[0x42, 4, 0x80, 0xb5, 0x18, 1];

static CUSTOM: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut file = file("custom.proto", &[]).encode_to_vec();
    file.extend(CUSTOM_OPTIONS);
    let length = u8::try_from(file.len()).expect("short");
    [&[0x0a, length], file.as_slice()].concat()
});

#[tokio::test]
async fn a_file_is_sent_as_it_was_given() {
    let app = App {
        build: |_, _| Box::pin(ready(Ok(Services::described_by(&CUSTOM)))),
        ..EXTENDED
    };
    let server = start(app, &[]).await;
    let answers = ask(&server, &[Some(file_named("custom.proto"))]).await;
    let answers = answers.expect("an answer");
    let [MessageResponse::FileDescriptorResponse(files)] = answers.as_slice() else {
        panic!("{answers:?}")
    };
    assert_eq!(files.file_descriptor_proto, [&CUSTOM[2..]]);
}

#[tokio::test]
async fn descriptors_that_cannot_be_decoded_are_an_error() {
    let app = App {
        build: |_, _| Box::pin(ready(Ok(Services::described_by(b"\x0a")))),
        ..EXTENDED
    };
    let bound = bind(app, &[], NOTHING).await;
    let error = bound.err().expect("no descriptors");
    assert!(error.to_string().contains("descriptors"), "{error}");
}

#[tokio::test]
async fn a_method_that_is_not_served_is_no_label() {
    for server in [
        start(route_guide::APP, &[]).await,
        start(EXTENDED, &[]).await,
    ] {
        let mut client = GreeterClient::new(server.channel());
        let status = client.say_hello(HelloRequest::default()).await;
        assert_eq!(status.expect_err("not served").code(), Code::Unimplemented);
        let (_, metrics) = get(server.admin, "/metrics").await;
        assert!(metrics.contains(r#"grpc_method="unknown""#), "{metrics}");
        assert!(!metrics.contains("helloworld"), "{metrics}");
    }
}

#[tokio::test]
async fn one_switch_turns_reflection_off() {
    let server = start(greeter::APP, &["--reflection", "off"]).await;
    let question = Some(ListServices(String::new()));
    let status = ask(&server, &[question]).await.expect_err("not served");
    assert_eq!(status.code(), Code::Unimplemented);
}
