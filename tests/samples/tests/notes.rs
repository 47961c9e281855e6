//! The notes of RouteChat, in memory and on Redis, and whatever may befall Redis.
//!
//! Where there is no `redis-server`, most of these say that they are skipped.

use std::{fs, net::SocketAddr, time::Duration};

use chassis::health::v1::{HealthListRequest, health_client::HealthClient};
use harness::{
    FaultProxy, PATIENCE, Process, Running, command, get,
    health::{NOT_SERVING, SERVING, check, code_for, next, watch},
    log::Log,
    output,
    pki::Pki,
    start_in, within,
};
use proto::routeguide::{Point, Rectangle, RouteNote, route_guide_client::RouteGuideClient};
use rustix::process::Signal;
use samples::redis::{self, Cluster, Redis};
use serde_json::Value;
use tempfile::NamedTempFile;
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, transport::Channel};
use tracing::Level;

type Client = RouteGuideClient<Channel>;
type Environment<'a> = &'a [(&'a str, &'a str)];

const HERE: Point = at(7);
const GUIDE: &str = "routeguide.RouteGuide";

/// How often to ask for what nobody tells.
const POLL: Duration = Duration::from_millis(5);

const fn at(latitude: i32) -> Point {
    Point {
        latitude,
        longitude: 0,
    }
}

fn key(point: Point) -> String {
    format!("notes:{},{}", point.latitude, point.longitude)
}

/// A server whose notes are there, and a client of it. No note has to wait long, except where the store
/// never answers; but this machine may be busy.
async fn guide(url: &str, environment: Environment<'_>) -> (Running, Client) {
    let known = [("NOTES_URL", url), ("NOTES_TIMEOUT", "2s")];
    let environment = [environment, &known].concat();
    let server = start_in(route_guide::APP, &[], &environment).await;
    let client = RouteGuideClient::new(server.channel());
    (server, client)
}

/// Leaves a note; returns those that were there.
async fn leave(client: &Client, point: Point, message: &str) -> Result<Vec<String>, Status> {
    leave_all(client, &[(point, message)]).await
}

/// Leaves a note as soon as one is taken.
async fn leave_at_last(client: &Client, point: Point, message: &str) -> Vec<String> {
    within(async {
        loop {
            if let Ok(earlier) = leave(client, point, message).await {
                return earlier;
            }
            sleep(POLL).await;
        }
    })
    .await
}

/// Leaves some notes in one chat.
async fn leave_all(client: &Client, notes: &[(Point, &str)]) -> Result<Vec<String>, Status> {
    let notes: Vec<_> = notes
        .iter()
        .map(|(point, message)| RouteNote {
            location: Some(*point),
            message: (*message).to_owned(),
        })
        .collect();
    within(async {
        let chat = client.clone().route_chat(tokio_stream::iter(notes)).await?;
        let (mut chat, mut earlier) = (chat.into_inner(), Vec::new());
        while let Some(note) = chat.message().await? {
            earlier.push(note.message);
        }
        Ok(earlier)
    })
    .await
}

/// Leaves notes at another point until one is refused; returns how.
async fn refused(client: &Client) -> Status {
    within(async {
        loop {
            if let Err(status) = leave(client, at(8), "again").await {
                return status;
            }
        }
    })
    .await
}

/// Waits until `/readyz` says this of the store, and returns its status.
async fn says(admin: SocketAddr, state: &str) -> u16 {
    let mut heard = String::new();
    let found = timeout(PATIENCE, async {
        loop {
            let (status, text) = get(admin, "/readyz").await;
            let store = text.strip_prefix("serving\nnotes: ");
            if store.is_some_and(|store| store.contains(state)) {
                return status;
            }
            heard = text;
            sleep(POLL).await;
        }
    });
    let found = found.await;
    found.unwrap_or_else(|_| panic!("not {state:?}, but {heard:?}"))
}

/// Asserts that RouteChat says that the store is away, and why, and that all else works.
async fn assert_away(server: &Running, client: &Client, reason: &str) {
    says(server.admin, reason).await;
    let status = leave(client, HERE, "lost").await.expect_err("no store");
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    // The reason may name addresses and users, which are nothing to a caller.
    assert_eq!(status.message(), "notes: the store is not available");
    let pushback = status.metadata().get("grpc-retry-pushback-ms");
    let pushback = pushback.expect("a pushback").to_str().expect("text");
    let pushback: u64 = pushback.parse().expect("a number");
    assert!((500..=1500).contains(&pushback), "{pushback}");

    let mut client = client.clone();
    client.get_feature(HERE).await.expect("a feature");
    let everywhere = Rectangle {
        lo: Some(at(-900_000_000)),
        hi: Some(at(900_000_000)),
    };
    let features = client.list_features(everywhere).await.expect("features");
    let end = within(features.into_inner().message()).await;
    end.expect("a list");
    let route = tokio_stream::iter([HERE]);
    client.record_route(route).await.expect("a summary");
}

/// What Redis has at a point.
async fn stored(redis: &Redis, point: Point) -> Vec<String> {
    let notes: Vec<String> = redis.ask(&["LRANGE", &key(point), "0", "-1"]).await;
    let text = |note: &String| note.get(16..).expect("16 digits and a text").to_owned();
    notes.iter().map(text).collect()
}

#[tokio::test]
async fn a_note_left_through_one_process_is_read_through_the_other() {
    let Some(redis) = Redis::start(&[]).await else {
        return;
    };
    let url = redis.url();
    let flags = ["--notes-url", &url, "--notes-timeout", "2s"];
    let one = Process::start("route-guide", &flags).await;
    let other = Process::start("route-guide", &flags).await;
    let mut clients = Vec::new();
    for server in [&one, &other] {
        says(server.admin, "up").await;
        clients.push(RouteGuideClient::new(server.channel()));
    }
    for (who, message, expected) in [
        (0, "a", [].as_slice()),
        (1, "b", &["a"]),
        (1, "c", &["a", "b"]),
        (0, "d", &["a", "b", "c"]),
    ] {
        let earlier = leave(&clients[who], HERE, message).await;
        assert_eq!(earlier.expect("a chat"), expected, "{message}");
    }
    assert_eq!(stored(&redis, HERE).await, ["a", "b", "c", "d"]);
}

#[tokio::test]
async fn both_stores_keep_the_same_notes_in_the_same_order() {
    let redis = Redis::start(&[]).await;
    let urls = redis.iter().map(Redis::url).chain([String::new()]);
    for url in urls {
        let bounds = [("NOTES_PER_POINT", "3"), ("NOTE_BYTES", "10")];
        let (server, client) = guide(&url, &bounds).await;
        if !url.is_empty() {
            says(server.admin, "up").await;
        }
        let one_chat = [
            (HERE, "a"),
            (at(1), "b"),
            (HERE, ""),
            (HERE, "\0é\n"),
            (at(1), "c"),
        ];
        let earlier = leave_all(&client, &one_chat).await.expect("a chat");
        assert_eq!(earlier, ["a", "a", "", "b"]);
        // The oldest makes room for a fourth.
        let earlier = leave(&client, HERE, "0123456789").await.expect("a chat");
        assert_eq!(earlier, ["a", "", "\0é\n"]);
        let earlier = leave(&client, HERE, "d").await.expect("a chat");
        assert_eq!(earlier, ["", "\0é\n", "0123456789"]);
        // What is too long is not remembered, and what came before it is.
        let too_long = [(HERE, "e"), (HERE, "0123456789x")];
        let status = leave_all(&client, &too_long).await.expect_err("refused");
        assert_eq!(status.code(), Code::InvalidArgument);
        let earlier = leave(&client, HERE, "f").await.expect("a chat");
        assert_eq!(earlier, ["0123456789", "d", "e"]);
        let places = [
            Point {
                latitude: -1,
                longitude: -2,
            },
            Point {
                latitude: -1,
                longitude: 2,
            },
        ];
        for place in places {
            assert_eq!(leave(&client, place, "g").await.expect("a chat"), [""; 0]);
        }
    }
}

#[tokio::test]
async fn both_stores_answer_many_notes_alike() {
    let Some(redis) = Redis::start(&[]).await else {
        return;
    };
    let mut answers = Vec::new();
    for url in [redis.url(), String::new()] {
        let (server, client) = guide(&url, &[("NOTES_PER_POINT", "7")]).await;
        if !url.is_empty() {
            says(server.admin, "up").await;
        }
        let notes: Vec<_> = (0..300)
            .map(|nth| (at(nth * nth % 11), nth.to_string()))
            .collect();
        let mut said = Vec::new();
        for chat in notes.chunks(50) {
            let chat: Vec<_> = chat
                .iter()
                .map(|(point, note)| (*point, note.as_str()))
                .collect();
            said.push(leave_all(&client, &chat).await.expect("a chat"));
        }
        answers.push(said);
    }
    assert_eq!(answers[0], answers[1]);
}

#[tokio::test]
async fn notes_that_nobody_adds_to_are_forgotten_in_both_stores() {
    let redis = Redis::start(&[]).await;
    let urls = redis.iter().map(Redis::url).chain([String::new()]);
    for url in urls {
        let (server, client) = guide(&url, &[("NOTES_EXPIRE", "100ms")]).await;
        if !url.is_empty() {
            says(server.admin, "up").await;
        }
        leave(&client, HERE, "a").await.expect("a chat");
        // To look is to leave a note, so each look waits for longer than the one before.
        let mut pause = Duration::from_millis(100);
        within(async {
            while leave(&client, HERE, "b").await.expect("a chat") != [""; 0] {
                sleep(pause).await;
                pause *= 2;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn each_note_puts_off_the_end_of_all_at_its_point() {
    let Some(redis) = Redis::start(&[]).await else {
        return;
    };
    let (server, client) = guide(&redis.url(), &[("NOTES_EXPIRE", "2h")]).await;
    says(server.admin, "up").await;
    let key = key(HERE);
    for message in ["a", "b"] {
        leave(&client, HERE, message).await.expect("a chat");
        let left: u64 = redis.ask(&["PTTL", &key]).await;
        assert!((3_600_000..=7_200_000).contains(&left), "{left} ms");
        let () = redis.ask(&["PEXPIRE", &key, "1000000"]).await;
    }
}

#[tokio::test]
async fn a_lower_limit_holds_for_what_is_there_already() {
    let Some(redis) = Redis::start(&[]).await else {
        return;
    };
    let (_before, client) = guide(&redis.url(), &[]).await;
    let notes = ["a", "b", "c"].map(|message| (HERE, message));
    leave_all(&client, &notes).await.expect("a chat");
    let (_after, client) = guide(&redis.url(), &[("NOTES_PER_POINT", "2")]).await;
    let earlier = leave(&client, HERE, "d").await;
    assert_eq!(earlier.expect("a chat"), ["b", "c"]);
    assert_eq!(stored(&redis, HERE).await, ["c", "d"]);
}

#[tokio::test]
async fn a_server_starts_without_its_store_and_finds_it_when_it_comes() {
    let Some(mut redis) = Redis::start(&[]).await else {
        return;
    };
    redis.kill().await;
    let (server, client) = guide(&redis.url(), &[]).await;
    assert_away(&server, &client, "refused").await;
    redis.restart().await;
    says(server.admin, "up").await;
    assert_eq!(leave(&client, HERE, "a").await.expect("a chat"), [""; 0]);
}

#[tokio::test]
async fn a_store_that_is_killed_comes_back_with_its_notes() {
    let Some(mut redis) = Redis::start(redis::DURABLE).await else {
        return;
    };
    let (server, client) = guide(&redis.url(), &[]).await;
    says(server.admin, "up").await;
    for (message, expected) in [("a", [].as_slice()), ("b", &["a"]), ("c", &["a", "b"])] {
        assert_eq!(
            leave(&client, HERE, message).await.expect("a chat"),
            expected
        );
        redis.kill().await;
        assert_eq!(refused(&client).await.code(), Code::Unavailable);
        assert_away(&server, &client, "refused").await;
        redis.restart().await;
        says(server.admin, "up").await;
    }
}

#[tokio::test]
async fn a_store_that_comes_back_empty_is_written_to_again() {
    let Some(mut redis) = Redis::start(&[]).await else {
        return;
    };
    let (server, client) = guide(&redis.url(), &[]).await;
    says(server.admin, "up").await;
    leave(&client, HERE, "a").await.expect("a chat");
    // It has forgotten the script as well.
    let () = redis.ask(&["SCRIPT", "FLUSH"]).await;
    assert_eq!(leave(&client, HERE, "b").await.expect("a chat"), ["a"]);

    redis.kill().await;
    refused(&client).await;
    assert_away(&server, &client, "refused").await;
    redis.restart_empty().await;
    says(server.admin, "up").await;
    assert_eq!(leave(&client, HERE, "c").await.expect("a chat"), [""; 0]);
    assert_eq!(leave(&client, HERE, "d").await.expect("a chat"), ["c"]);
}

#[tokio::test]
async fn a_store_that_hangs_is_away_until_it_goes_on() {
    let Some(redis) = Redis::start(&[]).await else {
        return;
    };
    let (server, client) = guide(&redis.url(), &[("NOTES_TIMEOUT", "500ms")]).await;
    says(server.admin, "up").await;
    leave(&client, HERE, "a").await.expect("a chat");
    redis.signal(Signal::STOP);
    let status = refused(&client).await;
    assert_eq!(status.message(), "notes: the store is not available");
    assert_away(&server, &client, "no answer within 500ms").await;
    redis.signal(Signal::CONT);
    says(server.admin, "up").await;
    assert_eq!(leave(&client, HERE, "b").await.expect("a chat"), ["a"]);
}

#[tokio::test]
async fn a_connection_on_which_nothing_comes_through_is_replaced() {
    let Some(redis) = Redis::start(&[]).await else {
        return;
    };
    let proxy = FaultProxy::start(redis.addr).await;
    let url = format!("redis://{}", proxy.addr);
    let (server, client) = guide(&url, &[("NOTES_TIMEOUT", "500ms")]).await;
    says(server.admin, "up").await;
    leave(&client, HERE, "a").await.expect("a chat");
    let before = proxy.connections();
    proxy.wedge();
    // What has not come through is not there.
    assert_eq!(leave_at_last(&client, HERE, "b").await, ["a"]);
    assert!(proxy.connections() > before);
    says(server.admin, "up").await;
}

#[tokio::test]
async fn a_slow_store_is_as_good_as_none() {
    let Some(redis) = Redis::start(&[]).await else {
        return;
    };
    let proxy = FaultProxy::start(redis.addr).await;
    let url = format!("redis://{}", proxy.addr);
    let (server, client) = guide(&url, &[("NOTES_TIMEOUT", "500ms")]).await;
    says(server.admin, "up").await;
    proxy.delay(Duration::from_secs(2));
    assert_eq!(refused(&client).await.code(), Code::Unavailable);
    assert_away(&server, &client, "no answer within 500ms").await;
    proxy.delay(Duration::ZERO);
    says(server.admin, "up").await;
    assert_eq!(leave(&client, HERE, "a").await.expect("a chat"), [""; 0]);
}

#[tokio::test]
async fn a_note_whose_reply_is_lost_is_left_once() {
    let Some(redis) = Redis::start(&[]).await else {
        return;
    };
    let proxy = FaultProxy::start(redis.addr).await;
    let url = format!("redis://{}", proxy.addr);
    let (server, client) = guide(&url, &[("NOTES_TIMEOUT", "10s")]).await;
    says(server.admin, "up").await;
    leave(&client, HERE, "a").await.expect("a chat");
    proxy.mute();
    let left = {
        let client = client.clone();
        tokio::spawn(async move { leave(&client, HERE, "b").await })
    };
    within(async {
        while stored(&redis, HERE).await.len() < 2 {
            sleep(POLL).await;
        }
    })
    .await;
    proxy.cut();
    // It is asked again, and told the same.
    let earlier = within(left).await.expect("no panic").expect("a chat");
    assert_eq!(earlier, ["a"]);
    assert_eq!(stored(&redis, HERE).await, ["a", "b"]);
}

#[tokio::test]
async fn a_full_store_is_away_until_there_is_room() {
    let Some(redis) = Redis::start(&[]).await else {
        return;
    };
    let (server, client) = guide(&redis.url(), &[]).await;
    says(server.admin, "up").await;
    leave(&client, HERE, "a").await.expect("a chat");
    let () = redis.ask(&["CONFIG", "SET", "maxmemory", "1"]).await;
    assert_eq!(refused(&client).await.code(), Code::Unavailable);
    assert_away(&server, &client, "OOM").await;
    let () = redis.ask(&["CONFIG", "SET", "maxmemory", "0"]).await;
    says(server.admin, "up").await;
    assert_eq!(leave(&client, HERE, "b").await.expect("a chat"), ["a"]);
}

#[tokio::test]
async fn a_replica_is_no_store_until_it_is_the_primary() {
    let Some(primary) = Redis::start(&[]).await else {
        return;
    };
    let (ip, port) = (
        primary.addr.ip().to_string(),
        primary.addr.port().to_string(),
    );
    let replica = Redis::start(&["--replicaof", &format!("{ip} {port}")]).await;
    let replica = replica.expect("installed");
    let (server, client) = guide(&replica.url(), &[]).await;
    assert_away(&server, &client, "READONLY").await;
    let () = replica.ask(&["REPLICAOF", "NO", "ONE"]).await;
    says(server.admin, "up").await;
    assert_eq!(leave(&client, HERE, "a").await.expect("a chat"), [""; 0]);

    // As in a failover, under a connection that stays open.
    let () = replica.ask(&["REPLICAOF", &ip, &port]).await;
    assert_eq!(refused(&client).await.code(), Code::Unavailable);
    assert_away(&server, &client, "READONLY").await;
}

#[tokio::test]
async fn a_password_comes_from_a_variable_or_a_file_and_may_change_there() {
    let Some(redis) = Redis::start(&["--requirepass", "open sesame"]).await else {
        return;
    };
    let url = redis.url();
    let (server, client) = guide(&url, &[]).await;
    assert_away(&server, &client, "NOAUTH").await;
    let (server, client) = guide(&url, &[("NOTES_PASSWORD", "wrong")]).await;
    assert_away(&server, &client, "WRONGPASS").await;
    let (server, client) = guide(&url, &[("NOTES_PASSWORD", "open sesame")]).await;
    says(server.admin, "up").await;
    assert_eq!(leave(&client, HERE, "a").await.expect("a chat"), [""; 0]);

    let file = NamedTempFile::new().expect("a file");
    fs::write(&file, "old\n").expect("written");
    let path = file.path().to_str().expect("a path");
    let (server, client) = guide(&url, &[("NOTES_PASSWORD_FILE", path)]).await;
    assert_away(&server, &client, "WRONGPASS").await;
    fs::write(&file, "open sesame\n").expect("written");
    says(server.admin, "up").await;
    assert_eq!(leave(&client, HERE, "b").await.expect("a chat"), ["a"]);
}

#[tokio::test]
async fn a_user_of_the_url_has_a_password_of_its_own() {
    let Some(redis) =
        Redis::start(&["--user", "guide", "on", ">secret", "~notes:*", "+@all"]).await
    else {
        return;
    };
    let url = format!("redis://guide@{}", redis.addr);
    let (server, client) = guide(&url, &[("NOTES_PASSWORD", "wrong")]).await;
    assert_away(&server, &client, "WRONGPASS").await;
    let (server, client) = guide(&url, &[("NOTES_PASSWORD", "secret")]).await;
    says(server.admin, "up").await;
    assert_eq!(leave(&client, HERE, "a").await.expect("a chat"), [""; 0]);
}

#[tokio::test]
async fn a_store_with_tls_is_trusted_if_the_authority_is() {
    let pki = Pki::new();
    let address = redis::own_address();
    pki.issue_at("redis", address);
    let [cert, key, ca] = ["redis.pem", "redis.key", "ca.pem"].map(|file| pki.path(file));
    let Some(redis) = Redis::start_at(address, &redis::tls(&cert, &key, &ca)).await else {
        return;
    };
    let url = redis.tls_url();
    let (server, client) = guide(&url, &[("NOTES_CA", &ca)]).await;
    says(server.admin, "up").await;
    assert_eq!(leave(&client, HERE, "a").await.expect("a chat"), [""; 0]);

    let stranger = Pki::new();
    let (server, client) = guide(&url, &[("NOTES_CA", &stranger.path("ca.pem"))]).await;
    assert_away(&server, &client, "certificate").await;
    // Nor does the system know this authority.
    let (server, client) = guide(&url, &[]).await;
    assert_away(&server, &client, "certificate").await;
}

#[tokio::test]
async fn the_notes_of_a_cluster_are_on_all_its_nodes() {
    let Some(cluster) = Cluster::start(&[]).await else {
        return;
    };
    let environment = [("NOTES_CLUSTER", "true")];
    let (server, client) = guide(&cluster.nodes[0].url(), &environment).await;
    says(server.admin, "up").await;
    let mut points = [0; 3];
    for latitude in 0..30 {
        let point = at(latitude);
        for (message, expected) in [("a", [].as_slice()), ("b", &["a"])] {
            let earlier = leave(&client, point, message).await;
            assert_eq!(earlier.expect("a chat"), expected);
        }
        let owner = cluster.owner(&key(point)).await;
        assert_eq!(stored(&cluster.nodes[owner], point).await, ["a", "b"]);
        points[owner] += 1;
    }
    assert!(points.iter().all(|points| *points > 0), "{points:?}");

    // One that is not told of the cluster is sent to another node.
    let probed = cluster.owner("notes:probe").await;
    let other = &cluster.nodes[(probed + 1) % 3];
    let (server, client) = guide(&other.url(), &[]).await;
    assert_away(&server, &client, "MOVED").await;
}

#[tokio::test]
async fn what_redis_says_is_in_the_log_and_not_in_a_status() {
    let Some(cluster) = Cluster::start(&[]).await else {
        return;
    };
    let (log, _logging) = Log::keep(Level::INFO);
    let probed = cluster.owner("notes:probe").await;
    let other = &cluster.nodes[(probed + 1) % 3];
    let owner = cluster.nodes[probed].addr.to_string();
    let (server, client) = guide(&other.url(), &[]).await;
    says(server.admin, "MOVED").await;
    let status = leave(&client, HERE, "lost").await.expect_err("no store");
    assert_eq!(status.code(), Code::Unavailable);
    assert!(!status.message().contains("MOVED"), "{status}");
    assert!(!status.message().contains(&owner), "{status}");
    assert!(log.text().contains(&owner), "{}", log.text());
}

#[tokio::test]
async fn notes_move_from_node_to_node_in_their_order() {
    let Some(cluster) = Cluster::start(&[]).await else {
        return;
    };
    let environment = [("NOTES_CLUSTER", "true")];
    let (server, client) = guide(&cluster.nodes[0].url(), &environment).await;
    says(server.admin, "up").await;
    let key = key(HERE);
    let from = cluster.owner(&key).await;
    let to = (from + 1) % 3;
    leave_all(&client, &[(HERE, "a"), (HERE, "b")])
        .await
        .expect("a chat");
    cluster.begin_move(&key, from, to).await;
    let earlier = leave(&client, HERE, "c").await.expect("a chat");
    assert_eq!(earlier, ["a", "b"]);
    cluster.end_move(&key, to).await;
    let earlier = leave_all(&client, &[(HERE, "d"), (HERE, "e")]).await;
    assert_eq!(
        earlier.expect("a chat"),
        ["a", "b", "c", "a", "b", "c", "d"]
    );
    let expected = ["a", "b", "c", "d", "e"];
    assert_eq!(stored(&cluster.nodes[to], HERE).await, expected);
}

#[tokio::test]
async fn a_connection_to_one_node_on_which_nothing_comes_through_is_replaced() {
    let Some(cluster) = Cluster::start(&[]).await else {
        return;
    };
    let probed = cluster.owner("notes:probe").await;
    let owner = cluster.owner(&key(HERE)).await;
    assert_ne!(owner, probed, "else this is like a single server");
    let proxy = FaultProxy::start(cluster.nodes[owner].addr).await;
    cluster.announce(owner, proxy.addr.port()).await;
    let environment = [("NOTES_CLUSTER", "true"), ("NOTES_TIMEOUT", "500ms")];
    let (server, client) = guide(&cluster.nodes[probed].url(), &environment).await;
    says(server.admin, "up").await;
    leave(&client, HERE, "a").await.expect("a chat");
    assert!(proxy.connections() > 0, "the node is reached through it");
    proxy.wedge();
    assert_eq!(leave_at_last(&client, HERE, "b").await, ["a"]);
}

#[tokio::test]
async fn a_node_that_is_killed_comes_back_to_its_cluster() {
    let Some(mut cluster) = Cluster::start(redis::DURABLE).await else {
        return;
    };
    let probed = cluster.owner("notes:probe").await;
    let environment = [("NOTES_CLUSTER", "true")];
    let url = cluster.nodes[(probed + 1) % 3].url();
    let (server, client) = guide(&url, &environment).await;
    says(server.admin, "up").await;
    let owner = cluster.owner(&key(HERE)).await;
    leave(&client, HERE, "a").await.expect("a chat");
    cluster.nodes[owner].kill().await;
    let status = leave(&client, HERE, "lost").await.expect_err("no node");
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    cluster.nodes[owner].restart().await;
    assert_eq!(leave_at_last(&client, HERE, "b").await, ["a"]);
}

#[tokio::test]
async fn health_depends_on_a_store_that_is_required() {
    let Some(mut redis) = Redis::start(&[]).await else {
        return;
    };
    let (server, client) = guide(&redis.url(), &[("NOTES_REQUIRED", "true")]).await;
    assert_eq!(says(server.admin, "up").await, 200);
    let mut guide = watch(&server, GUIDE).await;
    let mut all = watch(&server, "").await;
    for watched in [&mut guide, &mut all] {
        assert_eq!(next(watched).await.expect("a status"), SERVING);
    }

    redis.kill().await;
    assert_eq!(next(&mut guide).await.expect("a status"), NOT_SERVING);
    assert_away(&server, &client, "refused").await;
    assert_eq!(get(server.admin, "/readyz").await.0, 503);
    assert_health(&server, [SERVING, NOT_SERVING], "14", 0).await;

    redis.restart().await;
    assert_eq!(next(&mut guide).await.expect("a status"), SERVING);
    assert_eq!(says(server.admin, "up").await, 200);
    assert_health(&server, [SERVING, SERVING], "0", 1).await;
    // The whole server has been serving all the time.
    let said = timeout(POLL, next(&mut all)).await;
    said.expect_err("no change");
}

#[tokio::test]
async fn health_does_not_depend_on_a_store_that_is_not_required() {
    let Some(mut redis) = Redis::start(&[]).await else {
        return;
    };
    let (server, client) = guide(&redis.url(), &[]).await;
    assert_eq!(says(server.admin, "up").await, 200);
    assert_health(&server, [SERVING, SERVING], "0", 1).await;
    redis.kill().await;
    assert_away(&server, &client, "refused").await;
    assert_eq!(get(server.admin, "/readyz").await.0, 200);
    assert_health(&server, [SERVING, SERVING], "0", 0).await;
}

/// Asserts what health says of the server and of RouteGuide, what a load balancer hears, and what the
/// gauge shows.
async fn assert_health(server: &Running, [all, guide]: [i32; 2], code: &str, gauge: u8) {
    assert_eq!(check(server, "").await.expect("a status"), all);
    assert_eq!(check(server, GUIDE).await.expect("a status"), guide);
    let mut health = HealthClient::new(server.channel());
    let list = health.list(HealthListRequest {}).await.expect("a list");
    let list = list.into_inner().statuses;
    assert_eq!((list[""].status, list[GUIDE].status), (all, guide));
    for addr in [server.addr, server.admin] {
        let path = "/AWS.ALB/healthcheck";
        assert_eq!(code_for(addr, path, "ELB-HealthChecker/2.0").await, code);
    }
    assert_eq!(get(server.admin, "/healthz").await, (200, "ok".to_owned()));
    let (_, metrics) = get(server.admin, "/metrics").await;
    let line = format!("dependency_up{{dependency=\"notes\"}} {gauge}\n");
    assert!(metrics.contains(&line), "{metrics}");
}

#[tokio::test]
async fn a_chat_that_is_open_when_its_store_goes_is_told_at_its_next_note() {
    let Some(mut redis) = Redis::start(&[]).await else {
        return;
    };
    let (server, client) = guide(&redis.url(), &[]).await;
    says(server.admin, "up").await;
    let (notes, sent) = mpsc::channel(1);
    let chat = client.clone().route_chat(ReceiverStream::new(sent)).await;
    let mut chat = chat.expect("a chat").into_inner();
    let note = RouteNote {
        location: Some(HERE),
        message: "a".into(),
    };
    for _ in 0..2 {
        notes.send(note.clone()).await.expect("an open chat");
    }
    let earlier = within(chat.message()).await.expect("a note");
    assert_eq!(earlier, Some(note.clone()));
    redis.kill().await;
    says(server.admin, "refused").await;
    notes.send(note).await.expect("an open chat");
    let status = within(chat.message()).await.expect_err("told");
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert!(status.message().starts_with("notes: "), "{status:?}");
    assert!(status.metadata().contains_key("grpc-retry-pushback-ms"));
}

#[tokio::test]
async fn each_change_is_logged_once_however_many_calls_fail() {
    let (log, _logging) = Log::keep(Level::INFO);
    let Some(mut redis) = Redis::start(&[]).await else {
        return;
    };
    let (server, client) = guide(&redis.url(), &[]).await;
    says(server.admin, "up").await;
    redis.kill().await;
    says(server.admin, "refused").await;
    for _ in 0..300 {
        leave(&client, HERE, "lost").await.expect_err("no store");
    }
    redis.restart().await;
    says(server.admin, "up").await;
    leave(&client, HERE, "a").await.expect("a chat");

    let lines = log.lines();
    let lines = lines.iter().filter(|line| line["dependency"] == "notes");
    let field = |line: &Value, name| line[name].as_str().unwrap_or_default().to_owned();
    let said: Vec<_> = lines
        .map(|line| ["level", "message", "reason"].map(|name| field(line, name)))
        .collect();
    let up = ["INFO", "up", ""].map(str::to_owned);
    let [first, away @ .., last] = &said[..] else {
        panic!("{said:?}")
    };
    assert_eq!((first, last), (&up, &up), "{said:?}");
    // One as the connection breaks, perhaps, and one as the next is refused: no reason twice.
    assert!((1..=2).contains(&away.len()), "{said:?}");
    assert!(
        away.iter().all(|line| line[..2] == ["WARN", "unavailable"]),
        "{said:?}"
    );
    assert!(away.windows(2).all(|pair| pair[0] != pair[1]), "{said:?}");
}

#[tokio::test]
async fn a_password_is_in_no_log_and_in_no_message() {
    const SECRET: &str = "xyzzy";
    let (log, _logging) = Log::keep(Level::TRACE);
    let Some(redis) = Redis::start(&["--requirepass", "another"]).await else {
        return;
    };
    let url = redis.url();
    let (server, client) = guide(&url, &[("NOTES_PASSWORD", SECRET)]).await;
    assert_away(&server, &client, "WRONGPASS").await;
    let file = NamedTempFile::new().expect("a file");
    fs::write(&file, SECRET).expect("written");
    let path = file.path().to_str().expect("a path");
    let (server, client) = guide(&url, &[("NOTES_PASSWORD_FILE", path)]).await;
    assert_away(&server, &client, "WRONGPASS").await;
    let () = redis.ask(&["CONFIG", "SET", "requirepass", SECRET]).await;
    says(server.admin, "up").await;
    leave(&client, HERE, "a").await.expect("a chat");
    let (_, page) = get(server.admin, "/readyz").await;
    assert!(!page.contains(SECRET), "{page}");
    assert!(log.text().contains("WRONGPASS"), "{}", log.text());
    assert!(!log.text().contains(SECRET), "{}", log.text());
}

#[tokio::test]
async fn settings_are_shown_without_the_password() {
    let flags = ["--notes-url", "redis://127.0.0.1", "--print-config"];
    let mut print = command("route-guide", &flags);
    let printed = output(print.env("NOTES_PASSWORD", "xyzzy")).await;
    assert_eq!(printed.status.code(), Some(0));
    let printed = String::from_utf8(printed.stdout).expect("text");
    assert!(
        printed.contains("\nNOTES_PASSWORD=… # environment\n"),
        "{printed}"
    );
    assert!(!printed.contains("xyzzy"), "{printed}");
}

#[tokio::test]
async fn a_url_with_a_password_is_refused_without_showing_it() {
    for url in [
        "redis://:xyzzy@127.0.0.1",
        "redis://guide:xyzzy@127.0.0.1:6379/0",
        "rediss://guide:xyzzy@redis.internal",
    ] {
        let mut by_variable = command("route-guide", &[]);
        by_variable.env("NOTES_URL", url);
        for command in [
            &mut by_variable,
            &mut command("route-guide", &["--notes-url", url]),
        ] {
            let outcome = output(command).await;
            assert_eq!(outcome.status.code(), Some(2), "{url}");
            let said = String::from_utf8(outcome.stderr).expect("text");
            assert!(said.contains("NOTES_URL"), "{said}");
            assert!(!said.contains("xyzzy"), "{said}");
            assert_eq!(outcome.stdout, b"");
        }
    }
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused_in_one_line() {
    const TLS: &str = "--notes-url=rediss://redis.internal";
    let not_pem = NamedTempFile::new().expect("a file");
    let not_pem = format!("--notes-ca={}", not_pem.path().display());
    for (flags, code, reason) in [
        ([TLS, &not_pem], 1, "no certificate in this file"),
        ([TLS, "--notes-ca=/no/file"], 1, "NOTES_CA=/no/file: "),
        (
            [TLS, "--notes-password-file=/no/file"],
            1,
            "NOTES_PASSWORD_FILE=/no/file: ",
        ),
        (
            [
                "--notes-url=redis://redis.internal",
                "--notes-ca=/etc/passwd",
            ],
            1,
            "NOTES_CA",
        ),
        (
            ["--notes-url=redis://guide@redis.internal", "--log=info"],
            1,
            "NOTES_PASSWORD_FILE or NOTES_PASSWORD",
        ),
        (
            ["--notes-required=true", "--log=info"],
            1,
            "NOTES_REQUIRED=true needs NOTES_URL",
        ),
        (
            ["--notes-cluster=true", "--log=info"],
            1,
            "NOTES_CLUSTER=true needs NOTES_URL",
        ),
        (
            [
                "--notes-url=rediss://redis.internal/#insecure",
                "--log=info",
            ],
            2,
            "NOTES_URL",
        ),
        (
            ["--notes-url=http://redis.internal", "--log=info"],
            2,
            "NOTES_URL",
        ),
        (["--notes-password=a", "--log=info"], 2, "--notes-url"),
        ([TLS, "--notes-timeout=0s"], 2, "NOTES_TIMEOUT"),
        (["--notes-expire=0s", "--log=info"], 2, "NOTES_EXPIRE"),
    ] {
        let outcome = output(&mut command("route-guide", &flags)).await;
        let said = String::from_utf8(outcome.stderr).expect("text");
        assert_eq!(outcome.status.code(), Some(code), "{flags:?}: {said}");
        assert!(said.contains(reason), "{flags:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[tokio::test]
async fn two_passwords_are_one_too_many() {
    let flags = [
        "--notes-url=redis://redis.internal",
        "--notes-password=a",
        "--notes-password-file=b",
    ];
    let outcome = output(&mut command("route-guide", &flags)).await;
    assert_eq!(outcome.status.code(), Some(2));
    let said = String::from_utf8(outcome.stderr).expect("text");
    assert!(said.contains("cannot be used with"), "{said}");
}
