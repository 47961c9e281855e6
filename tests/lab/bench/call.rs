//! The calls, what they are made with, and what must come of them.

use std::{
    fs::{self, File},
    io::{self, BufWriter},
    net::SocketAddr,
    path::PathBuf,
};

use harness::{Conversation, framed};
use prost::Message;
use proto::{
    helloworld::{HelloReply, HelloRequest},
    routeguide::{Feature, Point, Rectangle, RouteSummary},
};
use samples::features;
use tempfile::TempDir;
use tonic::Code;

use crate::bench::h2load::{GRPC, Load};

/// How many features ListFeatures sends.
pub(crate) const FEATURES: u64 = 100_000;

/// How many points RecordRoute is sent.
pub(crate) const POINTS: u64 = 10_000;

/// A method, what it is asked, and what it must answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    /// SayHello.
    Hello,
    /// ListFeatures of a large file, all of them.
    List,
    /// ListFeatures of the suite's own file, all of them.
    Few,
    /// RecordRoute, up and down a meridian through a feature.
    Record,
}

impl Call {
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Hello => "/helloworld.Greeter/SayHello",
            Self::List | Self::Few => "/routeguide.RouteGuide/ListFeatures",
            Self::Record => "/routeguide.RouteGuide/RecordRoute",
        }
    }

    /// Which of our servers has it.
    pub(crate) fn binary(self) -> &'static str {
        match self {
            Self::Hello => "greeter",
            Self::List | Self::Few | Self::Record => "route-guide",
        }
    }

    /// The same for h2load, of a server that gives right answers.
    pub(crate) async fn load(self, addr: SocketAddr, files: &Files, at_once: [u64; 2]) -> Load {
        let [connections, streams] = at_once;
        Load {
            addr,
            path: self.path(),
            headers: GRPC,
            body: Some(files.body(self)),
            http1: false,
            connections,
            streams,
            reply: self.check(addr).await,
        }
    }

    /// The body of a request.
    fn body(self) -> Vec<u8> {
        match self {
            Self::Hello => framed(&hello()).into(),
            Self::List | Self::Few => framed(&globe()).into(),
            Self::Record => route().flat_map(|point| framed(&point)).collect(),
        }
    }

    /// Makes it once, and looks at all of the answer: its length in bytes.
    ///
    /// # Panics
    ///
    /// If it is not right.
    pub(crate) async fn check(self, addr: SocketAddr) -> u64 {
        let mut call = Conversation::with(addr).await.call(self.path(), &[]).await;
        call.send(self.body(), true);
        let ending = call.end().await;
        assert_eq!(ending.code(), Some(Code::Ok), "{ending:?}");
        match self {
            Self::Hello => {
                let message = "Hello tonic".into();
                assert_eq!(ending.body, framed(&HelloReply { message }));
            }
            Self::List => judge_features(&ending.body, many()),
            Self::Few => judge_features(&ending.body, features::all()),
            Self::Record => judge_summary(ending.body.get(5..).unwrap_or_default()),
        }
        ending.body.len() as u64
    }
}

fn judge_features(body: &[u8], features: impl IntoIterator<Item = Feature>) {
    let features = features.into_iter();
    let expected: Vec<u8> = features.flat_map(|feature| framed(&feature)).collect();
    assert!(body == expected, "other features");
}

fn judge_summary(message: &[u8]) {
    let summary = RouteSummary::decode(message).expect("a summary");
    let found = (summary.point_count, summary.feature_count);
    // Every hundredth is back at the feature.
    assert_eq!(found, (POINTS as i32, POINTS as i32 / 100));
    let metres = 6_371_000.0 * (f64::from(STEP) / 1e7).to_radians() * (POINTS - 1) as f64;
    // tonic's example truncates between any two points.
    let too_short = metres - f64::from(summary.distance);
    assert!((0.0..POINTS as f64).contains(&too_short), "{summary:?}");
}

/// What the servers and h2load read.
#[derive(Debug)]
pub(crate) struct Files(TempDir);

impl Files {
    pub(crate) fn write() -> io::Result<Self> {
        let folder = TempDir::new()?;
        let features = File::create(folder.path().join("features.json"))?;
        serde_json::to_writer(BufWriter::new(features), &many().collect::<Vec<_>>())?;
        for call in [Call::Hello, Call::List, Call::Few, Call::Record] {
            fs::write(folder.path().join(format!("{call:?}")), call.body())?;
        }
        Ok(Self(folder))
    }

    pub(crate) fn body(&self, call: Call) -> PathBuf {
        self.0.path().join(format!("{call:?}"))
    }

    /// From the root of the workspace.
    pub(crate) fn features(&self, call: Call) -> PathBuf {
        match call {
            Call::List => self.0.path().join("features.json"),
            Call::Hello | Call::Few | Call::Record => "data/route_guide_db.json".into(),
        }
    }
}

fn hello() -> HelloRequest {
    HelloRequest {
        name: "tonic".into(),
    }
}

fn globe() -> Rectangle {
    let corner = |sign| Point {
        latitude: sign * 900_000_000,
        longitude: sign * 1_800_000_000,
    };
    Rectangle {
        lo: Some(corner(-1)),
        hi: Some(corner(1)),
    }
}

/// As long as those of the suite's own file, on average.
fn many() -> impl Iterator<Item = Feature> {
    (0..FEATURES as i32).map(|nth| Feature {
        name: format!("{nth:06} Broadway, New Amsterdam, NY, USA"),
        location: Some(Point {
            latitude: 400_000_000 + nth / 1000 * 1000,
            longitude: -750_000_000 + nth % 1000 * 1000,
        }),
    })
}

/// A hundredth of a degree.
const STEP: i32 = 100_000;

fn route() -> impl Iterator<Item = Point> {
    let start = features::all().first().and_then(|first| first.location);
    let start = start.expect("a feature");
    (0..POINTS as i32).map(move |nth| Point {
        latitude: start.latitude + (nth % 100).min(100 - nth % 100) * STEP,
        ..start
    })
}
