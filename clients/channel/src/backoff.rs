//! Pauses between attempts, to connect or to call.

use std::time::Duration;

use tower::{
    retry::backoff::{ExponentialBackoff, ExponentialBackoffMaker, MakeBackoff as _},
    util::rng::HasherRng,
};

/// Exponential backoff with jitter.
pub(crate) fn backoff() -> ExponentialBackoff {
    const SHORTEST: Duration = Duration::from_millis(50);
    const LONGEST: Duration = Duration::from_secs(5);
    let maker = ExponentialBackoffMaker::new(SHORTEST, LONGEST, 0.5, HasherRng::new());
    maker.expect("shortest below longest").make_backoff()
}
