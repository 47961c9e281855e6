//! What becomes of a call that its server did not take or could not answer (gRFC A6).
//!
//! A call that no server has begun with is tried elsewhere at once, whatever it is, and after a pause if it
//! is refused again. One that may have been begun with is tried again only if its method is idempotent,
//! after a pause, and within a budget.
//! <https://github.com/grpc/proposal/blob/master/A6-client-retries.md>

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::time::{Instant, sleep};
use tonic::{Code, Status, body::Body};
use tower::{
    retry::{
        backoff::{Backoff as _, ExponentialBackoff, ExponentialBackoffMaker, MakeBackoff as _},
        budget::Budget as _,
    },
    util::rng::HasherRng,
};

use crate::{
    Shared,
    connection::{CameTo, NoAnswer},
    deadline,
    pool::{Chosen, Pool},
    replay::Replay,
};

/// As gRFC A6 allows at most.
const MOST_ATTEMPTS: u32 = 5;

/// In milliseconds.
const LONGEST_PUSHBACK: u64 = 60_000;

const PREVIOUS_ATTEMPTS: HeaderName = HeaderName::from_static("grpc-previous-rpc-attempts");
const PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

/// Pauses that double, up to the longest, with some chance in them.
pub(crate) fn backoff() -> ExponentialBackoff {
    const SHORTEST: Duration = Duration::from_millis(50);
    const LONGEST: Duration = Duration::from_secs(5);
    let maker = ExponentialBackoffMaker::new(SHORTEST, LONGEST, 0.5, HasherRng::new());
    maker.expect("shortest below longest").make_backoff()
}

/// The head of a response, and what is to be dropped when the call is over.
pub(crate) type Answer = Result<(Response<Incoming>, Arc<()>), Status>;

/// When to try again.
enum Again {
    Never,
    /// It was not sent at all: the connection was about to close.
    Elsewhere,
    /// No server has begun with it.
    AtOnce,
    /// There is no server, or it was refused before.
    AfterAPause,
    /// A server may have begun with it: after this pause of the server's, or one of ours.
    Later(Option<Duration>),
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
    let mut again = Again::AtOnce;
    let mut attempts = 0;
    shared.budget.deposit();
    while attempts < MOST_ATTEMPTS && !body.is_gone() {
        attempts += u32::from(!matches!(again, Again::Elsewhere));
        match again {
            Again::Never => break,
            Again::Elsewhere | Again::AtOnce => {}
            Again::AfterAPause => pause.next_backoff().await,
            Again::Later(Some(pushback)) if is_beyond(deadline, pushback) => break,
            Again::Later(_) if !shared.budget.withdraw() => break,
            Again::Later(None) => pause.next_backoff().await,
            Again::Later(Some(pushback)) => sleep(pushback).await,
        }
        let chosen = match pool.choose(&asked).await {
            Ok(chosen) => chosen,
            Err(status) => {
                (answer, again) = (Err(status), Again::AfterAPause);
                continue;
            }
        };
        let Some(attempt) = body.attempt() else { break };
        deadline::tell(&mut head.headers, deadline);
        if begun > 0 {
            head.headers.insert(PREVIOUS_ATTEMPTS, begun.into());
        }
        let was_refused = !asked.is_empty();
        asked.push(chosen.address.clone());
        let request = Request::from_parts(head.clone(), Body::new(attempt));
        (answer, again) = send(chosen, request, idempotent).await;
        match again {
            Again::Later(_) => begun += 1,
            Again::AtOnce if was_refused => again = Again::AfterAPause,
            _ => {}
        }
    }
    body.commit();
    (answer, body)
}

fn is_beyond(deadline: Option<Instant>, pause: Duration) -> bool {
    deadline.is_some_and(|deadline| Instant::now() + pause >= deadline)
}

async fn send(mut chosen: Chosen, request: Request<Body>, idempotent: bool) -> (Answer, Again) {
    let later = |status: &Status| match idempotent && status.code() == Code::Unavailable {
        true => Again::Later(None),
        false => Again::Never,
    };
    match chosen.sender.send(request).await {
        Ok(response) => match (of_a_proxy(&response), idempotent) {
            (Some(status), _) => {
                let again = later(&status);
                (Err(status), again)
            }
            (None, true) => {
                let again = when(response.headers());
                (Ok((response, chosen.call)), again)
            }
            (None, false) => (Ok((response, chosen.call)), Again::Never),
        },
        Err(NoAnswer { status, came_to }) => {
            let again = match came_to {
                CameTo::Nobody => Again::Elsewhere,
                CameTo::NoHandler => Again::AtOnce,
                CameTo::Anything => later(&status),
            };
            (Err(status), again)
        }
    }
}

/// The status of an answer that is not gRPC's, but of something on the way that knows only HTTP.
/// <https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md>
fn of_a_proxy(response: &Response<Incoming>) -> Option<Status> {
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
fn when(headers: &HeaderMap) -> Again {
    let status = Status::from_header_map(headers);
    let unavailable = status.is_some_and(|status| status.code() == Code::Unavailable);
    match headers.get(PUSHBACK) {
        _ if !unavailable => Again::Never,
        None => Again::Later(None),
        Some(pushback) => match pushback.to_str().map(str::parse) {
            Ok(Ok(pause @ ..=LONGEST_PUSHBACK)) => Again::Later(Some(Duration::from_millis(pause))),
            // A negative one, and what is no number, says not to; and so does one that nobody waits for.
            _ => Again::Never,
        },
    }
}
