//! Heartbeats: empty notes for idle chats, which a load balancer would otherwise cut.

use std::{future::pending, time::Duration};

use tokio::time::{Instant, sleep_until};

/// When the next heartbeat of a chat is due.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    /// None if the client has not requested any.
    every: Option<Duration>,
    silent_since: Instant,
}

impl Heartbeat {
    /// Parses the requested interval: whole seconds, from 1 to 3600. The error names the problem.
    pub(crate) fn asked(seconds: Option<&str>) -> Result<Self, String> {
        let every = seconds.map(|text| match text.parse() {
            Ok(seconds @ 1..=3600) => Ok(Duration::from_secs(seconds)),
            _ => Err(format!(
                "{text:.20?} is no number of seconds from 1 to 3600"
            )),
        });
        Ok(Self {
            every: every.transpose()?,
            silent_since: Instant::now(),
        })
    }

    /// Restarts the interval, after a message.
    pub(crate) fn said(&mut self) {
        self.silent_since = Instant::now();
    }

    /// Waits until no message has been sent for the interval.
    pub(crate) async fn due(&self) {
        match self.every {
            Some(every) => sleep_until(self.silent_since + every).await,
            None => pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Heartbeat;

    #[test]
    fn only_seconds_are_taken() {
        assert!(Heartbeat::asked(None).is_ok());
        for good in ["1", "3600"] {
            assert!(Heartbeat::asked(Some(good)).is_ok(), "{good}");
        }
        for bad in [
            "",
            "0",
            "3601",
            "-1",
            "1.5",
            "25s",
            "99999999999999999999999",
        ] {
            let problem = Heartbeat::asked(Some(bad)).expect_err(bad);
            assert!(problem.contains("seconds from 1 to 3600"), "{problem}");
        }
    }
}
