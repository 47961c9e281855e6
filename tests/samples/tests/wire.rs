//! The contract is the public one: names, numbers and bytes.

use std::collections::BTreeSet;

use harness::{raw, start};
use http::Request;
use prost::Message as _;
use prost_types::{
    DescriptorProto, FileDescriptorSet, MethodDescriptorProto, field_descriptor_proto::Label,
};
use proto::{
    helloworld::{HelloReply, HelloRequest},
    routeguide::{Feature, Point, Rectangle, RouteNote, RouteSummary},
};

const PUBLIC: &str = "\
/helloworld.Greeter/SayHello (.helloworld.HelloRequest) returns (.helloworld.HelloReply)
/helloworld.Greeter/SayHelloBidiStream (stream .helloworld.HelloRequest) returns (stream .helloworld.HelloReply)
/helloworld.Greeter/SayHelloStreamReply (.helloworld.HelloRequest) returns (stream .helloworld.HelloReply)
/routeguide.RouteGuide/GetFeature (.routeguide.Point) returns (.routeguide.Feature)
/routeguide.RouteGuide/ListFeatures (.routeguide.Rectangle) returns (stream .routeguide.Feature)
/routeguide.RouteGuide/RecordRoute (stream .routeguide.Point) returns (.routeguide.RouteSummary)
/routeguide.RouteGuide/RouteChat (stream .routeguide.RouteNote) returns (stream .routeguide.RouteNote)
helloworld.HelloReply.message = 1 String
helloworld.HelloRequest.name = 1 String
routeguide.Feature.location = 2 .routeguide.Point
routeguide.Feature.name = 1 String
routeguide.Point.latitude = 1 Int32
routeguide.Point.longitude = 2 Int32
routeguide.Rectangle.hi = 2 .routeguide.Point
routeguide.Rectangle.lo = 1 .routeguide.Point
routeguide.RouteNote.location = 1 .routeguide.Point
routeguide.RouteNote.message = 2 String
routeguide.RouteSummary.distance = 3 Int32
routeguide.RouteSummary.elapsed_time = 4 Int32
routeguide.RouteSummary.feature_count = 2 Int32
routeguide.RouteSummary.point_count = 1 Int32";

#[test]
fn names_and_numbers_are_those_of_the_public_protos() {
    // Sets in a row are one set.
    let sets = [
        proto::helloworld::FILE_DESCRIPTOR_SET,
        proto::routeguide::FILE_DESCRIPTOR_SET,
    ];
    let set = FileDescriptorSet::decode(sets.concat().as_slice()).expect("a descriptor set");
    let mut found = BTreeSet::new();
    for file in &set.file {
        for service in &file.service {
            let service_name = format!("{}.{}", file.package(), service.name());
            found.extend(
                service
                    .method
                    .iter()
                    .map(|method| in_words(&service_name, method)),
            );
        }
        for message in &file.message_type {
            found.extend(fields(file.package(), message));
        }
    }
    assert_eq!(found.into_iter().collect::<Vec<_>>().join("\n"), PUBLIC);
}

fn in_words(service: &str, method: &MethodDescriptorProto) -> String {
    let stream = |yes| if yes { "stream " } else { "" };
    format!(
        "/{service}/{} ({}{}) returns ({}{})",
        method.name(),
        stream(method.client_streaming()),
        method.input_type(),
        stream(method.server_streaming()),
        method.output_type()
    )
}

fn fields(package: &str, message: &DescriptorProto) -> Vec<String> {
    let line = |field: &prost_types::FieldDescriptorProto| {
        assert_eq!(
            field.label(),
            Label::Optional,
            "{} is a plain field",
            field.name()
        );
        let kind = match field.type_name() {
            "" => format!("{:?}", field.r#type()),
            message => message.to_owned(),
        };
        format!(
            "{package}.{}.{} = {} {kind}",
            message.name(),
            field.name(),
            field.number()
        )
    };
    message.field.iter().map(line).collect()
}

const POINT: Point = Point {
    latitude: 1,
    longitude: -1,
};
const POINT_BYTES: &str = "080110ffffffffffffffffff01";

/// The point in the field with this tag.
fn in_field(tag: &str) -> String {
    format!("{tag}0d{POINT_BYTES}")
}

fn assert_encoded(message: &impl prost::Message, bytes: &str) {
    let encoded = message.encode_to_vec();
    let found: String = encoded.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(found, bytes);
}

#[test]
fn messages_are_encoded_to_the_public_bytes() {
    assert_encoded(&POINT, POINT_BYTES);
    let (lo, hi) = (Some(POINT), Some(POINT));
    let corners = in_field("0a") + &in_field("12");
    assert_encoded(&Rectangle { lo, hi }, &corners);
    let (name, location) = ("a".to_owned(), Some(POINT));
    let feature = Feature { name, location };
    assert_encoded(&feature, &("0a0161".to_owned() + &in_field("12")));
    // What the Python server answers for a point that it does not know.
    let location = Some(Point::default());
    let name = String::new();
    assert_encoded(&Feature { name, location }, "1200");
    let (location, message) = (Some(POINT), "a".to_owned());
    let note = RouteNote { location, message };
    assert_encoded(&note, &(in_field("0a") + "120161"));
    let summary = RouteSummary {
        point_count: 1,
        feature_count: 2,
        distance: 300,
        elapsed_time: 4,
    };
    assert_encoded(&summary, "0801100218ac022004");
    let name = "tonic".to_owned();
    assert_encoded(&HelloRequest { name }, "0a05746f6e6963");
    let message = "Hi".to_owned();
    assert_encoded(&HelloReply { message }, "0a024869");
}

#[tokio::test]
async fn a_call_written_by_hand_is_answered_in_the_public_bytes() {
    let server = start(greeter::APP, &[]).await;
    let request = Request::post(format!("{}/helloworld.Greeter/SayHello", server.url()))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(b"\0\0\0\0\x07\x0a\x05tonic".as_slice().into())
        .expect("a request");
    let answer = raw(server.addr, request).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers["content-type"], "application/grpc");
    assert_eq!(answer.body.as_ref(), b"\0\0\0\0\x0d\x0a\x0bHello tonic");
    assert_eq!(answer.trailers["grpc-status"], "0");
}
