//! What RouteGuide answers. The figures are those of `data/transcript.json`.

use futures_util::FutureExt as _;
use harness::{Running, command, output, start, within};
use proto::routeguide::{
    Feature, Point, Rectangle, RouteNote, RouteSummary, route_guide_client::RouteGuideClient,
};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::{Code, Request, Status, metadata::MetadataValue, transport::Channel};
use tonic_types::StatusExt as _;

type Client = RouteGuideClient<Channel>;

async fn route_guide(flags: &[&str]) -> (Running, Client) {
    let server = start(route_guide::APP, flags).await;
    let client = RouteGuideClient::new(server.channel());
    (server, client)
}

fn transcript() -> Value {
    serde_json::from_str(include_str!("../../../data/transcript.json")).expect("JSON")
}

fn database() -> Vec<Feature> {
    let file: Value =
        serde_json::from_str(include_str!("../../../data/route_guide_db.json")).expect("JSON");
    let entries = file.as_array().expect("an array");
    let feature = |entry: &Value| Feature {
        name: entry["name"].as_str().expect("a name").to_owned(),
        location: Some(point(&entry["location"])),
    };
    entries.iter().map(feature).collect()
}

fn point(json: &Value) -> Point {
    let e7 = |value: &Value| {
        value
            .as_i64()
            .expect("a number")
            .try_into()
            .expect("an int32")
    };
    match json {
        Value::Array(pair) => at(e7(&pair[0]), e7(&pair[1])),
        _ => at(e7(&json["latitude"]), e7(&json["longitude"])),
    }
}

fn at(latitude: i32, longitude: i32) -> Point {
    Point {
        latitude,
        longitude,
    }
}

fn note(location: Point, message: &str) -> RouteNote {
    RouteNote {
        location: Some(location),
        message: message.to_owned(),
    }
}

fn notes(json: &Value) -> Vec<RouteNote> {
    let notes = json.as_array().expect("an array").iter();
    notes
        .map(|entry| {
            note(
                point(&entry["location"]),
                entry["message"].as_str().expect("text"),
            )
        })
        .collect()
}

async fn list(client: &mut Client, lo: Point, hi: Point) -> Vec<Feature> {
    let area = Rectangle {
        lo: Some(lo),
        hi: Some(hi),
    };
    let features = client
        .list_features(area)
        .await
        .expect("features")
        .into_inner();
    features
        .map(|feature| feature.expect("a feature"))
        .collect()
        .await
}

async fn chat(client: &mut Client, notes: Vec<RouteNote>) -> Result<Vec<RouteNote>, Status> {
    let mut earlier = client
        .route_chat(tokio_stream::iter(notes))
        .await?
        .into_inner();
    let mut received = Vec::new();
    while let Some(note) = earlier.message().await? {
        received.push(note);
    }
    Ok(received)
}

/// Asserts that `status` refuses `field`.
fn assert_refuses(status: &Status, field: &str) {
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let details = status
        .get_details_bad_request()
        .expect("a BadRequest detail");
    let fields: Vec<_> = details
        .field_violations
        .iter()
        .map(|found| found.field.as_str())
        .collect();
    assert_eq!(fields, [field]);
    assert!(status.message().starts_with(field), "{}", status.message());
}

#[tokio::test]
async fn get_feature_finds_what_is_there_and_echoes_the_place_where_nothing_is() {
    let (_server, mut client) = route_guide(&[]).await;
    for expected in transcript()["get_feature"].as_array().expect("an array") {
        let asked = point(&expected["request"]);
        let feature = client
            .get_feature(asked)
            .await
            .expect("a feature")
            .into_inner();
        assert_eq!(feature.name, expected["name"].as_str().expect("a name"));
        assert_eq!(feature.location, Some(asked));
    }
}

#[tokio::test]
async fn list_features_streams_the_rectangle_in_file_order_whichever_way_round_it_is_given() {
    let (_server, mut client) = route_guide(&[]).await;
    let rectangle = &transcript()["list_features"]["rectangle"];
    let (lo, hi) = (point(&rectangle["lo"]), point(&rectangle["hi"]));
    let everything = database();
    assert_eq!(everything.len(), 100);
    for (a, b) in [
        (lo, hi),
        (hi, lo),
        (at(lo.latitude, hi.longitude), at(hi.latitude, lo.longitude)),
        (at(hi.latitude, lo.longitude), at(lo.latitude, hi.longitude)),
    ] {
        assert_eq!(list(&mut client, a, b).await, everything);
    }
}

#[tokio::test]
async fn list_features_includes_the_edges_and_nothing_beyond_them() {
    let (_server, mut client) = route_guide(&[]).await;
    let Some(corner) = database()[0].location else {
        panic!("a place")
    };
    assert_eq!(list(&mut client, corner, corner).await, database()[..1]);
    let beside = at(corner.latitude + 1, corner.longitude);
    assert_eq!(list(&mut client, beside, beside).await, []);
}

#[tokio::test]
async fn record_route_sums_the_golden_route_up() {
    let (_server, mut client) = route_guide(&[]).await;
    let expected = &transcript()["record_route"];
    let points: Vec<_> = expected["points"]
        .as_array()
        .expect("an array")
        .iter()
        .map(point)
        .collect();
    let summary = client
        .record_route(tokio_stream::iter(points))
        .await
        .expect("a summary");
    let summary = summary.into_inner();
    let figure = |name: &str| expected["summary"][name].as_i64().expect("a number");
    assert_eq!(i64::from(summary.point_count), figure("point_count"));
    assert_eq!(i64::from(summary.feature_count), figure("feature_count"));
    assert_eq!(i64::from(summary.distance), figure("distance"));
    assert!(summary.elapsed_time < 30, "{} s", summary.elapsed_time);
}

#[tokio::test]
async fn record_route_counts_only_known_points_as_features() {
    let (_server, mut client) = route_guide(&[]).await;
    let known = database()[0].location.expect("a place");
    let points = tokio_stream::iter([at(0, 0), known, at(0, 1), known]);
    let summary = client
        .record_route(points)
        .await
        .expect("a summary")
        .into_inner();
    assert_eq!((summary.point_count, summary.feature_count), (4, 2));
}

#[tokio::test]
async fn record_route_without_a_point_gives_zeros() {
    let (_server, mut client) = route_guide(&[]).await;
    let summary = client
        .record_route(tokio_stream::iter([]))
        .await
        .expect("a summary");
    assert_eq!(summary.into_inner(), RouteSummary::default());
}

#[tokio::test]
async fn route_chat_brings_back_what_anyone_left_earlier() {
    let (server, mut client) = route_guide(&[]).await;
    let expected = &transcript()["route_chat"];
    let sent = notes(&expected["sent"]);
    let received = chat(&mut client, sent.clone()).await.expect("a chat");
    assert_eq!(received, notes(&expected["received_on_a_fresh_server"]));

    // Another client finds what the first one left.
    let received = chat(&mut RouteGuideClient::new(server.channel()), sent)
        .await
        .expect("a chat");
    let messages: Vec<_> = received.iter().map(|note| note.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            // for the first note, at (0, 0): what the first run left there
            "First message",
            "Fourth message",
            // for the second, at (0, 1)
            "Second message",
            // for the third, at (1, 0)
            "Third message",
            "Fifth message",
            // for the fourth, at (0, 0) again: also its own run's first
            "First message",
            "Fourth message",
            "First message",
            // for the fifth, at (1, 0)
            "Third message",
            "Fifth message",
            "Third message",
        ]
    );
}

#[tokio::test]
async fn two_chats_that_are_open_at_once_see_each_other() {
    let (server, client) = route_guide(&[]).await;
    let mut open = Vec::new();
    for mut client in [client, RouteGuideClient::new(server.channel())] {
        let (notes, sent) = mpsc::channel(1);
        let chat = client
            .route_chat(ReceiverStream::new(sent))
            .await
            .expect("a chat");
        open.push((notes, chat.into_inner()));
    }
    let mut say = async |who: usize, message: &str, expected: &[&str]| {
        let (notes, received) = &mut open[who];
        notes
            .send(note(at(7, 7), message))
            .await
            .expect("an open chat");
        for earlier in expected {
            let note = within(received.message())
                .await
                .expect("a note")
                .expect("a note");
            assert_eq!(note.message, *earlier);
        }
    };
    say(0, "a", &[]).await;
    say(0, "b", &["a"]).await;
    say(1, "c", &["a", "b"]).await;
    say(0, "d", &["a", "b", "c"]).await;
}

#[tokio::test]
async fn a_chat_that_asks_for_heartbeats_is_never_silent_for_long_and_no_other_hears_any() {
    let (_server, client) = route_guide(&[]).await;
    let open = async |heartbeat: Option<&'static str>| {
        let mut request = Request::new(tokio_stream::pending());
        if let Some(seconds) = heartbeat {
            let seconds = MetadataValue::from_static(seconds);
            request.metadata_mut().insert("x-heartbeat", seconds);
        }
        within(client.clone().route_chat(request)).await
    };
    let mut silent = open(None).await.expect("a chat").into_inner();
    let mut chat = open(Some("1")).await.expect("a chat").into_inner();
    for _ in 0..2 {
        let beat = within(chat.message()).await.expect("an open chat");
        assert_eq!(beat, Some(RouteNote::default()));
    }
    assert!(silent.message().now_or_never().is_none());
    let status = open(Some("25s")).await.expect_err("refused");
    assert_refuses(&status, "x-heartbeat");
}

#[tokio::test]
async fn what_is_missing_or_off_the_globe_is_refused_with_the_field_and_nothing_else_breaks() {
    let (_server, mut client) = route_guide(&[]).await;
    let north = at(900_000_001, 0);
    let east = at(0, -1_800_000_001);
    let status = client.get_feature(north).await.expect_err("refused");
    assert_refuses(&status, "latitude");
    assert!(
        status.message().contains("900000001"),
        "{}",
        status.message()
    );
    assert_refuses(
        &client.get_feature(east).await.expect_err("refused"),
        "longitude",
    );

    for (lo, hi, field) in [
        (None, None, "lo"),
        (Some(at(0, 0)), None, "hi"),
        (Some(north), Some(at(0, 0)), "lo.latitude"),
        (Some(at(0, 0)), Some(east), "hi.longitude"),
    ] {
        let status = client
            .list_features(Rectangle { lo, hi })
            .await
            .expect_err("refused");
        assert_refuses(&status, field);
    }

    let points = tokio_stream::iter([at(0, 0), north]);
    assert_refuses(
        &client.record_route(points).await.expect_err("refused"),
        "latitude",
    );

    let nowhere = RouteNote {
        location: None,
        message: "lost".into(),
    };
    assert_refuses(
        &chat(&mut client, vec![nowhere]).await.expect_err("refused"),
        "location",
    );
    let status = chat(&mut client, vec![note(east, "")])
        .await
        .expect_err("refused");
    assert_refuses(&status, "location.longitude");

    client.get_feature(at(0, 0)).await.expect("still serving");
}

#[tokio::test]
async fn a_note_over_the_limit_is_refused_and_those_before_it_stand() {
    let (_server, mut client) = route_guide(&["--note-bytes", "10"]).await;
    let here = at(5, 5);
    let sent = vec![note(here, "0123456789"), note(here, "0123456789x")];
    assert_refuses(
        &chat(&mut client, sent).await.expect_err("refused"),
        "message",
    );
    let received = chat(&mut client, vec![note(here, "")])
        .await
        .expect("a chat");
    assert_eq!(received, [note(here, "0123456789")]);
}

#[tokio::test]
async fn the_history_at_a_point_is_bounded_and_drops_the_oldest() {
    let (_server, mut client) = route_guide(&["--notes-per-point", "2"]).await;
    let here = at(5, 5);
    let sent = ["a", "b", "c"].map(|message| note(here, message)).into();
    chat(&mut client, sent).await.expect("a chat");
    let received = chat(&mut client, vec![note(here, "d")])
        .await
        .expect("a chat");
    assert_eq!(received, [note(here, "b"), note(here, "c")]);
}

#[tokio::test]
async fn a_features_file_replaces_the_built_in_places() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let entry = r#"{"location":{"latitude":1,"longitude":2},"name":"Here"}"#;
    std::fs::write(&file, format!("[{entry}]")).expect("written");
    let (_server, mut client) =
        route_guide(&["--features-file", file.path().to_str().expect("a path")]).await;
    let here = Feature {
        name: "Here".into(),
        location: Some(at(1, 2)),
    };
    let (lo, hi) = (
        at(-900_000_000, -1_800_000_000),
        at(900_000_000, 1_800_000_000),
    );
    assert_eq!(list(&mut client, lo, hi).await, [here]);
}

#[tokio::test]
async fn a_bad_features_file_stops_the_start_with_one_line_and_code_1() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let path = file.path().to_str().expect("a path");
    let place = r#"{"location":{"latitude":1,"longitude":2},"name":""}"#;
    for (content, problem) in [
        (
            "".to_owned(),
            "EOF while parsing a value at line 1 column 0",
        ),
        ("{}".to_owned(), "entry 1: missing field `location`"),
        ("7".to_owned(), "expected an array of features"),
        (
            "{\u{0}\"\u{0}".to_owned(),
            "this is UTF-16; save it as UTF-8",
        ),
        (
            format!("{{\"feature\":[{place}],\"more\":0}}"),
            "unknown field `more`, expected `feature`",
        ),
        (
            format!("[{place},{place}]"),
            "entry 2: the same location as entry 1",
        ),
        (
            format!("[{}]", place.replace('1', "900000001")),
            "entry 1: latitude: 900000001 is outside",
        ),
        (
            format!("[{}]", place.replace('1', "1e10")),
            "entry 1: invalid type: floating point",
        ),
        (
            format!("[{}]", place.replace("name", "nmae")),
            "entry 1: unknown field `nmae`",
        ),
    ] {
        std::fs::write(&file, content).expect("written");
        assert_start_fails(
            path,
            &format!("route-guide: FEATURES_FILE={path}: "),
            problem,
        )
        .await;
    }
    assert_start_fails(
        "/no/such/file",
        "route-guide: FEATURES_FILE=/no/such/file: ",
        "No such file",
    )
    .await;
}

async fn assert_start_fails(path: &str, beginning: &str, problem: &str) {
    let outcome = output(&mut command("route-guide", &["--features-file", path])).await;
    assert_eq!(outcome.status.code(), Some(1));
    let said = String::from_utf8(outcome.stderr).expect("text");
    assert!(said.starts_with(beginning), "{said}");
    assert!(said.contains(problem), "{said} should say {problem:?}");
    assert_eq!(said.lines().count(), 1, "{said}");
}
