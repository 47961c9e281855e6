//! How often things happen, and warnings that do not fill the log when what they are about happens all the time.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Lets one warning a minute through for each reason.
#[derive(Debug, Default)]
pub(crate) struct Throttle(Mutex<HashMap<&'static str, Last>>);

#[derive(Debug)]
struct Last {
    at: Instant,
    suppressed: u64,
}

impl Throttle {
    /// How many warnings for this reason have been suppressed since the last; None if this one is, too.
    pub(crate) fn pass(&self, reason: &'static str) -> Option<u64> {
        self.pass_at(reason, Instant::now())
    }

    fn pass_at(&self, reason: &'static str, now: Instant) -> Option<u64> {
        const INTERVAL: Duration = Duration::from_secs(60);
        let mut reasons = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let first = Last {
            at: now,
            suppressed: 0,
        };
        match reasons.get_mut(reason) {
            Some(last) if now - last.at < INTERVAL => {
                last.suppressed += 1;
                None
            }
            _ => Some(
                reasons
                    .insert(reason, first)
                    .map_or(0, |last| last.suppressed),
            ),
        }
    }
}

/// What was counted in the current second.
#[derive(Debug, Default)]
pub(crate) struct Rate {
    since: Option<Instant>,
    count: u32,
}

impl Rate {
    /// Counts more, and returns how many there have been in this second.
    pub(crate) fn add(&mut self, count: u32) -> u32 {
        let now = Instant::now();
        if (self.since).is_none_or(|since| now - since >= Duration::from_secs(1)) {
            *self = Self {
                since: Some(now),
                count: 0,
            };
        }
        self.count = self.count.saturating_add(count);
        self.count
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::Throttle;

    #[test]
    fn one_a_minute_passes_for_each_reason_and_says_how_many_did_not() {
        let throttle = Throttle::default();
        let now = Instant::now();
        let later = now + Duration::from_secs(60);
        for (reason, at, passes) in [
            ("a", now, Some(0)),
            ("a", now, None),
            ("a", later - Duration::from_millis(1), None),
            ("b", now, Some(0)),
            ("a", later, Some(2)),
            ("a", later, None),
        ] {
            assert_eq!(throttle.pass_at(reason, at), passes, "{reason} {at:?}");
        }
    }
}
