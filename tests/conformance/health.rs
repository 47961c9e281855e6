//! The health protocol, and health as load balancers ask for it.

use std::{collections::BTreeMap, time::Duration};

use chassis::health::v1::{self, HealthListRequest, health_check_response::ServingStatus};
use harness::{
    NOTHING, PREFACE, bind,
    frames::{Heard, Peer, data, field, flag, headers, pong, settings_ack},
    health::{NOT_SERVING, SERVING, check, code_for, next, service, watch},
    run, start, within,
};
use tokio::{sync::oneshot, time::sleep};
use tonic::Code;
// The health client of another project, so that both ends cannot be wrong in the same way.
use tonic_health::pb::health_client::HealthClient;

const SERVICE_UNKNOWN: i32 = ServingStatus::ServiceUnknown as i32;

/// Says NOT_SERVING for as long as a test can take.
const LONG_LAME_DUCK: [&str; 2] = ["--lame-duck", "1h"];

#[tokio::test]
async fn check_knows_the_server_and_each_service() {
    let server = start(echo::APP, &[]).await;
    for name in ["", "grpc.examples.echo.Echo"] {
        assert_eq!(
            check(&server, name).await.expect("a status"),
            SERVING,
            "{name:?}"
        );
    }
    let status = check(&server, "grpc.examples.echo.Ohce")
        .await
        .expect_err("not here");
    assert_eq!(status.code(), Code::NotFound);
}

#[tokio::test]
async fn list_tells_the_status_of_every_service() {
    let server = start(echo::APP, &[]).await;
    let mut client = v1::health_client::HealthClient::new(server.channel());
    let list = client
        .list(HealthListRequest {})
        .await
        .expect("a list")
        .into_inner();
    let statuses: BTreeMap<_, _> = list
        .statuses
        .into_iter()
        .map(|(name, response)| (name, response.status))
        .collect();
    let expected = ["", "grpc.examples.echo.Echo"].map(|name| (name.to_owned(), SERVING));
    assert_eq!(statuses, expected.into());
}

#[tokio::test]
async fn watch_of_an_unknown_service_says_so_and_stays_open_until_the_server_drains() {
    let mut server = start(echo::APP, &["--drain-timeout", "1h"]).await;
    let mut unknown = watch(&server, "no.Such").await;
    assert_eq!(next(&mut unknown).await.expect("a status"), SERVICE_UNKNOWN);
    server.stop();
    // Had the stream ended before, this would be its end and not the shutdown's.
    let end = within(unknown.message()).await.expect_err("the shutdown");
    assert_eq!(end.code(), Code::Unavailable);
}

#[tokio::test]
async fn shutdown_turns_every_answer_at_once() {
    let mut server = start(echo::APP, &LONG_LAME_DUCK).await;
    let mut watched = watch(&server, "grpc.examples.echo.Echo").await;
    assert_eq!(next(&mut watched).await.expect("a status"), SERVING);
    server.stop();
    assert_eq!(next(&mut watched).await.expect("a status"), NOT_SERVING);
    for name in ["", "grpc.examples.echo.Echo"] {
        assert_eq!(
            check(&server, name).await.expect("a status"),
            NOT_SERVING,
            "{name:?}"
        );
    }
}

#[tokio::test]
async fn watch_ends_with_unavailable_when_the_server_drains() {
    // Long before open calls are ended for the deadline's sake.
    let mut server = start(echo::APP, &["--drain-timeout", "1h"]).await;
    let mut watched = watch(&server, "").await;
    assert_eq!(next(&mut watched).await.expect("a status"), SERVING);
    server.stop();
    assert_eq!(next(&mut watched).await.expect("a status"), NOT_SERVING);
    assert_eq!(
        next(&mut watched).await.expect_err("the end").code(),
        Code::Unavailable
    );
}

#[tokio::test]
async fn a_watch_is_never_silent_for_long_so_that_no_load_balancer_cuts_it() {
    let server = start(echo::APP, &["--watch-heartbeat", "50ms"]).await;
    let mut watched = watch(&server, "").await;
    for _ in 0..3 {
        assert_eq!(next(&mut watched).await.expect("a status"), SERVING);
    }
}

#[tokio::test]
async fn a_watch_ends_when_its_client_has_heard_that_the_connection_does() {
    let mut server = start(echo::APP, &[]).await;
    let mut peer = Peer::connect(server.addr).await.expect("a connection");
    let head = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/grpc.health.v1.Health/Watch"),
        (":authority", "echo"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
    ];
    let head: Vec<u8> = head
        .iter()
        .flat_map(|(name, value)| field(name, value))
        .collect();
    let watch = [
        headers(1, flag::END_HEADERS, &head),
        data(1, flag::END_STREAM, &[0; 5]),
    ];
    peer.send(&[PREFACE, &settings_ack(), &watch.concat()].concat())
        .await;
    let watched = |heard: &Heard| Some(heard.responses.get(&1)?.messages() > 0);
    let watching = |heard: &Heard| watched(heard).filter(|watched| *watched);
    peer.listen(watching).await.expect("a status");

    // GOAWAY comes twice, before and after the answer to a PING.
    server.stop();
    peer.listen(|heard| heard.ping.map(|_| true))
        .await
        .expect("a PING");
    let ping = peer.heard.ping.expect("a PING");
    // It is some way off.
    sleep(Duration::from_millis(20)).await;
    peer.send(&pong(ping)).await;
    let ended = |heard: &Heard| heard.responses[&1].is_whole().then_some(heard.goaways == 2);
    peer.listen(ended)
        .await
        .expect("both GOAWAYs before the end");
}

#[tokio::test]
async fn a_load_balancer_that_reads_only_the_code_is_told_the_truth() {
    let alb = "ELB-HealthChecker/2.0";
    let mut server = start(echo::APP, &LONG_LAME_DUCK).await;
    let mut watched = watch(&server, "").await;
    assert_eq!(next(&mut watched).await.expect("a status"), SERVING);
    for addr in [server.addr, server.admin] {
        assert_eq!(code_for(addr, "/AWS.ALB/healthcheck", alb).await, "0");
        assert_eq!(
            code_for(addr, "/grpc.health.v1.Health/Check", alb).await,
            "0"
        );
    }
    server.stop();
    assert_eq!(next(&mut watched).await.expect("a status"), NOT_SERVING);
    for addr in [server.addr, server.admin] {
        assert_eq!(code_for(addr, "/AWS.ALB/healthcheck", alb).await, "14");
        assert_eq!(
            code_for(addr, "/AWS.ALB/healthcheck", "grpcurl").await,
            "14"
        );
        assert_eq!(
            code_for(addr, "/grpc.health.v1.Health/Check", alb).await,
            "14"
        );
    }
}

#[tokio::test]
async fn health_is_served_in_plaintext_on_the_admin_listener() {
    let server = start(echo::APP, &[]).await;
    let mut client = HealthClient::new(harness::channel(server.admin));
    let response = client
        .check(service("grpc.examples.echo.Echo"))
        .await
        .expect("a status");
    assert_eq!(response.into_inner().status, SERVING);
}

#[tokio::test]
async fn a_server_that_is_bound_but_not_yet_running_answers_nobody_and_then_says_serving() {
    let server = bind(echo::APP, &[], NOTHING).await.expect("bound");
    let addr = server.addr().expect("bound");
    let (answered, answer) = oneshot::channel();
    tokio::spawn(async move {
        let response = HealthClient::new(harness::channel(addr))
            .check(service(""))
            .await;
        let _ = answered.send(response.expect("a status").into_inner().status);
    });
    // The call waits in the queue of the bound listener.
    let _running = run(server);
    assert_eq!(within(answer).await.expect("an answer"), SERVING);
}
