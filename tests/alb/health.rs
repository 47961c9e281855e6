//! How targets are asked how they are, and what is made of their answers.

use std::{str::FromStr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, Full};
use tokio::time::{interval, timeout};

use super::{
    Error,
    target::{State, Target},
};

/// How targets are checked. The defaults are ALB's.
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/application/target-group-health-checks.html>
#[derive(Debug, Clone)]
pub struct HealthCheck {
    /// The method that is called.
    pub path: String,
    /// Which answers are good.
    pub matcher: Matcher,
    /// Between the beginnings of two checks.
    pub interval: Duration,
    /// How long a target may take to answer.
    pub timeout: Duration,
    /// So many good answers in a row make an unhealthy target healthy.
    pub healthy_threshold: u32,
    /// So many others make it unhealthy.
    pub unhealthy_threshold: u32,
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self {
            path: "/AWS.ALB/healthcheck".into(),
            matcher: Matcher(vec![(12, 12)]),
            interval: Duration::from_secs(30),
            timeout: Duration::from_secs(5),
            healthy_threshold: 5,
            unhealthy_threshold: 2,
        }
    }
}

/// The gRPC codes that are good, such as `0`, `0,12` or `0-5`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matcher(Vec<(u8, u8)>);

impl FromStr for Matcher {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let code = |text: &str| match text.parse() {
            Ok(code @ 0..=99) => Ok(code),
            _ => Err(format!("{text:?} is not a code from 0 to 99")),
        };
        let ranges = text.split(',').map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            match (code(first)?, code(last)?) {
                (first, last) if first <= last => Ok((first, last)),
                _ => Err(format!("{range:?} ends before it begins")),
            }
        });
        ranges.collect::<Result<_, _>>().map(Self)
    }
}

impl Matcher {
    /// Nothing but the code is looked at: neither the HTTP status nor what the message says.
    fn accepts(&self, code: u8) -> bool {
        self.0
            .iter()
            .any(|(first, last)| (*first..=*last).contains(&code))
    }
}

/// Checks a target, for as long as it takes part.
pub(super) async fn check(target: Arc<Target>, settings: HealthCheck) {
    let mut checks = interval(settings.interval);
    let mut last = None;
    let mut in_a_row = 0;
    loop {
        checks.tick().await;
        let asked = timeout(settings.timeout, ask(&target, &settings.path)).await;
        let good = matches!(asked, Ok(Ok(code)) if settings.matcher.accepts(code));
        in_a_row = if last == Some(good) { in_a_row + 1 } else { 1 };
        last = Some(good);
        let takes_part = target.change(|state| match state {
            // "After your target is registered, it must pass one health check to be considered healthy."
            State::Initial if good => State::Healthy,
            State::Unhealthy if good && in_a_row >= settings.healthy_threshold => State::Healthy,
            State::Initial | State::Healthy
                if !good && in_a_row >= settings.unhealthy_threshold =>
            {
                State::Unhealthy
            }
            state => state,
        });
        if !takes_part {
            return;
        }
    }
}

/// The code that a target answers with, on a connection of its own, as the same page has it.
async fn ask(target: &Target, path: &str) -> Result<u8, Error> {
    // Assumed: an empty message, without which no server could answer OK.
    let body = Full::new(Bytes::from_static(b"\0\0\0\0\0"));
    let request = Request::post(target.url(path)?)
        // The name: services/chassis/src/services/health.rs tells these checks by it.
        .header("user-agent", "ELB-HealthChecker/2.0")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(body)?;
    let (mut requests, connection) = target
        .connect()
        .await
        .map_err(|status| status.to_string())?;
    let _connection = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(connection));
    let (head, body) = requests.send_request(request).await?.into_parts();
    let body = body.collect().await?;
    let code = |fields: &HeaderMap| fields.get("grpc-status")?.to_str().ok()?.parse().ok();
    let code = body
        .trailers()
        .and_then(code)
        .or_else(|| code(&head.headers));
    code.ok_or_else(|| "no grpc-status".into())
}
