//! What was seen in a simulation.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tonic::Code;

/// All times are since the simulation began.
#[derive(Debug, Default)]
pub(crate) struct Record {
    pub(crate) calls: Vec<Call>,
    /// By the number of the call: where and when handlers have begun with it.
    pub(crate) executions: BTreeMap<u64, Vec<(usize, Duration)>>,
    /// For each server, its processes.
    pub(crate) processes: BTreeMap<usize, Vec<Process>>,
    /// For each server, when what it requires was away.
    pub(crate) sick: BTreeMap<usize, Vec<Window>>,
    /// Between a caller and a server.
    pub(crate) cuts: BTreeMap<(usize, usize), Vec<Window>>,
    pub(crate) checks: Vec<Check>,
    pub(crate) sittings: Vec<Sitting>,
}

/// A span of time; open until its end is known.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    pub(crate) from: Duration,
    pub(crate) to: Option<Duration>,
}

/// A process of a server.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Process {
    pub(crate) up: Duration,
    /// When it was told to stop.
    pub(crate) told: Option<Duration>,
    /// When it had stopped.
    pub(crate) stopped: Option<Duration>,
    pub(crate) killed: Option<Duration>,
}

#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) number: u64,
    pub(crate) caller: usize,
    pub(crate) kind: Kind,
    pub(crate) begun: Duration,
    pub(crate) ended: Duration,
    pub(crate) deadline: Duration,
    pub(crate) outcome: Outcome,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A unary call that may not be carried out twice.
    Once,
    /// One that may.
    Idempotent,
    /// A stream of replies.
    Stream,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Right,
    /// An answer, but not this call's.
    Wrong(String),
    Failed(Code, String),
}

/// Somebody has asked a server for its health, on a connection of its own.
#[derive(Debug)]
pub(crate) struct Check {
    pub(crate) server: usize,
    pub(crate) asked: Duration,
    pub(crate) answered: Duration,
    pub(crate) answer: Answer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Serving,
    NotServing,
    /// Nobody listens.
    Refused,
    /// Anything else.
    None,
}

/// A connection of somebody who does not go of his own will.
#[derive(Debug)]
pub(crate) struct Sitting {
    pub(crate) server: usize,
    /// It has never said anything.
    pub(crate) mute: bool,
    pub(crate) from: Duration,
    pub(crate) to: Duration,
}

/// A record that everybody writes to.
pub(crate) type Shared = Arc<Mutex<Record>>;

pub(crate) fn open(record: &Shared) -> MutexGuard<'_, Record> {
    record.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Record {
    /// The latest process of a server, if there is one.
    pub(crate) fn latest(&mut self, server: usize) -> Option<&mut Process> {
        self.processes.entry(server).or_default().last_mut()
    }

    /// In one line; no two records have the same one.
    pub(crate) fn summary(&self) -> String {
        let mut hash = DefaultHasher::new();
        format!("{self:?}").hash(&mut hash);
        let failed = |call: &&Call| call.outcome != Outcome::Right;
        format!(
            "{} calls, {} of them failed for a reason, {} processes, {} checks, {} sittings; {:016x}",
            self.calls.len(),
            self.calls.iter().filter(failed).count(),
            self.processes.values().map(Vec::len).sum::<usize>(),
            self.checks.len(),
            self.sittings.len(),
            hash.finish(),
        )
    }
}

impl Window {
    pub(crate) fn begin(from: Duration) -> Self {
        Self { from, to: None }
    }

    /// Whether the two have a moment in common.
    pub(crate) fn overlaps(&self, from: Duration, to: Duration) -> bool {
        self.from <= to && self.to.is_none_or(|end| from <= end)
    }
}
