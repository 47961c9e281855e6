//! Retries (gRFC A6).
//!
//! A call that no server has processed is retried on another connection at once, whatever its method, and after
//! a backoff if it is refused again. One that may have been processed is retried only if its method is idempotent,
//! after a backoff, and within a budget.
//! <https://github.com/grpc/proposal/blob/master/A6-client-retries.md>

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::time::{Instant, sleep};
use tonic::{Code, Status, body::Body};
use tower::retry::{backoff::Backoff as _, budget::Budget as _};

use crate::{
    Shared,
    backoff::backoff,
    connection::{Delivery, Failure},
    deadline,
    pool::{Picked, Pool},
    replay::Replay,
};

/// As gRFC A6 allows at most.
const MAX_ATTEMPTS: u32 = 5;

const MAX_PUSHBACK_MS: u64 = 60_000;

const PREVIOUS_ATTEMPTS: HeaderName = HeaderName::from_static("grpc-previous-rpc-attempts");
const PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

/// The head of a response, and what is to be dropped when the call is over.
pub(crate) type Answer = Result<(Response<Incoming>, Arc<()>), Status>;

/// When to try again.
enum Retry {
    Never,
    /// It was not sent at all: the connection was about to close.
    Transparent,
    /// No server has processed it.
    Immediate,
    /// There is no server, or it was refused before.
    Backoff,
    /// A server may have processed it: after the pushback of the server, or a backoff.
    Pushback(Option<Duration>),
}

/// Makes a call, as often as it may take and is allowed.
pub(crate) async fn call(
    mut pool: Pool,
    shared: &Shared,
    request: Request<Body>,
    deadline: Option<Instant>,
) -> (Answer, Replay) {
    let (mut head, body) = request.into_parts();
    let idempotent = shared.idempotent.contains(&head.uri.path());
    let body = Replay::new(body);
    let mut pause = backoff();
    // Those who have been asked, and how many of them may have begun.
    let mut asked = Vec::new();
    let mut begun: u32 = 0;
    let mut answer = Err(Status::internal("no attempt"));
    let mut retry = Retry::Immediate;
    let mut attempts = 0;
    shared.budget.deposit();
    while attempts < MAX_ATTEMPTS && !body.is_gone() {
        attempts += u32::from(!matches!(retry, Retry::Transparent));
        match retry {
            Retry::Never => break,
            Retry::Transparent | Retry::Immediate => {}
            Retry::Backoff => pause.next_backoff().await,
            Retry::Pushback(Some(pushback)) if is_beyond(deadline, pushback) => break,
            Retry::Pushback(_) if !shared.budget.withdraw() => break,
            Retry::Pushback(None) => pause.next_backoff().await,
            Retry::Pushback(Some(pushback)) => sleep(pushback).await,
        }
        let picked = match pool.pick(&asked).await {
            Ok(picked) => picked,
            Err(status) => {
                (answer, retry) = (Err(status), Retry::Backoff);
                continue;
            }
        };
        let Some(attempt) = body.attempt() else { break };
        deadline::tell(&mut head.headers, deadline);
        if begun > 0 {
            head.headers.insert(PREVIOUS_ATTEMPTS, begun.into());
        }
        let was_refused = !asked.is_empty();
        asked.push(picked.address.clone());
        let request = Request::from_parts(head.clone(), Body::new(attempt));
        (answer, retry) = send(picked, request, idempotent).await;
        match retry {
            Retry::Pushback(_) => begun += 1,
            Retry::Immediate if was_refused => retry = Retry::Backoff,
            _ => {}
        }
    }
    body.commit();
    (answer, body)
}

fn is_beyond(deadline: Option<Instant>, pause: Duration) -> bool {
    deadline.is_some_and(|deadline| Instant::now() + pause >= deadline)
}

async fn send(mut picked: Picked, request: Request<Body>, idempotent: bool) -> (Answer, Retry) {
    let later = |status: &Status| match idempotent && status.code() == Code::Unavailable {
        true => Retry::Pushback(None),
        false => Retry::Never,
    };
    match picked.sender.send(request).await {
        Ok(response) => match (http_error(&response), idempotent) {
            (Some(status), _) => {
                let retry = later(&status);
                (Err(status), retry)
            }
            (None, true) => {
                let retry = retry_after(response.headers());
                (Ok((response, picked.call)), retry)
            }
            (None, false) => (Ok((response, picked.call)), Retry::Never),
        },
        Err(Failure { status, delivery }) => {
            let retry = match delivery {
                Delivery::NotSent => Retry::Transparent,
                Delivery::NotProcessed => Retry::Immediate,
                Delivery::MaybeProcessed => later(&status),
            };
            (Err(status), retry)
        }
    }
}

/// The status of an answer that is not gRPC's, but of something on the way that knows only HTTP.
/// <https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md>
fn http_error(response: &Response<Incoming>) -> Option<Status> {
    let http = response.status();
    if http == StatusCode::OK || response.headers().contains_key(Status::GRPC_STATUS) {
        return None;
    }
    let code = match http {
        StatusCode::BAD_REQUEST => Code::Internal,
        StatusCode::UNAUTHORIZED => Code::Unauthenticated,
        StatusCode::FORBIDDEN => Code::PermissionDenied,
        StatusCode::NOT_FOUND => Code::Unimplemented,
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => Code::Unavailable,
        _ => Code::Unknown,
    };
    let text = format!("HTTP {http} from something between here and the service");
    Some(Status::new(code, text))
}

/// When to try an idempotent call again that is answered with these headers.
fn retry_after(headers: &HeaderMap) -> Retry {
    let status = Status::from_header_map(headers);
    let unavailable = status.is_some_and(|status| status.code() == Code::Unavailable);
    match headers.get(PUSHBACK) {
        _ if !unavailable => Retry::Never,
        None => Retry::Pushback(None),
        Some(pushback) => match pushback.to_str().map(str::parse) {
            Ok(Ok(pause @ ..=MAX_PUSHBACK_MS)) => {
                Retry::Pushback(Some(Duration::from_millis(pause)))
            }
            // A negative one, and what is no number, says not to; and so does one that nobody waits for.
            _ => Retry::Never,
        },
    }
}
