//! What a row found, and numbers as people read them.

use std::time::Duration;

/// Whose server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The suite's.
    Ours,
    /// tonic's own, every setting at its default.
    Plain,
}

/// What was measured of one server.
#[derive(Debug, Default)]
pub struct Measurement {
    said: Vec<String>,
    missed: bool,
    /// A goal was missed that a slow or busy machine misses, too.
    late: bool,
    /// A goal was missed that chance has a part in.
    unlucky: bool,
}

impl Measurement {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A figure that the goal is about; bold if the goal is missed.
    pub fn goal(mut self, met: bool, text: impl AsRef<str>) -> Self {
        self.missed |= !met;
        self.say(met, text.as_ref())
    }

    /// Such a figure, where how fast the machine is and how the server was built have a part in it.
    pub fn figure(mut self, met: bool, text: impl AsRef<str>) -> Self {
        self.late |= !met;
        self.say(met, text.as_ref())
    }

    /// When something came, which it must, and by `limit`, which is such a figure.
    pub fn by(self, time: Option<Duration>, limit: Duration, text: impl AsRef<str>) -> Self {
        match time {
            Some(time) => self.figure(time <= limit, text),
            None => self.goal(false, text),
        }
    }

    /// Such a figure, where chance or what else the machine does has a part in it.
    pub fn likely(mut self, met: bool, text: impl AsRef<str>) -> Self {
        self.unlucky |= !met;
        self.say(met, text.as_ref())
    }

    fn say(mut self, met: bool, text: &str) -> Self {
        let text = if met {
            text.to_owned()
        } else {
            format!("**{text}**")
        };
        self.said.push(text);
        self
    }

    /// Something worth knowing beside the goal.
    pub fn note(mut self, text: impl Into<String>) -> Self {
        self.said.push(text.into());
        self
    }

    /// Whether a goal was missed.
    pub fn missed(&self) -> bool {
        self.missed || self.late || self.unlucky
    }

    /// Whether a goal was missed that no machine may miss.
    pub fn wrong(&self) -> bool {
        self.missed
    }

    /// Whether only goals were missed that another attempt may meet.
    pub fn unlucky(&self) -> bool {
        self.unlucky && !self.missed && !self.late
    }

    /// All of it, as a cell of a table.
    pub fn text(&self) -> String {
        self.said.join("; ")
    }
}

/// A time as `1.23 s`, `4.5 ms` or `67 µs`; `never` if it did not come.
pub fn time(time: impl Into<Option<Duration>>) -> String {
    match time.into().map(|time| time.as_secs_f64()) {
        None => "never".to_owned(),
        Some(s) if s >= 1.0 => format!("{s:.2} s"),
        Some(s) if s >= 0.001 => format!("{:.1} ms", s * 1e3),
        Some(s) => format!("{:.0} µs", s * 1e6),
    }
}

/// Whether something came within `limit`.
pub fn within(time: Option<Duration>, limit: Duration) -> bool {
    time.is_some_and(|time| time <= limit)
}

/// How much more bytes there are than before, as `1.2 MB`.
pub fn growth(before: u64, after: u64) -> (f64, String) {
    let mb = (after as f64 - before as f64) / 1e6;
    (mb, format!("RSS {mb:+.1} MB"))
}

/// The smallest of the times that this share of them does not exceed.
pub fn percentile(times: &mut [Duration], share: f64) -> Option<Duration> {
    let last = times.len().checked_sub(1)?;
    times.sort_unstable();
    Some(times[((times.len() as f64 * share) as usize).min(last)])
}
