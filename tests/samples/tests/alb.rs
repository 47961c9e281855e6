//! RouteGuide behind the double of a load balancer.

use std::{collections::BTreeMap, time::Duration};

use ::alb::{Alb, GroupSettings, HealthCheck, Settings, State};
use harness::{channel, start, within};
use proto::routeguide::route_guide_client::RouteGuideClient;
use tonic::{Code, Request, metadata::MetadataValue};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

const GROUP: &str = "group";

#[tokio::test]
async fn our_long_streams_outlive_the_idle_timeout_and_a_chat_without_heartbeats_is_cut() {
    let server = start(route_guide::APP, &["--watch-heartbeat", "1s"]).await;
    let health = HealthCheck {
        matcher: "0".parse().expect("a code"),
        interval: Duration::from_millis(20),
        ..HealthCheck::default()
    };
    let group = GroupSettings {
        health,
        ..GroupSettings::default()
    };
    let settings = Settings {
        rules: vec!["*=group".parse().expect("a rule")],
        groups: BTreeMap::from([(GROUP.to_owned(), group)]),
        idle_timeout: Duration::from_secs(2),
        ..Settings::default()
    };
    let alb = Alb::start(settings).await.expect("settings");
    alb.register(GROUP, server.addr);
    within(alb.reaches(GROUP, server.addr, State::Healthy)).await;
    let chat = async |heartbeat: &[(&'static str, &'static str)]| {
        let mut request = Request::new(tokio_stream::pending());
        for (name, value) in heartbeat {
            let value = MetadataValue::from_static(value);
            request.metadata_mut().insert(*name, value);
        }
        let mut client = RouteGuideClient::new(channel(alb.addr));
        let chat = within(client.route_chat(request)).await;
        chat.expect("a chat").into_inner()
    };
    let mut watch = HealthClient::new(channel(alb.addr));
    let watch = within(watch.watch(HealthCheckRequest::default())).await;
    let mut watch = watch.expect("a watch").into_inner();
    let mut living = chat(&[("x-heartbeat", "1")]).await;
    let mut silent = chat(&[]).await;

    let cut = within(silent.message()).await.expect_err("a cut");
    assert_eq!(cut.code(), Code::Internal, "{cut}");
    // What they received before that, and one message after it.
    for _ in 0..3 {
        within(watch.message()).await.expect("an open watch");
        within(living.message()).await.expect("an open chat");
    }
}
