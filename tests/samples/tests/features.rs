//! Files of features, and answers that are larger than any window.

use std::{fs, time::Duration};

use harness::{Running, command, output, start, within};
use proto::routeguide::{
    Feature, Point, Rectangle, RouteNote, route_guide_client::RouteGuideClient,
};
use samples::features::{self, is_inside};
use serde_json::json;
use tempfile::NamedTempFile;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::{
    Code, Request, Status, Streaming,
    codec::CompressionEncoding,
    transport::{Channel, Endpoint},
};

/// A file that `make-features` writes, and what is in it.
async fn made(arguments: &[&str]) -> (NamedTempFile, Vec<Feature>) {
    let json = output(&mut command("make-features", arguments))
        .await
        .stdout;
    let features = match json.first() {
        Some(b'[') => features::read(json.as_slice()),
        _ => {
            let lines = String::from_utf8_lossy(&json).trim().replace('\n', ",");
            features::read(format!("[{lines}]").as_bytes())
        }
    };
    let file = NamedTempFile::new().expect("a file");
    fs::write(&file, json).expect("written");
    (file, features)
}

async fn serving(file: &NamedTempFile, flags: &[&str]) -> Running {
    let path = file.path().to_str().expect("a path");
    start(
        route_guide::APP,
        &[&["--features-file", path][..], flags].concat(),
    )
    .await
}

fn area(latitudes: (i32, i32), longitudes: (i32, i32)) -> Rectangle {
    let corner = |latitude, longitude| {
        Some(Point {
            latitude,
            longitude,
        })
    };
    Rectangle {
        lo: corner(latitudes.0, longitudes.0),
        hi: corner(latitudes.1, longitudes.1),
    }
}

fn everywhere() -> Rectangle {
    area((-900_000_000, 900_000_000), (-1_800_000_000, 1_800_000_000))
}

#[tokio::test]
async fn an_answer_is_what_a_scan_of_the_file_finds_in_its_order_whatever_its_size() {
    for arguments in [&["30000"][..], &["30000", "--clustered", "--array"]] {
        let (file, features) = made(arguments).await;
        assert_eq!(features.len(), 30_000);
        let server = serving(&file, &[]).await;
        let mut client = RouteGuideClient::new(server.channel());
        // From nothing over a handful to more than is ever listed beforehand, and all.
        for share in [1_000_000, 1000, 100, 10, 3, 2, 1] {
            let wide = |limit: i32| (-limit / share / 3, limit / share);
            let area = area(wide(900_000_000), wide(1_800_000_000));
            let listed = client.list_features(area).await.expect("features");
            let listed: Vec<_> = listed
                .into_inner()
                .map(|feature| feature.expect("a feature"))
                .collect()
                .await;
            let scanned = features.iter().filter(|feature| is_inside(feature, &area));
            assert!(
                listed.iter().eq(scanned),
                "{arguments:?}, a share of 1/{share}"
            );
        }
        let asked = features.last().cloned().expect("many");
        let place = asked.location.expect("a place");
        let found = client.get_feature(place).await.expect("a feature");
        assert_eq!(found.into_inner(), asked);
    }
}

/// A feature as grpcurl and buf print it: on several lines, and without what is 0 or empty.
fn printed(feature: &Feature) -> String {
    let place = feature.location.expect("a place");
    let degrees = [("latitude", place.latitude), ("longitude", place.longitude)];
    let degrees = degrees.into_iter().filter(|(_, degrees)| *degrees != 0);
    let place: serde_json::Map<_, _> = degrees
        .map(|(name, degrees)| (name.to_owned(), degrees.into()))
        .collect();
    let mut printed = json!({ "location": place });
    if !feature.name.is_empty() {
        printed["name"] = feature.name.as_str().into();
    }
    serde_json::to_string_pretty(&printed).expect("JSON")
}

#[tokio::test]
async fn a_file_is_read_in_every_form_that_people_have() {
    let mut features = features::all();
    features[0].location = Some(Point::default());
    features[1].name.clear();
    let printed: Vec<_> = features.iter().map(printed).collect();
    let wrapped = format!("{{\n\"feature\": [\n{}\n]\n}}\n", printed.join(",\n"));
    let file = NamedTempFile::new().expect("a file");
    for content in [
        printed.join("\n"),
        format!("[{}]", printed.join(",")),
        format!("\u{feff}{wrapped}"),
        wrapped,
    ] {
        fs::write(&file, content).expect("written");
        let server = serving(&file, &[]).await;
        let mut client = RouteGuideClient::new(server.channel());
        let listed = client.list_features(everywhere()).await.expect("features");
        let listed = listed.into_inner().map(|feature| feature.expect("one"));
        assert_eq!(listed.collect::<Vec<_>>().await, features);
    }
}

/// A list of 100 000 features that has begun, of which the client takes no more than fits into a window.
async fn begun(server: &Running, timeout: Option<&str>) -> Streaming<Feature> {
    let endpoint = Endpoint::from_shared(server.url()).expect("a URL");
    let small_window = endpoint.initial_stream_window_size(65_535).connect_lazy();
    let mut request = Request::new(everywhere());
    if let Some(timeout) = timeout {
        let timeout = timeout.parse().expect("a header");
        request.metadata_mut().insert("grpc-timeout", timeout);
    }
    let answer = RouteGuideClient::new(small_window)
        .list_features(request)
        .await;
    let mut features = answer.expect("features").into_inner();
    within(features.message()).await.expect("a feature");
    features
}

/// How many more features come, and what ends them.
async fn rest(mut features: Streaming<Feature>) -> (usize, Option<Status>) {
    within(async {
        for many in 0.. {
            match features.message().await {
                Ok(Some(_)) => {}
                Ok(None) => return (many, None),
                Err(status) => return (many, Some(status)),
            }
        }
        unreachable!("an endless list")
    })
    .await
}

#[tokio::test]
async fn a_deadline_ends_a_list_in_the_middle() {
    let (file, _) = made(&["100000"]).await;
    let server = serving(&file, &[]).await;
    let deadline = Instant::now() + Duration::from_millis(500);
    let features = begun(&server, Some("500m")).await;
    sleep_until(deadline).await;
    let (more, end) = rest(features).await;
    assert!(more < 99_999, "all came");
    assert_eq!(
        end.map(|status| status.code()),
        Some(Code::DeadlineExceeded)
    );
}

#[tokio::test]
async fn a_list_in_the_middle_is_told_when_the_drain_is_over() {
    let (file, _) = made(&["100000"]).await;
    let mut server = serving(&file, &["--drain-timeout", "4s"]).await;
    let features = begun(&server, None).await;
    // A chat has nothing in its way, so its end says when.
    let (_open, notes) = mpsc::channel::<RouteNote>(1);
    let mut witness = RouteGuideClient::new(server.channel());
    let chat = witness.route_chat(ReceiverStream::new(notes)).await;
    let mut chat = chat.expect("a chat").into_inner();
    server.stop();
    let end = within(chat.message()).await.expect_err("told");
    assert_eq!(end.code(), Code::Unavailable);
    let (more, end) = rest(features).await;
    assert!(more < 99_999, "all came");
    assert_eq!(end.map(|status| status.code()), Some(Code::Unavailable));
    server.stopped().await;
}

#[tokio::test]
async fn a_list_that_is_read_slowly_comes_whole() {
    let (file, all) = made(&["100000"]).await;
    let server = serving(&file, &[]).await;
    let (more, end) = rest(begun(&server, None).await).await;
    assert_eq!(
        (more + 1, end.map(|status| status.code())),
        (all.len(), None)
    );
}

#[tokio::test]
async fn a_list_is_packed_if_its_request_is() {
    let server = start(route_guide::APP, &[]).await;
    let client = RouteGuideClient::new(server.channel());
    let list = async |mut client: RouteGuideClient<Channel>| {
        let answer = client.list_features(everywhere()).await.expect("features");
        let encoding = answer.metadata().get("grpc-encoding").cloned();
        let features = answer
            .into_inner()
            .map(|feature| feature.expect("a feature"));
        (encoding, features.collect::<Vec<_>>().await)
    };
    let (encoding, plain) = list(client.clone()).await;
    assert_eq!((encoding, plain.len()), (None, 100));
    let packing = client
        .send_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Gzip);
    let (encoding, unpacked) = list(packing).await;
    assert_eq!(encoding.expect("packed"), "gzip");
    assert_eq!(unpacked, plain);
}
