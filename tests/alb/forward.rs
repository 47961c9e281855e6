//! A request on its way to a target, and the answer, or what the load balancer says instead.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use h2::Reason;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper::body::Incoming;

use super::{
    Error,
    listener::{Client, Listener},
    target::{State, Target},
    watched::{Activity, Count, Watched},
};

type Answer = Response<UnsyncBoxBody<Bytes, Error>>;

impl Listener {
    /// Answers a request, or resets its stream if the connection has carried all that it may.
    ///
    /// GOAWAY then names the last stream that was served, so what the client has sent after it was not
    /// looked at: <https://github.com/envoyproxy/envoy/issues/36450>. REFUSED_STREAM says the same.
    pub(super) async fn forward(
        &self,
        client: &Client,
        request: Request<Incoming>,
    ) -> Result<Answer, h2::Error> {
        let count = Count::of(&client.in_flight);
        if !client.admits(self.settings.requests_per_connection) {
            return Err(Reason::REFUSED_STREAM.into());
        }
        let answer = self.route(client, request, count).await;
        Ok(answer.unwrap_or_else(page))
    }

    /// Codes and causes:
    /// <https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-troubleshooting.html#load-balancer-http-error-codes>
    async fn route(
        &self,
        client: &Client,
        request: Request<Incoming>,
        count: Count,
    ) -> Result<Answer, StatusCode> {
        let mut rules = self.settings.rules.iter();
        let rule = rules.find(|rule| rule.matches(request.uri().path()));
        let group = rule.and_then(|rule| self.groups.get(&rule.group));
        let group = group.ok_or(StatusCode::NOT_FOUND)?;
        if request.version() != Version::HTTP_2 || request.method() != Method::POST {
            return Err(StatusCode::from_u16(464).expect("three digits"));
        }
        // Also where targets are only initial, which is assumed.
        let (target, in_flight) = group.next().ok_or(StatusCode::SERVICE_UNAVAILABLE)?;
        let activity = Activity::new(self.settings.idle_timeout);
        let body_given_up = given_up(activity.clone(), target.clone());
        let request = self.addressed(request, client.addr.ip(), &target)?;
        let request = request.map(|body| Watched::new(body, &activity, body_given_up, Vec::new()));
        let answer = tokio::select! {
            answer = target.send(request) => answer,
            () = given_up(activity.clone(), target.clone()) => Err(StatusCode::BAD_GATEWAY),
        };
        match answer {
            Ok((answer, on_link)) => {
                let counts = vec![count, in_flight, on_link];
                let given_up = given_up(activity.clone(), target);
                let watched = |body| Watched::new(body, &activity, given_up, counts).boxed_unsync();
                Ok(answer.map(watched))
            }
            Err(_) if activity.is_idle() => Err(StatusCode::GATEWAY_TIMEOUT),
            Err(status) => Err(status),
        }
    }

    fn addressed(
        &self,
        request: Request<Incoming>,
        client: IpAddr,
        target: &Target,
    ) -> Result<Request<Incoming>, StatusCode> {
        let (mut head, body) = request.into_parts();
        let authority = head.uri.authority().ok_or(StatusCode::BAD_REQUEST)?;
        let path = head.uri.path_and_query().ok_or(StatusCode::BAD_REQUEST)?;
        let uri = target.addressed(authority.as_str(), path.as_str());
        head.uri = uri.map_err(|_| StatusCode::BAD_REQUEST)?;
        let secure = self.settings.certificate.is_some();
        tell(&mut head.headers, client, self.addr, secure);
        Ok(Request::from_parts(head, body))
    }
}

/// Returns when a request has become idle, or has outlasted its target's deregistration delay.
async fn given_up(activity: Arc<Activity>, target: Arc<Target>) {
    tokio::select! {
        () = activity.idle() => {}
        () = target.reaches(State::Unused) => {}
    }
}

/// Tells the target where the request came from. What is said of protocol and port replaces what the
/// client may have said, which is assumed.
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/application/x-forwarded-headers.html>
fn tell(headers: &mut HeaderMap, client: IpAddr, listener: SocketAddr, secure: bool) {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let forwarded_for = match text("x-forwarded-for") {
        Some(before) => format!("{before}, {client}"),
        None => client.to_string(),
    };
    let trace = trace(text("x-amzn-trace-id"));
    let proto = if secure { "https" } else { "http" };
    for (name, value) in [
        ("x-forwarded-for", forwarded_for),
        ("x-forwarded-proto", proto.into()),
        ("x-forwarded-port", listener.port().to_string()),
        ("x-amzn-trace-id", trace),
    ] {
        let value = HeaderValue::try_from(value).expect("visible characters");
        headers.insert(name, value);
    }
}

/// The trace that a request belongs to: a new one, or what it brought with a Self of ours.
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-request-tracing.html>
fn trace(brought: Option<&str>) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let seconds = now.map_or(0, |now| now.as_secs());
    let id = format!("1-{seconds:08x}-{:024x}", rand::random::<u128>() >> 32);
    match brought.filter(|brought| brought.contains("Root=")) {
        None => format!("Root={id}"),
        Some(brought) => {
            let fields = brought
                .split(';')
                .filter(|field| !field.starts_with("Self="));
            format!("Self={id};{}", fields.collect::<Vec<_>>().join(";"))
        }
    }
}

/// A page of the load balancer's own, of which gRPC understands nothing:
/// <https://github.com/esi/esi-issues/issues/902>. That 464 has one as well is assumed.
fn page(status: StatusCode) -> Answer {
    let code = status.as_u16();
    let title = status
        .canonical_reason()
        .map_or_else(|| code.to_string(), |reason| format!("{code} {reason}"));
    let body = format!(
        "<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n</body>\r\n</html>\r\n"
    );
    let body = Full::from(body).map_err(|never| match never {});
    let mut answer = Response::new(body.boxed_unsync());
    *answer.status_mut() = status;
    for (name, value) in [("server", "awselb/2.0"), ("content-type", "text/html")] {
        answer
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    answer
}
