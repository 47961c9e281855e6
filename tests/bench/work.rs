//! What is asked of the servers, how it is checked, and what is to come of it.

use std::path::{Path, PathBuf};

use harness::framed;
use prost::Message;
use proto::helloworld::{HelloReply, HelloRequest, greeter_client::GreeterClient};
use tonic::transport::Channel;

/// A row of the bench: one call, in one shape of load.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) call: Call,
    pub(crate) connections: u64,
    pub(crate) streams: u64,
    /// What processor time is counted by, and how many of them a call has.
    pub(crate) unit: (&'static str, u64),
    /// The names of the peers.
    pub(crate) peers: &'static [&'static str],
    /// How many times our processor time these are to take at least.
    pub(crate) goals: &'static [(&'static str, f64)],
}

const ALL: &[&str] = &["stock", "go", "cpp", "python", "limit-hyper", "limit-h2"];

pub(crate) const WORKS: &[Work] = &[
    Work {
        name: "hello-50x20",
        title: "SayHello, 50 connections × 20 streams",
        call: Call::Hello,
        connections: 50,
        streams: 20,
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
        connections: 50,
        streams: 1,
        unit: ("request", 1),
        peers: ALL,
        goals: &[("stock", 1.6)],
    },
];

/// A method, what it is asked, and what it must answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Hello,
}

impl Call {
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Hello => "/helloworld.Greeter/SayHello",
        }
    }

    /// Which of our servers has it.
    pub(crate) fn binary(self) -> &'static str {
        match self {
            Self::Hello => "greeter",
        }
    }

    pub(crate) fn features_file(self) -> &'static str {
        "data/route_guide_db.json"
    }

    /// Writes what a request's body holds.
    pub(crate) fn write_body(self, folder: &Path) -> PathBuf {
        let body = match self {
            Self::Hello => framed(&hello()),
        };
        let path = folder.join(format!("{self:?}"));
        std::fs::write(&path, body).expect("a file");
        path
    }

    /// Makes it once with a real client: the bytes of the answer, if that is right.
    ///
    /// # Panics
    ///
    /// If it is not.
    pub(crate) async fn check(self, channel: Channel) -> u64 {
        match self {
            Self::Hello => {
                let reply = GreeterClient::new(channel).say_hello(hello()).await;
                let reply = reply.expect("a greeting").into_inner();
                let message = "Hello tonic".to_owned();
                assert_eq!(reply, HelloReply { message });
                size(&reply)
            }
        }
    }
}

fn hello() -> HelloRequest {
    HelloRequest {
        name: "tonic".into(),
    }
}

/// Of a message in the body, with what is before it.
fn size(message: &impl Message) -> u64 {
    message.encoded_len() as u64 + 5
}
