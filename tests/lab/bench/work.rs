//! What is asked of the servers, and what is to come of it.

use crate::bench::call::{Call, FEATURES, POINTS};

/// A table of the bench: one call, in one shape of load.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) call: Call,
    /// Connections, and streams on each.
    pub(crate) at_once: [u64; 2],
    /// What processor time is counted by, and how many of them a call has.
    pub(crate) unit: (&'static str, u64),
    /// The names of those who can do it.
    pub(crate) peers: &'static [&'static str],
    /// How many times our processor time they are to take at least.
    pub(crate) goals: &'static [(&'static str, f64)],
}

/// Who does the work.
pub(crate) const SERVERS: &[&str] = &["stock", "go", "cpp", "python"];

/// And who only shows how little it can take.
const ALL: &[&str] = &["stock", "go", "cpp", "python", "limit-hyper", "limit-h2"];

pub(crate) const WORKS: &[Work] = &[
    Work {
        name: "hello-50x20",
        title: "SayHello, 50 connections × 20 streams",
        call: Call::Hello,
        at_once: [50, 20],
        unit: ("request", 1),
        peers: ALL,
        goals: &[
            ("stock", 2.2),
            ("go", 2.5),
            ("cpp", 2.3),
            ("python", 25.0),
            ("limit-hyper", 0.83),
        ],
    },
    Work {
        name: "hello-50x1",
        title: "SayHello, 50 connections × 1 stream",
        call: Call::Hello,
        at_once: [50, 1],
        unit: ("request", 1),
        peers: ALL,
        goals: &[("stock", 1.6)],
    },
    Work {
        name: "list",
        title: "ListFeatures, 100 000 features a call",
        call: Call::List,
        at_once: [1, 1],
        unit: ("message", FEATURES),
        peers: &["stock", "go", "cpp", "python", "limit-hyper"],
        goals: &[
            ("stock", 15.0),
            ("go", 17.0),
            ("cpp", 60.0),
            ("limit-hyper", 0.7),
        ],
    },
    Work {
        name: "record",
        title: "RecordRoute, 10 000 points a call",
        call: Call::Record,
        at_once: [1, 1],
        unit: ("point", POINTS),
        peers: SERVERS,
        goals: &[("stock", 1.35), ("go", 7.0)],
    },
];
