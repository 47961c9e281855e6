//! What the double of a load balancer does to gRPC, each behaviour with real clients and targets.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, Instant},
};

use alb::{
    Alb, Algorithm, Certificate, GroupSettings, HealthCheck, Matcher, Rule, Settings, State,
};
use bytes::Bytes;
use echo::pb::{EchoRequest, echo_client::EchoClient};
use echo::{Ended, ended};
use futures_util::future::{join, join_all};
use h2::{Reason, RecvStream, server::SendResponse};
use harness::{
    Conversation, Ending, PREFACE, Process, Running, channel, command, framed,
    frames::{Peer, code, data, field, flag, headers, settings_ack},
    get,
    pki::Pki,
    raw, start, start_in, within,
};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use rustix::process::Signal;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::mpsc::{self, UnboundedSender},
    time::{interval, timeout},
};
use tokio_stream::StreamExt as _;
use tonic::{
    Code,
    transport::{Certificate as Authority, Channel, ClientTlsConfig, Endpoint},
};
use tonic_health::{
    ServingStatus,
    pb::{HealthCheckRequest, health_client::HealthClient},
    server::health_reporter,
};

const UNARY: &str = "/grpc.examples.echo.Echo/UnaryEcho";
const REPLIES: &str = "/grpc.examples.echo.Echo/ServerStreamingEcho";
const BOTH: &str = "/grpc.examples.echo.Echo/BidirectionalStreamingEcho";

/// The name of the group that most tests have.
const GROUP: &str = "group";

/// A group whose targets are checked often.
fn checked(matcher: &str) -> GroupSettings {
    GroupSettings {
        health: HealthCheck {
            matcher: matcher.parse().expect("codes"),
            interval: Duration::from_millis(20),
            healthy_threshold: 2,
            ..HealthCheck::default()
        },
        ..GroupSettings::default()
    }
}

/// A plaintext listener in front of one group.
fn in_front_of(group: GroupSettings) -> Settings {
    Settings {
        rules: vec!["*=group".parse().expect("a rule")],
        groups: BTreeMap::from([(GROUP.to_owned(), group)]),
        ..Settings::default()
    }
}

async fn balancer(settings: Settings) -> Alb {
    Alb::start(settings)
        .await
        .expect("settings without a mistake")
}

/// A load balancer with these targets, once they are healthy.
async fn balancing(settings: Settings, targets: &[SocketAddr]) -> Alb {
    let alb = balancer(settings).await;
    for target in targets {
        alb.register(GROUP, *target);
    }
    for target in targets {
        within(alb.reaches(GROUP, *target, State::Healthy)).await;
    }
    alb
}

/// Echo servers that say that they are 10.0.0.1, 10.0.0.2 and so on.
async fn servers_of(count: usize) -> Vec<Running> {
    let mut servers = Vec::new();
    for number in 1..=count {
        let flags = ["--pod-ip", &format!("10.0.0.{number}")];
        servers.push(start(echo::APP, &flags).await);
    }
    servers
}

fn addresses(servers: &[Running]) -> Vec<SocketAddr> {
    servers.iter().map(|server| server.addr).collect()
}

async fn call(client: &Conversation, name: &str) -> Ending {
    let mut call = client.call(UNARY, &[]).await;
    call.say_last(&echo::request(name));
    call.end().await
}

/// Makes so many calls, one after the other on one connection, and counts who answered.
async fn shares(alb: &Alb, calls: usize) -> BTreeMap<String, usize> {
    let client = Conversation::with(alb.addr).await;
    let mut shares = BTreeMap::new();
    for _ in 0..calls {
        let ending = call(&client, "who are you?").await;
        let who = ending.field("x-served-by").expect("a name");
        *shares.entry(who.to_owned()).or_default() += 1;
    }
    shares
}

/// A target that answers by hand.
async fn by_hand(
    answer: impl Fn(Request<RecvStream>, SendResponse<Bytes>) + Clone + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("a caller");
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.expect("HTTP/2");
                while let Some(Ok((request, respond))) = connection.accept().await {
                    answer(request, respond);
                }
            });
        }
    });
    addr
}

/// The head of an answer that says OK, with these headers.
fn ok(headers: HeaderMap) -> Response<()> {
    let mut head = Response::new(());
    *head.headers_mut() = headers;
    head.headers_mut()
        .insert("grpc-status", HeaderValue::from_static("0"));
    head
}

#[tokio::test]
async fn all_four_kinds_of_call_go_through_tls_on_both_sides() {
    let pki = Pki::new();
    let server = start_in(echo::APP, &[], &pki.tls()).await;
    let group = GroupSettings {
        tls: true,
        ..checked("0")
    };
    let alb = balancing(behind_tls(&pki, group), &[server.addr]).await;
    let mut client = EchoClient::new(secure(&pki, &alb));

    let response = within(client.unary_echo(echo::request("unary"))).await;
    assert_eq!(response.expect("a response").into_inner().message, "unary");
    let responses = within(client.server_streaming_echo(echo::request("repeat 50001 times"))).await;
    let responses = responses.expect("a stream").into_inner();
    let responses: Vec<_> = within(responses.collect()).await;
    let received = responses.iter().filter(|response| response.is_ok());
    assert_eq!(received.count(), 50_001);
    let requests = ["first", "second", "last"].map(echo::request);
    let response = within(client.client_streaming_echo(tokio_stream::iter(requests.clone()))).await;
    assert_eq!(response.expect("a response").into_inner().message, "last");
    let chat = client.bidirectional_streaming_echo(tokio_stream::iter(requests));
    let responses = within(chat).await.expect("a stream").into_inner();
    let responses: Vec<_> = within(responses.collect()).await;
    assert_eq!(responses.len(), 3, "{responses:?}");
}

fn behind_tls(pki: &Pki, group: GroupSettings) -> Settings {
    let [cert, key] = ["server.pem", "server.key"].map(|file| PathBuf::from(pki.path(file)));
    Settings {
        certificate: Some(Certificate { cert, key }),
        ..in_front_of(group)
    }
}

fn secure(pki: &Pki, alb: &Alb) -> Channel {
    let authority = Authority::from_pem(pki.pem("ca.pem"));
    let tls = ClientTlsConfig::new().ca_certificate(authority);
    let endpoint = Endpoint::from_shared(format!("https://{}", alb.addr)).expect("a URL");
    endpoint.tls_config(tls).expect("TLS").connect_lazy()
}

#[tokio::test]
async fn the_first_rule_that_matches_says_which_group() {
    let servers = servers_of(2).await;
    let rules = [
        "/grpc.examples.?cho.Echo/UnaryEcho=one",
        "/grpc*Echo/Server*=two",
    ];
    let alb = balancer(Settings {
        rules: rules.map(|rule| rule.parse().expect("a rule")).to_vec(),
        groups: ["one", "two"]
            .map(|name| (name.to_owned(), checked("0")))
            .into(),
        ..Settings::default()
    })
    .await;
    for (group, server) in ["one", "two"].into_iter().zip(&servers) {
        alb.register(group, server.addr);
        within(alb.reaches(group, server.addr, State::Healthy)).await;
    }
    let client = Conversation::with(alb.addr).await;
    for (path, http, who) in [
        (UNARY, 200, Some("10.0.0.1")),
        (REPLIES, 200, Some("10.0.0.2")),
        ("/grpc.examples.echo.Echo/sayHello", 404, None),
        ("/grpc.examples.echo.Echo/", 404, None),
    ] {
        let mut call = client.call(path, &[]).await;
        call.say_last(&echo::request("whoever"));
        let ending = call.end().await;
        assert_eq!(
            (ending.http, ending.field("x-served-by")),
            (http, who),
            "{path}"
        );
    }
}

#[tokio::test]
async fn what_cannot_be_meant_is_refused_with_its_reason() {
    for (rule, reason) in [
        ("/path", "not PATTERN=GROUP"),
        ("=group", "a pattern has 1 to 128 characters"),
        (
            &format!("{}=group", "x".repeat(129)),
            "a pattern has 1 to 128 characters",
        ),
    ] {
        assert_eq!(rule.parse::<Rule>().expect_err(rule), reason);
    }
    for (codes, reason) in [
        ("", r#""" is not a code from 0 to 99"#),
        ("0,100", r#""100" is not a code from 0 to 99"#),
        ("5-0", r#""5-0" ends before it begins"#),
    ] {
        assert_eq!(codes.parse::<Matcher>().expect_err(codes), reason);
    }
    let nowhere = Settings {
        rules: vec!["*=nobody".parse().expect("a rule")],
        ..Settings::default()
    };
    let error = Alb::start(nowhere).await.expect_err("no group").to_string();
    assert_eq!(error, "rule *=nobody: there is no such group");
    let no_file = Certificate {
        cert: "/no/such/file".into(),
        key: "/no/such/file".into(),
    };
    let without = Settings {
        certificate: Some(no_file),
        ..Settings::default()
    };
    let error = Alb::start(without).await.expect_err("no file").to_string();
    assert!(error.starts_with("/no/such/file: "), "{error}");
}

#[tokio::test]
async fn requests_of_one_connection_go_round() {
    let servers = servers_of(3).await;
    let alb = balancing(in_front_of(checked("0")), &addresses(&servers)).await;
    let third = |number| (format!("10.0.0.{number}"), 10);
    assert_eq!(
        shares(&alb, 30).await,
        [third(1), third(2), third(3)].into()
    );
}

#[tokio::test]
async fn who_has_the_fewest_requests_gets_the_next() {
    let servers = servers_of(2).await;
    let group = GroupSettings {
        algorithm: Algorithm::LeastOutstandingRequests,
        ..checked("0")
    };
    let alb = balancing(in_front_of(group), &addresses(&servers)).await;
    let client = Conversation::with(alb.addr).await;
    let mut chat = client.call(BOTH, &[]).await;
    chat.say(&echo::request("chat that makes its target the busier one"));
    let (head, _replies, _request) = chat.head().await;
    let busy = head["x-served-by"].to_str().expect("text");
    let shares = shares(&alb, 20).await;
    assert_eq!(shares.values().sum::<usize>(), 20);
    assert!(!shares.contains_key(busy), "{busy} got some of {shares:?}");
}

/// A tonic server as most are: it knows no path of a load balancer, and says that it does not serve.
async fn not_serving() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = listener.local_addr().expect("bound");
    let (reporter, health) = health_reporter();
    reporter
        .set_service_status("", ServingStatus::NotServing)
        .await;
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    let server = tonic::transport::Server::builder().add_service(health);
    tokio::spawn(server.serve_with_incoming(incoming));
    addr
}

#[tokio::test]
async fn health_is_the_code_and_nothing_else() {
    let ours = Process::start("echo", &["--lame-duck", "1h"]).await;
    let plain = not_serving().await;
    let by_path = |matcher, path: &str| {
        let mut group = checked(matcher);
        group.health.path = path.into();
        group
    };
    let default = "/AWS.ALB/healthcheck";
    let check = "/grpc.health.v1.Health/Check";
    // It has not said a word of being well, and a code does not tell.
    for group in [
        by_path("12", default),
        by_path("0", check),
        by_path("1-12", default),
    ] {
        balancing(in_front_of(group), &[plain]).await;
    }
    let alb = balancer(in_front_of(by_path("0", default))).await;
    alb.register(GROUP, plain);
    within(alb.reaches(GROUP, plain, State::Unhealthy)).await;

    // Ours has both paths follow the truth.
    let groups = [by_path("0", default), by_path("0,5", check)];
    let mut albs = Vec::new();
    for group in groups {
        albs.push(balancing(in_front_of(group), &[ours.addr]).await);
    }
    ours.signal(Signal::TERM);
    for alb in &albs {
        within(alb.reaches(GROUP, ours.addr, State::Unhealthy)).await;
    }
}

#[tokio::test]
async fn a_target_that_is_well_again_gets_requests_again() {
    // An address of its own, or another test might take the port while nobody has it.
    let server = start(echo::APP, &["--listen", "127.0.0.8:0"]).await;
    let addr = server.addr;
    server.stopped().await;
    let alb = balancer(in_front_of(checked("0"))).await;
    alb.register(GROUP, addr);
    within(alb.reaches(GROUP, addr, State::Unhealthy)).await;
    let listen = addr.to_string();
    let _server = start(echo::APP, &["--listen", &listen]).await;
    within(alb.reaches(GROUP, addr, State::Healthy)).await;
    let client = Conversation::with(alb.addr).await;
    assert_eq!(call(&client, "well again").await.code(), Some(Code::Ok));
}

#[tokio::test]
async fn a_new_target_gets_nothing_before_it_is_healthy() {
    // It takes connections and says nothing, so its first check goes on.
    let mute = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let mute = mute.local_addr().map(|addr| (mute, addr)).expect("bound");
    let alb = balancer(in_front_of(checked("0"))).await;
    alb.register(GROUP, mute.1);
    let client = Conversation::with(alb.addr).await;
    assert_eq!(call(&client, "nobody is there").await.http, 503);

    let servers = servers_of(1).await;
    alb.register(GROUP, servers[0].addr);
    within(alb.reaches(GROUP, servers[0].addr, State::Healthy)).await;
    assert_eq!(shares(&alb, 10).await, [("10.0.0.1".to_owned(), 10)].into());
    assert_eq!(alb.state(GROUP, mute.1), State::Initial);
}

#[tokio::test]
async fn where_nobody_is_healthy_all_get_requests() {
    let servers = servers_of(2).await;
    let alb = balancer(in_front_of(checked("1"))).await;
    for server in &servers {
        alb.register(GROUP, server.addr);
        within(alb.reaches(GROUP, server.addr, State::Unhealthy)).await;
    }
    assert_eq!(shares(&alb, 10).await.len(), 2);
}

#[tokio::test]
async fn a_deregistered_target_finishes_what_it_has_and_gets_no_more() {
    let servers = servers_of(2).await;
    let alb = balancing(in_front_of(checked("0")), &addresses(&servers)).await;
    let client = Conversation::with(alb.addr).await;
    let mut chat = client.call(BOTH, &[]).await;
    chat.say(&echo::request("chat while its target drains"));
    let (head, mut replies, mut request) = chat.head().await;
    let draining = servers[usize::from(head["x-served-by"] == "10.0.0.2")].addr;

    let deregistered = alb.deregister(GROUP, draining);
    let meanwhile = async {
        within(alb.reaches(GROUP, draining, State::Draining)).await;
        assert_eq!(shares(&alb, 10).await.len(), 1);
        assert_eq!(alb.state(GROUP, draining), State::Draining);
        let last = framed(&echo::request("the last word"));
        request.send_data(last, true).expect("sent");
        let mut said = Vec::new();
        while let Some(data) = within(replies.data()).await {
            said.extend_from_slice(&data.expect("not reset"));
        }
        assert!(said.ends_with(b"the last word"));
    };
    within(join(deregistered, meanwhile)).await;
    assert_eq!(alb.state(GROUP, draining), State::Unused);
}

#[tokio::test]
async fn what_outlasts_the_deregistration_delay_is_cut() {
    let servers = servers_of(1).await;
    let group = GroupSettings {
        deregistration_delay: Duration::from_millis(100),
        ..checked("0")
    };
    let alb = balancing(in_front_of(group), &addresses(&servers)).await;
    let client = Conversation::with(alb.addr).await;
    let mut waiting = client.call(UNARY, &[]).await;
    waiting.say_last(&echo::request("hang beyond the deregistration delay"));
    let mut chat = client.call(BOTH, &[]).await;
    chat.say(&echo::request("chat beyond the deregistration delay"));
    let (_, mut replies, _request) = chat.head().await;
    within(replies.data())
        .await
        .expect("a reply")
        .expect("not reset");
    within(alb.deregister(GROUP, servers[0].addr)).await;
    assert_eq!(waiting.end().await.http, 502);
    within(replies.data())
        .await
        .expect("a reset")
        .expect_err("cut");
    assert_eq!(
        ended("hang beyond the deregistration delay").await,
        Ended::Dropped
    );
}

#[tokio::test]
async fn a_connection_of_a_client_ends_after_so_many_requests() {
    let servers = servers_of(1).await;
    let settings = Settings {
        requests_per_connection: 3,
        ..in_front_of(checked("0"))
    };
    let alb = balancing(settings, &addresses(&servers)).await;
    let mut peer = Peer::connect(alb.addr).await.expect("a listener");
    let call = |stream| {
        let fields = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", UNARY),
            (":authority", "echo"),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
        ];
        let block: Vec<u8> = fields
            .iter()
            .flat_map(|(name, value)| field(name, value))
            .collect();
        let hello = framed(&echo::request("one of many"));
        [
            headers(stream, flag::END_HEADERS, &block),
            data(stream, flag::END_STREAM, &hello),
        ]
        .concat()
    };
    // All are on their way before GOAWAY is.
    let calls: Vec<u8> = (1..=9).step_by(2).flat_map(call).collect();
    peer.send(&[PREFACE, &settings_ack(), &calls].concat())
        .await;
    peer.listen(|heard| {
        let whole = |stream| {
            heard
                .responses
                .get(&stream)
                .is_some_and(|one| one.is_whole())
        };
        let refused = |stream| heard.resets.get(&stream) == Some(&code::REFUSED_STREAM);
        let all = [1, 3, 5].into_iter().all(whole) && [7, 9].into_iter().all(refused);
        (all && heard.goaway == Some(code::NO_ERROR)).then_some(true)
    })
    .await
    .expect("three answers, two refusals, GOAWAY");
}

#[tokio::test]
async fn a_client_that_reconnects_loses_no_call_by_it() {
    let servers = servers_of(1).await;
    let settings = Settings {
        requests_per_connection: 5,
        ..in_front_of(checked("0"))
    };
    let alb = balancing(settings, &addresses(&servers)).await;
    let mut greeter = EchoClient::new(channel(alb.addr));
    for number in 0..100 {
        let reply = within(greeter.unary_echo(echo::request("again"))).await;
        assert!(reply.is_ok(), "call {number}: {reply:?}");
    }
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_one_with_a_request_is_not() {
    let servers = servers_of(1).await;
    let settings = Settings {
        idle_timeout: Duration::from_millis(400),
        ..in_front_of(checked("0"))
    };
    let alb = balancing(settings, &addresses(&servers)).await;
    let idle = Conversation::with(alb.addr).await;
    let busy = Conversation::with(alb.addr).await;
    let mut chat = busy.call(BOTH, &[]).await;
    let mut pause = interval(Duration::from_millis(50));
    let closed = idle.closed();
    let mut closed = std::pin::pin!(closed);
    within(async {
        loop {
            tokio::select! {
                () = &mut closed => break,
                _ = pause.tick() => chat.say(&echo::request("chat that is never idle")),
            }
        }
    })
    .await;
    for _ in 0..10 {
        pause.tick().await;
        chat.say(&echo::request("chat beyond the idle timeout"));
    }
    let ending = call(&busy, "the connection takes more").await;
    assert_eq!(ending.code(), Some(Code::Ok));
    chat.say_last(&echo::request("the last word"));
    assert_eq!(chat.end().await.code(), Some(Code::Ok));
    busy.closed().await;
}

#[tokio::test]
async fn an_idle_stream_is_cut_whatever_the_connection_does() {
    let servers = servers_of(1).await;
    let settings = Settings {
        idle_timeout: Duration::from_secs(1),
        ..in_front_of(checked("0"))
    };
    let alb = balancing(settings, &addresses(&servers)).await;
    // It sends a PING every 50 ms.
    let pinging = Endpoint::from_shared(format!("http://{}", alb.addr)).expect("a URL");
    let pinging = pinging.http2_keep_alive_interval(Duration::from_millis(50));
    let mut greeter = EchoClient::new(pinging.connect_lazy());
    let request = echo::request("hang in silence");
    let replies = within(greeter.server_streaming_echo(request)).await;
    let mut replies = replies.expect("a stream").into_inner();
    let reply = within(replies.message()).await.expect("a reply");
    assert!(reply.is_some());
    let status = within(replies.message()).await.expect_err("cut");
    assert_eq!(status.code(), Code::Internal, "{status}");
    assert_eq!(ended("hang in silence").await, Ended::Dropped);

    let client = Conversation::with(alb.addr).await;
    let mut chat = client.call(BOTH, &[]).await;
    chat.say(&echo::request("chat that falls silent"));
    assert_eq!(chat.end().await.reset, Some(Reason::PROTOCOL_ERROR));
    assert_eq!(ended("chat that falls silent").await, Ended::Dropped);
}

#[tokio::test]
async fn a_watch_with_heartbeats_outlives_the_idle_timeout_and_a_silent_chat_is_cut() {
    let settings = Settings {
        idle_timeout: Duration::from_secs(2),
        ..in_front_of(checked("0"))
    };
    let server = start(echo::APP, &["--watch-heartbeat", "1s"]).await;
    let alb = balancing(settings, &[server.addr]).await;
    let mut watch = HealthClient::new(channel(alb.addr));
    let watch = within(watch.watch(HealthCheckRequest::default())).await;
    let mut watch = watch.expect("a watch").into_inner();
    let mut client = EchoClient::new(channel(alb.addr));
    let requests = tokio_stream::iter([echo::request("chat")]).chain(tokio_stream::pending());
    let silent = within(client.bidirectional_streaming_echo(requests)).await;
    let mut silent = silent.expect("a chat").into_inner();
    within(silent.message()).await.expect("the first response");

    let cut = within(silent.message()).await.expect_err("a cut");
    assert_eq!(cut.code(), Code::Internal, "{cut}");
    // What it received before that, and one response after it.
    for _ in 0..3 {
        within(watch.message()).await.expect("an open watch");
    }
}

#[tokio::test]
async fn empty_frames_keep_no_stream_alive() {
    let servers = servers_of(1).await;
    let settings = Settings {
        idle_timeout: Duration::from_millis(300),
        ..in_front_of(checked("0"))
    };
    let alb = balancing(settings, &addresses(&servers)).await;
    let client = Conversation::with(alb.addr).await;
    let mut chat = client.call(BOTH, &[]).await;
    chat.say(&echo::request("chat with empty frames"));
    let (_, mut replies, mut request) = chat.head().await;
    let reply = within(replies.data()).await.expect("a reply");
    reply.expect("not reset");
    let mut pause = interval(Duration::from_millis(50));
    within(async {
        loop {
            tokio::select! {
                _ = replies.data() => break,
                // It may have been reset just now.
                _ = pause.tick() => drop(request.send_data(Bytes::new(), false)),
            }
        }
    })
    .await;
}

/// Makes a call that the load balancer answers itself, and checks that gRPC finds nothing in it.
async fn own_answer(alb: &Alb) -> u16 {
    let client = Conversation::with(alb.addr).await;
    let ending = call(&client, "hang until the load balancer speaks").await;
    assert_eq!(ending.code(), None);
    assert_eq!(ending.field("content-type"), Some("text/html"));
    assert_eq!(ending.field("server"), Some("awselb/2.0"));
    let page = String::from_utf8(ending.body).expect("text");
    assert!(page.contains(&format!("<h1>{} ", ending.http)), "{page}");
    ending.http
}

/// A load balancer with a target that is unhealthy, and so gets requests where it is alone.
async fn failing_open(mut settings: Settings, target: SocketAddr) -> Alb {
    let group = settings.groups.get_mut(GROUP).expect("the group");
    group.health.timeout = Duration::from_millis(50);
    let alb = balancer(settings).await;
    alb.register(GROUP, target);
    within(alb.reaches(GROUP, target, State::Unhealthy)).await;
    alb
}

#[tokio::test]
async fn a_target_that_cannot_be_spoken_to_is_502() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let refusing = listener.local_addr().expect("bound");
    drop(listener);
    let alb = failing_open(in_front_of(checked("0")), refusing).await;
    assert_eq!(own_answer(&alb).await, 502);

    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let closing = listener.local_addr().expect("bound");
    tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    let alb = failing_open(in_front_of(checked("0")), closing).await;
    assert_eq!(own_answer(&alb).await, 502);
}

#[tokio::test]
async fn a_target_that_resets_before_it_answers_is_502_and_not_asked_again() {
    for reason in [Reason::REFUSED_STREAM, Reason::INTERNAL_ERROR] {
        let target = by_hand(move |request, mut respond| {
            if request.uri().path() == UNARY {
                respond.send_reset(reason);
            } else {
                respond
                    .send_response(ok(HeaderMap::new()), true)
                    .expect("sent");
            }
        })
        .await;
        let alb = balancing(in_front_of(checked("0")), &[target]).await;
        assert_eq!(own_answer(&alb).await, 502);
    }
}

#[tokio::test]
async fn a_group_without_targets_is_503() {
    let alb = balancer(in_front_of(checked("0"))).await;
    assert_eq!(own_answer(&alb).await, 503);
}

#[tokio::test]
async fn a_target_that_takes_too_long_is_504() {
    let servers = servers_of(1).await;
    let settings = Settings {
        idle_timeout: Duration::from_millis(200),
        ..in_front_of(checked("0"))
    };
    let alb = balancing(settings, &addresses(&servers)).await;
    assert_eq!(own_answer(&alb).await, 504);

    // A socket whose queue is full does not answer who connects.
    let socket = TcpSocket::new_v4().expect("a socket");
    socket
        .bind(([127, 0, 0, 1], 0).into())
        .expect("a free port");
    let full = socket.local_addr().expect("bound");
    let _listener = socket.listen(1).expect("a queue");
    let mut waiting = Vec::new();
    while let Ok(stream) = timeout(Duration::from_millis(200), TcpStream::connect(full)).await {
        waiting.push(stream.expect("queued"));
    }
    let settings = Settings {
        connect_timeout: Duration::from_millis(100),
        ..in_front_of(checked("0"))
    };
    let alb = failing_open(settings, full).await;
    assert_eq!(own_answer(&alb).await, 504);
}

#[tokio::test]
async fn what_is_not_http2_or_not_post_is_464() {
    let servers = servers_of(1).await;
    let alb = balancing(in_front_of(checked("0")), &addresses(&servers)).await;
    let mut stream = TcpStream::connect(alb.addr).await.expect("a listener");
    let request = format!("POST {UNARY} HTTP/1.1\r\nhost: greeter\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    let read = within(stream.read_to_string(&mut answer)).await;
    read.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 464 "), "{answer}");
    let url = format!("http://{}{UNARY}", alb.addr);
    let answer = raw(
        alb.addr,
        Request::get(url)
            .body(Bytes::new().into())
            .expect("a request"),
    )
    .await;
    assert_eq!(
        answer.status,
        StatusCode::from_u16(464).expect("three digits")
    );
    assert!(!answer.headers.contains_key("grpc-status"), "{answer:?}");
}

#[tokio::test]
async fn a_target_is_told_who_calls() {
    let target = by_hand(|request, mut respond| {
        let headers = request.headers().iter();
        let told = headers.filter(|(name, _)| name.as_str().starts_with("x-"));
        let told = told
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let mut head = ok(told);
        if request.uri().path() == UNARY {
            // The headers of a failure come with it.
            head.headers_mut()
                .insert("grpc-status", HeaderValue::from_static("9"));
        }
        respond.send_response(head, true).expect("sent");
    })
    .await;
    let pki = Pki::new();
    let alb = balancing(behind_tls(&pki, checked("0")), &[target]).await;
    let mut greeter = EchoClient::new(secure(&pki, &alb));
    let port = alb.addr.port().to_string();
    let mut told = async |headers: &[(&'static str, &str)]| {
        let mut request = tonic::Request::new(EchoRequest::default());
        for (name, value) in headers {
            request
                .metadata_mut()
                .insert(*name, value.parse().expect("text"));
        }
        let status = within(greeter.unary_echo(request))
            .await
            .expect_err("code 9");
        status.metadata().clone().into_headers()
    };
    let headers = told(&[]).await;
    assert_eq!(headers["x-forwarded-for"], "127.0.0.1");
    assert_eq!(headers["x-forwarded-proto"], "https");
    assert_eq!(headers["x-forwarded-port"], port.as_str());
    let root = headers["x-amzn-trace-id"].to_str().expect("text");
    let id = root.strip_prefix("Root=1-").expect(root);
    let (time, id) = id.split_once('-').expect(root);
    assert_eq!((time.len(), id.len()), (8, 24), "{root}");

    let brought = "Self=1-0-0;Root=1-67891233-abcdef012345678912345678;CalledFrom=app";
    let headers = told(&[
        ("x-forwarded-for", "203.0.113.7"),
        ("x-amzn-trace-id", brought),
    ])
    .await;
    assert_eq!(headers["x-forwarded-for"], "203.0.113.7, 127.0.0.1");
    let trace = headers["x-amzn-trace-id"].to_str().expect("text");
    assert!(
        trace.starts_with("Self=1-") && !trace.starts_with("Self=1-0-0"),
        "{trace}"
    );
    assert!(
        trace.ends_with(";Root=1-67891233-abcdef012345678912345678;CalledFrom=app"),
        "{trace}"
    );
    assert_eq!(trace.matches("Self=").count(), 1, "{trace}");
}

/// Reads a request, and tells when it has begun, and how it ends.
async fn read(mut body: RecvStream, _open: SendResponse<Bytes>, tell: UnboundedSender<&str>) {
    let mut known = "begun";
    while let Some(data) = body.data().await {
        match data {
            Ok(_) => tell
                .send(std::mem::take(&mut known))
                .expect("somebody listens"),
            Err(_) => return tell.send("reset").expect("somebody listens"),
        }
    }
    tell.send(if body.is_end_stream() {
        "ended"
    } else {
        "reset"
    })
    .expect("somebody listens");
}

#[tokio::test]
async fn what_one_side_resets_is_reset_on_the_other() {
    let (tell, mut told) = mpsc::unbounded_channel();
    let reader = by_hand(move |request, mut respond| {
        if request.uri().path() == BOTH {
            tokio::spawn(read(request.into_body(), respond, tell.clone()));
        } else {
            respond
                .send_response(ok(HeaderMap::new()), true)
                .expect("sent");
        }
    })
    .await;
    let alb = balancing(in_front_of(checked("0")), &[reader]).await;
    let client = Conversation::with(alb.addr).await;
    // HTTP/2 alone takes the last for an end in order.
    for reason in [Reason::CANCEL, Reason::INTERNAL_ERROR, Reason::NO_ERROR] {
        let mut call = client.call(BOTH, &[]).await;
        call.say(&echo::request("it goes on"));
        assert_eq!(within(told.recv()).await, Some("begun"));
        call.reset(reason);
        assert_eq!(within(told.recv()).await, Some("reset"), "{reason:?}");
    }

    let resetting = by_hand(|request, mut respond| {
        let is_check = request.uri().path() != BOTH;
        let head = if is_check {
            ok(HeaderMap::new())
        } else {
            Response::new(())
        };
        let mut reply = respond.send_response(head, is_check).expect("sent");
        tokio::spawn(async move {
            // It resets when it hears of a client that has the head.
            request.into_body().data().await;
            reply.send_reset(Reason::ENHANCE_YOUR_CALM);
        });
    })
    .await;
    let alb = balancing(in_front_of(checked("0")), &[resetting]).await;
    let client = Conversation::with(alb.addr).await;
    let (_, mut replies, mut request) = client.call(BOTH, &[]).await.head().await;
    request
        .send_data(framed(&echo::request("calm down")), false)
        .expect("sent");
    let error = within(replies.data())
        .await
        .expect("a reset")
        .expect_err("a reset");
    assert_eq!(error.reason(), Some(Reason::ENHANCE_YOUR_CALM));
}

#[tokio::test]
async fn a_reply_that_the_client_does_not_take_is_not_taken_from_the_target() {
    let server = start(echo::APP, &["--stall-timeout", "100ms"]).await;
    let alb = balancing(in_front_of(checked("0")), &[server.addr]).await;
    let client = Conversation::with(alb.addr).await;
    let mut call = client.call(REPLIES, &[]).await;
    call.say_last(&echo::request("endless through a load balancer"));
    let _untouched = call.head().await;
    // The target gives up on a stream that nobody takes anything from.
    assert_eq!(
        ended("endless through a load balancer").await,
        Ended::Dropped
    );
}

#[tokio::test]
async fn connections_of_targets_come_and_go_and_no_call_is_lost() {
    let flags = [
        "--max-connection-age",
        "50ms",
        "--max-connection-age-grace",
        "10s",
    ];
    let server = start(echo::APP, &flags).await;
    for requests_on_a_connection in [1, 100] {
        let group = GroupSettings {
            requests_on_a_connection,
            ..checked("0")
        };
        let alb = balancing(in_front_of(group), &[server.addr]).await;
        let calls = (0..8).map(async |_| {
            let client = Conversation::with(alb.addr).await;
            let started = Instant::now();
            while started.elapsed() < Duration::from_millis(300) {
                let ending = call(&client, "again").await;
                assert_eq!(ending.code(), Some(Code::Ok), "{ending:?}");
            }
        });
        join_all(calls).await;
    }
}

#[tokio::test]
async fn as_many_requests_share_a_connection_to_a_target_as_may() {
    for (requests_on_a_connection, connections) in [(1, 4), (2, 2), (4, 1)] {
        let server = start(echo::APP, &[]).await;
        let mut group = GroupSettings {
            requests_on_a_connection,
            ..checked("0")
        };
        // Each check has a connection of its own.
        group.health.interval = Duration::from_secs(60 * 60);
        let alb = balancing(in_front_of(group), &[server.addr]).await;
        let client = Conversation::with(alb.addr).await;
        let mut chats = Vec::new();
        for _ in 0..4 {
            let mut chat = client.call(BOTH, &[]).await;
            chat.say(&echo::request("chat beside others"));
            chats.push(chat.head().await);
        }
        let line = format!("grpc_server_connections {connections}\n");
        let metrics = async || get(server.admin, "/metrics").await.1;
        within(async { while !metrics().await.contains(&line) {} }).await;
    }
}

#[tokio::test]
async fn it_is_a_program_as_well() {
    let servers = servers_of(1).await;
    let target = format!("echo={}", servers[0].addr);
    let flags = [
        "--rule",
        "/grpc.examples.echo.*=echo",
        "--target",
        &target,
        "--matcher",
        "0",
    ];
    let mut alb = command("alb", &flags)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("a start");
    let mut lines = BufReader::new(alb.stdout.take().expect("piped")).lines();
    let line = within(lines.next_line())
        .await
        .expect("readable")
        .expect("a line");
    let addr = line
        .strip_prefix("listening ")
        .expect(&line)
        .parse()
        .expect("an address");
    let client = Conversation::with(addr).await;
    within(async { while call(&client, "program").await.code() != Some(Code::Ok) {} }).await;
}
