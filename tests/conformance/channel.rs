//! The client channel: many servers as one, and no call lost that need not be.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error as _,
    net::SocketAddr,
    time::Duration,
};

use channel::{Channel, Settings, Target, Trust};
use echo::pb::{EchoRequest, echo_client::EchoClient};
use h2::Reason;
use harness::{
    Behavior, Conversation, GRPC, Running, ScriptedServer, Seen, UNAVAILABLE, bind, framed,
    leaving, run, start, start_in, within,
};
use rcgen::ExtendedKeyUsagePurpose::ClientAuth;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};
use tokio_stream::StreamExt as _;
use tonic::{Code, Request, Response, Status};

use harness::pki::Pki;

type Greeter = EchoClient<Channel>;

/// UnaryEcho may be carried out twice; the stream of replies, for these tests, may not.
const IDEMPOTENT: &[&str] = &["/grpc.examples.echo.Echo/UnaryEcho"];

/// Without a look at health, so that a server in trouble is not avoided for that.
fn settings() -> Settings {
    Settings {
        idempotent: IDEMPOTENT,
        health: None,
        ..Settings::default()
    }
}

fn greeter(addrs: &[SocketAddr]) -> Greeter {
    greeter_with(addrs, settings())
}

fn greeter_with(addrs: &[SocketAddr], settings: Settings) -> Greeter {
    let addrs: Vec<_> = addrs.iter().map(ToString::to_string).collect();
    let target = Target::parse(&addrs.join(","), false).expect("addresses");
    EchoClient::new(Channel::new(target, settings).expect("no files"))
}

/// Follows health.
fn careful(addrs: &[SocketAddr]) -> Greeter {
    let health = Some("grpc.examples.echo.Echo".to_owned());
    greeter_with(
        addrs,
        Settings {
            health,
            ..settings()
        },
    )
}

/// A Greeter that says on each response which it is.
async fn nth(number: usize, flags: &[&str]) -> Running {
    let name = format!("10.0.0.{number}");
    start(echo::APP, &[&["--pod-ip", &name], flags].concat()).await
}

fn served_by<T>(response: &Response<T>) -> String {
    let name = response.metadata().get("x-served-by").expect("a name");
    name.to_str().expect("text").to_owned()
}

async fn greeted(client: &mut Greeter) -> Result<String, Status> {
    let response = within(client.unary_echo(echo::request("you"))).await?;
    Ok(served_by(&response))
}

/// The requests of a chat that goes on.
fn open_chat() -> impl tokio_stream::Stream<Item = EchoRequest> {
    tokio_stream::once(echo::request("chat")).chain(tokio_stream::pending())
}

/// Calls until the last 50 have all been answered by this one: no chance.
async fn all_from(client: &mut Greeter, name: &str) {
    within(async {
        let mut in_a_row = 0;
        while in_a_row < 50 {
            let by = greeted(client).await.expect("an answer");
            in_a_row = if by == name { in_a_row + 1 } else { 0 };
        }
    })
    .await;
}

/// Calls until each of so many has answered.
async fn all_of(client: &mut Greeter, count: usize) {
    let mut seen = BTreeSet::new();
    while seen.len() < count {
        seen.insert(greeted(client).await.expect("an answer"));
    }
}

#[tokio::test]
async fn calls_are_spread_evenly_over_all_servers() {
    let servers = [nth(1, &[]).await, nth(2, &[]).await, nth(3, &[]).await];
    let mut client = greeter(&servers.each_ref().map(|server| server.addr));
    all_of(&mut client, 3).await;
    let mut shares = BTreeMap::new();
    for _ in 0..600 {
        *shares
            .entry(greeted(&mut client).await.expect("an answer"))
            .or_insert(0) += 1;
    }
    assert_eq!(shares.len(), 3, "{shares:?}");
    assert!(shares.values().all(|share| *share > 120), "{shares:?}");
}

#[tokio::test]
async fn a_call_goes_where_the_fewest_are_in_flight() {
    let servers = [nth(1, &[]).await, nth(2, &[]).await];
    let mut client = greeter(&servers.each_ref().map(|server| server.addr));
    all_of(&mut client, 2).await;
    let mut open = Vec::new();
    for _ in 0..10 {
        let mut pair = BTreeSet::new();
        for _ in 0..2 {
            let chat = within(client.bidirectional_streaming_echo(open_chat())).await;
            let chat = chat.expect("an answer");
            pair.insert(served_by(&chat));
            open.push(chat);
        }
        assert_eq!(pair.len(), 2, "one for each");
    }
}

#[tokio::test]
async fn a_server_that_is_not_serving_gets_no_calls() {
    let (mut one, two) = (nth(1, &["--lame-duck", "1h"]).await, nth(2, &[]).await);
    let mut client = careful(&[one.addr, two.addr]);
    all_of(&mut client, 2).await;
    one.stop();
    all_from(&mut client, "10.0.0.2").await;
    // It still would, and does if there is nobody else.
    two.stopped().await;
    all_from(&mut client, "10.0.0.1").await;
}

#[tokio::test]
async fn a_server_without_health_is_taken_for_healthy() {
    const UNIMPLEMENTED: Behavior = Behavior::Answer(200, &[GRPC, ("grpc-status", "12")]);
    let knows_no_health = ScriptedServer::start(|_| UNIMPLEMENTED).await;
    let mut server = nth(1, &["--lame-duck", "1h"]).await;
    server.stop();
    let mut client = careful(&[knows_no_health.addr, server.addr]);
    within(async {
        let mut in_a_row = 0;
        while in_a_row < 50 {
            let refused = greeted(&mut client).await.is_err();
            in_a_row = if refused { in_a_row + 1 } else { 0 };
        }
    })
    .await;
}

#[tokio::test]
async fn health_is_watched_again_when_something_has_cut_the_watch() {
    let servers = [
        ScriptedServer::start(|_| UNAVAILABLE).await,
        ScriptedServer::start(|_| UNAVAILABLE).await,
    ];
    let _client = careful(&servers.each_ref().map(|server| server.addr));
    within(async {
        while servers[0].seen().len() < 3 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let seen = servers[0].seen();
    assert!(
        seen.iter()
            .all(|seen| seen.path == "/grpc.health.v1.Health/Watch")
    );
}

#[tokio::test]
async fn no_call_is_lost_when_a_server_shuts_down_or_is_not_there() {
    let (one, two) = (nth(1, &[]).await, nth(2, &[]).await);
    let nobody = "127.0.0.1:1".parse().expect("an address");
    let mut client = greeter(&[one.addr, two.addr, nobody]);
    let mut callers = JoinSet::new();
    all_of(&mut client, 2).await;
    let (stop, stopped) = watch::channel(false);
    for _ in 0..8 {
        let (mut client, stopped) = (client.clone(), stopped.clone());
        callers.spawn(async move {
            // A method that may not be carried out twice.
            while !*stopped.borrow() {
                let stream = client
                    .server_streaming_echo(echo::request("repeat 5 times"))
                    .await;
                let mut replies = stream.expect("a stream").into_inner();
                let mut count = 0;
                while replies.message().await.expect("a whole stream").is_some() {
                    count += 1;
                }
                assert_eq!(count, 5);
            }
        });
    }
    one.stopped().await;
    all_from(&mut client, "10.0.0.2").await;
    stop.send(true).expect("callers");
    within(async {
        while callers
            .join_next()
            .await
            .transpose()
            .expect("no failed call")
            .is_some()
        {}
    })
    .await;
}

/// The chat that a test of what is not idempotent makes: a name, and the reply to it.
async fn chat(client: &mut Greeter) -> Result<String, Status> {
    let names = tokio_stream::once(echo::request("you"));
    let chat = within(client.bidirectional_streaming_echo(names)).await?;
    let reply = within(chat.into_inner().message()).await?;
    Ok(reply.expect("a reply").message)
}

#[tokio::test]
async fn what_no_server_has_begun_with_goes_to_another_whatever_it_is() {
    let scripted_server = ScriptedServer::start(|_| Behavior::Reset(Reason::REFUSED_STREAM)).await;
    let leaving = leaving().await;
    let server = nth(1, &[]).await;
    for trouble in [scripted_server.addr, leaving] {
        let mut client = greeter(&[trouble, server.addr]);
        for _ in 0..50 {
            assert_eq!(chat(&mut client).await.expect("a reply"), "you");
        }
    }
    // It was the first to be asked for half of the calls, and for none of them again.
    let seen = scripted_server.seen();
    assert!(seen.len() > 5, "{seen:?}");
    let first = |seen: &Seen| !seen.headers.contains_key("grpc-previous-rpc-attempts");
    assert!(seen.iter().all(first), "{seen:?}");
}

#[tokio::test]
async fn a_server_that_refuses_is_not_asked_again_while_there_is_another() {
    let refusing =
        async || ScriptedServer::start(|_| Behavior::Reset(Reason::REFUSED_STREAM)).await;
    let (one, two) = (refusing().await, refusing().await);
    let server = nth(1, &[]).await;
    let mut client = greeter(&[one.addr, two.addr, server.addr]);
    // So that it has more in flight than they.
    let mut open = Vec::new();
    for _ in 0..20 {
        let chat = within(client.bidirectional_streaming_echo(open_chat())).await;
        open.push(chat.expect("an answer"));
    }
    let asked = one.seen().len().max(two.seen().len());
    assert!((1..=20).contains(&asked), "{asked}");
}

/// Servers that all want to be rid of a connection that is a second old, and then wait for the calls that
/// it has: here, for the channel's own watch of their health.
#[tokio::test]
async fn connections_that_are_all_old_cost_no_call() {
    let age = [
        "--max-connection-age",
        "1s",
        "--max-connection-age-grace",
        "1h",
    ];
    let mut servers = Vec::new();
    for number in 1..=6 {
        servers.push(nth(number, &age).await);
    }
    let addrs: Vec<_> = servers.iter().map(|server| server.addr).collect();
    let mut client = careful(&addrs);
    all_of(&mut client, 6).await;
    // As old as the channel's, and told that it has to go.
    let mut farewells = JoinSet::new();
    for addr in addrs {
        let old = Conversation::with(addr).await;
        farewells.spawn(async move {
            let _watch = old.call("/grpc.health.v1.Health/Watch", &[]).await;
            old.farewell().await;
        });
    }
    within(farewells.join_all()).await;
    chat(&mut client).await.expect("a reply");
}

#[tokio::test]
async fn a_call_waits_for_a_server_that_is_about_to_come() {
    let server = nth(1, &[]).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let mut client = greeter(&[listener.local_addr().expect("bound")]);
    tokio::spawn(async move {
        for _ in 0..2 {
            drop(listener.accept().await);
        }
        let (mut here, _) = listener.accept().await.expect("a third try");
        let mut there = TcpStream::connect(server.addr).await.expect("a server");
        copy_bidirectional(&mut here, &mut there).await
    });
    assert_eq!(chat(&mut client).await.expect("a reply"), "you");
}

#[tokio::test]
async fn a_call_that_nobody_waits_for_is_called_off_whatever_its_request_does() {
    let server = ScriptedServer::start(|_| Behavior::Begin).await;
    let mut client = greeter(&[server.addr]);
    let chat = within(client.bidirectional_streaming_echo(open_chat())).await;
    drop(chat.expect("a head"));
    within(async {
        while !server.seen()[0].reset {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_stream_that_is_always_ready_ends_at_its_deadline() {
    let server = ScriptedServer::start(|_| Behavior::Flood).await;
    let mut client = greeter(&[server.addr]);
    let mut request = Request::new(echo::request("you"));
    request.set_timeout(Duration::from_secs(1));
    let stream = within(client.server_streaming_echo(request)).await;
    let mut stream = stream.expect("a stream").into_inner();
    let status = within(async {
        loop {
            if let Err(status) = stream.message().await {
                return status;
            }
        }
    });
    assert_eq!(status.await.code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn behind_a_balancer_of_connections_nobody_is_no_server() {
    // Accepts, and then either closes or says nothing, as such a balancer does when its server is away.
    let closing = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addrs = [&closing, &silent].map(|balancer| balancer.local_addr().expect("bound"));
    tokio::spawn(async move { while closing.accept().await.is_ok() {} });
    let server = nth(1, &[]).await;
    let mut client = greeter(&[addrs[0], addrs[1], server.addr]);
    for _ in 0..50 {
        chat(&mut client).await.expect("a reply");
    }
}

/// One server, which does this to the first request and that to all others.
async fn scripted_server(first: Behavior, then: Behavior) -> (ScriptedServer, Greeter) {
    let scripted_server =
        ScriptedServer::start(move |nth| if nth == 0 { first } else { then }).await;
    let client = greeter(&[scripted_server.addr]);
    (scripted_server, client)
}

const OK: Behavior = Behavior::Answer(200, &[GRPC, ("grpc-status", "0")]);

#[tokio::test]
async fn what_a_server_may_have_begun_with_is_tried_again_only_if_it_is_idempotent() {
    let pages = [429, 502, 503, 504].map(Behavior::Page);
    for trouble in [UNAVAILABLE, Behavior::HangUp].into_iter().chain(pages) {
        let (server, mut client) = scripted_server(trouble, UNAVAILABLE).await;
        let status = chat(&mut client).await.expect_err("no second try");
        assert_eq!(status.code(), Code::Unavailable, "{trouble:?}: {status}");
        assert_eq!(server.seen().len(), 1, "{trouble:?}");

        let (server, mut client) = scripted_server(trouble, OK).await;
        // An answer without a message, which is a second try's.
        let status = within(client.unary_echo(echo::request("you")))
            .await
            .expect_err("no message");
        assert_eq!(
            status.message(),
            "Missing response message.",
            "{trouble:?}: {status}"
        );
        let seen = server.seen();
        assert_eq!(seen.len(), 2, "{trouble:?}");
        assert_eq!(seen[1].body, framed(&echo::request("you")), "{trouble:?}");
        assert_eq!(seen[1].headers["grpc-previous-rpc-attempts"], "1");
    }
}

#[tokio::test]
async fn other_failures_are_final() {
    for (trouble, code) in [
        (Behavior::Reset(Reason::INTERNAL_ERROR), Code::Internal),
        (Behavior::Reset(Reason::CANCEL), Code::Cancelled),
        (
            Behavior::Reset(Reason::ENHANCE_YOUR_CALM),
            Code::ResourceExhausted,
        ),
        (
            Behavior::Answer(200, &[GRPC, ("grpc-status", "9")]),
            Code::FailedPrecondition,
        ),
        (Behavior::Page(403), Code::PermissionDenied),
        (Behavior::Page(404), Code::Unimplemented),
        (Behavior::Page(464), Code::Unknown),
        // As some proxies end what has been idle for too long.
        (Behavior::Answer(200, &[GRPC]), Code::Unknown),
    ] {
        let (server, mut client) = scripted_server(trouble, OK).await;
        let status = greeted(&mut client).await.expect_err("no second try");
        assert_eq!(status.code(), code, "{trouble:?}: {status}");
        assert_eq!(server.seen().len(), 1, "{trouble:?}");
    }
}

#[tokio::test]
async fn a_stream_that_something_has_ended_is_told_from_one_that_the_server_has() {
    for (end, is_cut) in [
        (Behavior::Answer(200, &[GRPC]), true),
        (Behavior::Answer(200, &[GRPC, ("grpc-status", "2")]), false),
    ] {
        let (_server, mut client) = scripted_server(end, end).await;
        let status = chat(&mut client).await.expect_err("an end");
        assert_eq!(status.code(), Code::Unknown, "{status}");
        assert_eq!(status.source().is_some(), is_cut, "{status:?}");
    }
}

#[tokio::test]
async fn a_server_may_say_when_to_come_back_or_not_to() {
    const IN_300_MS: Behavior = Behavior::Answer(
        200,
        &[
            GRPC,
            ("grpc-status", "14"),
            ("grpc-retry-pushback-ms", "300"),
        ],
    );
    const NEVER: Behavior = Behavior::Answer(
        200,
        &[
            GRPC,
            ("grpc-status", "14"),
            ("grpc-retry-pushback-ms", "-1"),
        ],
    );
    let (server, mut client) = scripted_server(IN_300_MS, OK).await;
    let began = std::time::Instant::now();
    greeted(&mut client).await.expect_err("no message");
    assert!(
        began.elapsed() >= Duration::from_millis(300),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(server.seen().len(), 2);

    // Not if there is no time for it.
    let (server, mut client) = scripted_server(IN_300_MS, OK).await;
    let mut request = Request::new(echo::request("you"));
    request.set_timeout(Duration::from_millis(299));
    let status = within(client.unary_echo(request))
        .await
        .expect_err("no time");
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(server.seen().len(), 1);

    let (server, mut client) = scripted_server(NEVER, OK).await;
    let status = greeted(&mut client).await.expect_err("no second try");
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn second_tries_have_a_budget() {
    const CALLS: usize = 400;
    let server = ScriptedServer::start(|_| UNAVAILABLE).await;
    let client = greeter(&[server.addr]);
    let mut calls = JoinSet::new();
    for _ in 0..CALLS {
        let mut client = client.clone();
        calls.spawn(async move { greeted(&mut client).await.expect_err("unavailable") });
    }
    within(calls.join_all()).await;
    let tries = server.seen().len() - CALLS;
    // A tenth, and ten a second over ten seconds; without a budget it would be 1600.
    assert!((CALLS / 10..=CALLS / 10 + 110).contains(&tries), "{tries}");
}

#[tokio::test]
async fn a_deadline_bounds_all_attempts_and_the_whole_stream() {
    let (server, mut client) =
        scripted_server(Behavior::Reset(Reason::REFUSED_STREAM), Behavior::Begin).await;
    let mut request = Request::new(echo::request("you"));
    request.set_timeout(Duration::from_millis(500));
    let stream = within(client.server_streaming_echo(request)).await;
    let mut stream = stream.expect("a head").into_inner();
    let status = within(stream.message()).await.expect_err("an end");
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");

    let seen = server.seen();
    let told = |nth: usize| seen[nth].headers["grpc-timeout"].to_str().expect("text");
    assert_eq!(seen.len(), 2);
    assert_ne!(told(0), told(1), "what is left of the time");
}

#[tokio::test]
async fn a_request_that_is_too_long_to_be_kept_is_sent_whole_and_once() {
    const REQUESTS: usize = 20_000;
    let server = start(echo::APP, &[]).await;
    let target = Target::parse(&server.url(), false).expect("a URL");
    let channel = Channel::new(target, Settings::default()).expect("no files");
    let requests = (1..=REQUESTS).map(|nth| echo::request(&format!("the {nth}th request")));
    let requests = tokio_stream::iter(requests);
    let response = within(EchoClient::new(channel).client_streaming_echo(requests)).await;
    let response = response.expect("a response").into_inner();
    assert_eq!(response.message, format!("the {REQUESTS}th request"));
}

#[tokio::test]
async fn servers_that_come_and_go_in_dns_get_calls_and_finish_them() {
    let (one, two) = (nth(1, &[]).await, nth(2, &[]).await);
    let (change, addresses) = watch::channel(vec![one.addr]);
    let target = Target::parse("dns:///greeter.test:9000", false)
        .expect("a name")
        .resolved_by(move || {
            let addresses = addresses.borrow().clone();
            async { Ok(addresses) }
        });
    let settings = Settings {
        resolve_every: Duration::from_millis(1),
        ..settings()
    };
    let mut client = EchoClient::new(Channel::new(target, settings).expect("no files"));
    all_from(&mut client, "10.0.0.1").await;
    let (names, requests) = tokio::sync::mpsc::channel(1);
    let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
    let first = names.send(echo::request("chat")).await;
    first.expect("room");
    let chat = within(client.bidirectional_streaming_echo(requests)).await;
    let mut chat = chat.expect("a chat").into_inner();
    within(chat.message()).await.expect("a response");

    change.send_replace(vec![one.addr, two.addr]);
    within(all_of(&mut client, 2)).await;
    // As many in flight as the other has.
    let second = within(client.bidirectional_streaming_echo(open_chat())).await;
    assert_eq!(served_by(second.as_ref().expect("a chat")), "10.0.0.2");
    change.send_replace(vec![two.addr]);
    all_from(&mut client, "10.0.0.2").await;

    names
        .send(echo::request("there"))
        .await
        .expect("an open chat");
    let reply = within(chat.message()).await.expect("an open chat");
    assert_eq!(reply.expect("a reply").message, "there");
}

#[tokio::test]
async fn dns_says_where_a_name_is_or_the_call_says_what_dns_said() {
    let server = nth(1, &[]).await;
    let named = |name: &str| {
        let target = Target::parse(&format!("dns:///{name}:{}", server.addr.port()), false);
        let channel = Channel::new(target.expect("a name"), settings());
        EchoClient::new(channel.expect("no files"))
    };
    // Its IPv6 address, if it has one, has nobody.
    greeted(&mut named("localhost")).await.expect("an answer");
    let status = greeted(&mut named("nobody.invalid"))
        .await
        .expect_err("nowhere");
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().starts_with("nobody.invalid:"), "{status}");
}

#[tokio::test]
async fn certificates_are_read_anew_for_each_connection() {
    let (old, new) = (Pki::new(), Pki::new());
    old.issue("client", ClientAuth);
    new.issue("client", ClientAuth);
    let files = Pki::new();
    files.take_over(&old, &["ca.pem", "client.pem", "client.key"]);
    // Where no other test takes the port while the server is away.
    let server = start_in(echo::APP, &["--listen", "127.9.8.7:0"], &old.mtls()).await;
    let addr = server.addr.to_string();
    let target = Target::parse(&addr, true).expect("an address");
    let settings = Settings {
        authority: Some("localhost".parse().expect("a name")),
        trust: Trust::Authorities(files.path("ca.pem").into()),
        identity: Some((
            files.path("client.pem").into(),
            files.path("client.key").into(),
        )),
        ..settings()
    };
    let mut client = EchoClient::new(Channel::new(target, settings).expect("sound files"));
    greeted(&mut client).await.expect("an answer");

    server.stopped().await;
    files.take_over(&new, &["ca.pem", "client.pem", "client.key"]);
    let server = again(&addr, &new).await;
    // Until it has connected, which it keeps trying.
    within(async { while greeted(&mut client).await.is_err() {} }).await;

    // Of files that are no good, what was read before stands.
    server.stopped().await;
    files.write("client.pem", "");
    let _server = again(&addr, &new).await;
    within(async { while greeted(&mut client).await.is_err() {} }).await;
}

/// A Greeter where one was before, with mTLS.
async fn again(addr: &str, pki: &Pki) -> Running {
    let server = bind(echo::APP, &["--listen", addr], &pki.mtls()).await;
    run(server.expect("the same port"))
}
