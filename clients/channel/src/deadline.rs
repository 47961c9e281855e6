//! The deadline of a call, over all its attempts and to the end of its stream.

use std::time::Duration;

use http::HeaderMap;
use tokio::time::Instant;
use tonic::{Request, Status};

const TIMEOUT: &str = "grpc-timeout";

/// When a call with these headers has to be over.
/// <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>
pub(crate) fn of(headers: &HeaderMap) -> Option<Instant> {
    let text = headers.get(TIMEOUT)?.to_str().ok()?;
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number = number.parse::<u32>().ok()?;
    let unit = match unit {
        "H" => Duration::from_secs(60 * 60),
        "M" => Duration::from_secs(60),
        "S" => Duration::from_secs(1),
        "m" => Duration::from_millis(1),
        "u" => Duration::from_micros(1),
        "n" => Duration::from_nanos(1),
        _ => return None,
    };
    Instant::now().checked_add(unit.checked_mul(number)?)
}

/// Tells the server what is left of the time.
pub(crate) fn tell(headers: &mut HeaderMap, deadline: Option<Instant>) {
    let Some(deadline) = deadline else { return };
    // It knows how to write one.
    let mut request = Request::new(());
    request.set_timeout(deadline.saturating_duration_since(Instant::now()));
    headers.extend(request.into_parts().0.into_headers());
}

pub(crate) fn exceeded() -> Status {
    Status::deadline_exceeded("the deadline has passed")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::HeaderMap;
    use tokio::time::Instant;

    use super::{of, tell};

    #[test]
    fn what_is_told_is_understood() {
        let began = Instant::now();
        for left in [1, 999, 60_000, 1_000_000_000].map(Duration::from_millis) {
            let mut headers = HeaderMap::new();
            tell(&mut headers, Some(began + left));
            let deadline = of(&headers).expect("a deadline");
            let error = deadline.duration_since(began).abs_diff(left);
            assert!(error < Duration::from_secs(1), "{left:?}: {headers:?}");
        }
    }

    #[test]
    fn what_is_no_timeout_sets_no_deadline() {
        for text in ["", "5", "S", "5x", "-1S", "99999999999S", "\u{e4}"] {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", text.parse().expect("a value"));
            assert_eq!(of(&headers), None, "{text}");
        }
    }
}
