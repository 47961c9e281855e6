//! What a peer can send to the echo server, each with the reaction that a document requires: RFC 9113,
//! RFC 7541, gRPC's own description of its use of HTTP/2, or the README's limits.

use std::{fmt, iter, net::SocketAddr};

mod grpc;
mod http2;

pub use grpc::stalls;

use prost::Message as _;
use echo::pb::EchoRequest;

use crate::{
    PREFACE,
    frames::{
        Heard, Peer, code, continuation, data, field, flag, frame, goaway, header, headers, kind,
        message, padded, ping, priority, push_promise, rst_stream, setting, settings, settings_ack,
        window_update,
    },
};

/// Something to send, and what must come of it.
#[derive(Debug, Clone)]
pub struct Case {
    /// In words.
    pub name: &'static str,
    /// Who requires the reaction.
    pub source: &'static str,
    /// From the first byte of the connection.
    pub sends: Vec<u8>,
    /// What must follow.
    pub reaction: Reaction,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {:?}", self.name, self.source, self.reaction)
    }
}

/// What a server can do about it. After all but the end of the connection, the same connection must
/// still serve a call.
#[derive(Debug, Clone, Copy)]
pub enum Reaction {
    /// Nothing to be seen.
    Ignored,
    /// A whole response.
    Answer {
        /// Where.
        stream: u32,
        /// Of HTTP.
        status: u16,
        /// The gRPC status; HTTP/2 itself gives none.
        grpc: Option<u8>,
        /// How many there are.
        messages: usize,
    },
    /// A whole response on this stream with this header or trailer.
    Says(u32, &'static str, &'static str),
    /// One reply and OK on this stream, and then the end of the connection.
    Finished(u32),
    /// PING with ACK and this payload.
    Pong([u8; 8]),
    /// As many SETTINGS with ACK.
    Acknowledged(usize),
    /// RST_STREAM on this stream with this code.
    Reset(u32, u32),
    /// Whichever the server prefers where a document leaves it the choice: RST_STREAM on this
    /// stream, or the end of the connection, which RFC 9113, 5.4.1 always allows instead.
    Refused(u32),
    /// GOAWAY with this code, and then the end of the connection.
    GoAway(u32),
    /// The end of the connection, with GOAWAY or without.
    Closed,
}

impl Reaction {
    /// Whether this is it; None if that remains to be heard.
    fn judge(self, heard: &Heard) -> Option<bool> {
        let answer = |stream| heard.responses.get(&stream).filter(|one| one.is_whole());
        let reset = |stream| heard.resets.get(&stream).copied();
        let seen = |yes: bool| yes.then_some(true);
        match self {
            Self::Ignored => Some(true),
            Self::Answer {
                stream,
                status,
                grpc,
                messages,
            } => match answer(stream) {
                None => reset(stream).map(|_| false),
                Some(answer) => {
                    let number = |name| answer.field(name).and_then(|text| text.parse().ok());
                    let found = (number(":status"), number("grpc-status"), answer.messages());
                    Some(found == (Some(status), grpc.map(u16::from), messages))
                }
            },
            Self::Says(stream, name, value) => {
                answer(stream).map(|answer| answer.field(name) == Some(value))
            }
            Self::Finished(stream) => heard.closed.then(|| ok(stream).judge(heard) == Some(true)),
            Self::Pong(payload) => seen(heard.pongs.contains(&payload)),
            Self::Acknowledged(times) => seen(heard.acknowledged == times),
            Self::Reset(stream, code) => reset(stream).map(|found| found == code),
            // After a whole answer, NO_ERROR only says that the rest of the request is not needed.
            Self::Refused(stream) => {
                seen(heard.closed || reset(stream).is_some_and(|code| code != code::NO_ERROR))
            }
            Self::GoAway(code) => heard.closed.then_some(heard.goaway == Some(code)),
            Self::Closed => seen(heard.closed),
        }
    }
}

/// Plays a case on a connection of its own, and then makes a call on that one if it is still there,
/// and on a fresh one. Says what happened instead.
pub async fn play(addr: SocketAddr, case: &Case) -> Result<(), String> {
    let mut peer = Peer::connect(addr).await?;
    peer.send(&case.sends).await;
    peer.listen(|heard| case.reaction.judge(heard)).await?;
    if !peer.heard.closed {
        let served = serves(&mut peer).await;
        served.map_err(|error| format!("afterwards, {error}"))?;
    }
    let mut fresh = Peer::connect(addr).await?;
    fresh.send(PREFACE).await;
    let served = serves(&mut fresh).await;
    served.map_err(|error| format!("on a fresh connection, {error}"))
}

async fn serves(peer: &mut Peer) -> Result<(), String> {
    // Above the streams of all cases.
    const STREAM: u32 = 1_000_001;

    peer.listen(|heard| heard.settings.then_some(true)).await?;
    // No sooner: the ACK would be the missing rest of some cases. And a case may have closed the
    // windows of new streams.
    let usual = settings(&[(setting::INITIAL_WINDOW_SIZE, 65_535)]);
    peer.send(&[settings_ack(), usual].concat()).await;
    for stream in (STREAM..).step_by(2) {
        peer.send(&hello(stream)).await;
        let served = peer.listen(|heard| ok(stream).judge(heard)).await;
        // What is refused has not been looked at, and clients try again.
        if peer.heard.resets.get(&stream) != Some(&code::REFUSED_STREAM) {
            return served;
        }
    }
    Err("always refused".into())
}

/// Where h2 reacts in another way than it must and nobody outside can change that: why that will
/// do, what h2 does, and in which cases.
pub const H2_DIFFERS: &[(&str, Reaction, &[&str])] = &[
    (
        "the connection ends as it must, only the code is a more general one",
        Reaction::GoAway(code::PROTOCOL_ERROR),
        &[
            "half a setting",
            "a setting and a byte",
            "SETTINGS that acknowledge and set",
            "INITIAL_WINDOW_SIZE of 2^31",
            "PING of seven bytes",
            "PING of nine bytes",
            "RST_STREAM of three bytes",
            "RST_STREAM of five bytes",
            "WINDOW_UPDATE of three bytes",
            "WINDOW_UPDATE of five bytes",
            "GOAWAY of seven bytes",
            "HEADERS too short for their priority",
            "index 0",
            "an index beyond both tables",
            "a name beyond both tables",
            "an index far beyond both tables",
            "an integer that never ends",
            "an integer that is cut off",
            "a name longer than the block",
            "a value longer than the block",
            "a field without its value",
            "Huffman code that holds EOS",
            "Huffman code with a byte of padding",
            "a new table size after a field",
            "a table size over the limit",
            "a field from a table that has been emptied",
        ],
    ),
    (
        "what is let through is dropped or means the same to everybody, and is passed on to nobody",
        ok(1),
        &[
            "Huffman code with padding of zeros",
            "a value after a space",
            "a value before a tab",
            "a pseudo-field in trailers",
        ],
    ),
];

/// All cases that have nothing to do with time.
pub fn cases() -> Vec<Case> {
    [http2::cases(), grpc::cases()].concat()
}

const HELLO: &str = "/grpc.examples.echo.Echo/UnaryEcho";
const MANY: &str = "/grpc.examples.echo.Echo/ServerStreamingEcho";
const CHAT: &str = "/grpc.examples.echo.Echo/BidirectionalStreamingEcho";
const TONIC: &[u8] = b"\x0a\x05tonic";

const HEAD: [(&str, &str); 6] = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", HELLO),
    (":authority", "echo"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
];

fn block<'a>(fields: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<u8> {
    let fields = fields.into_iter();
    fields.flat_map(|(name, value)| field(name, value)).collect()
}

fn head() -> Vec<u8> {
    block(HEAD)
}

fn head_without(name: &str) -> Vec<u8> {
    block(HEAD.into_iter().filter(|(found, _)| *found != name))
}

/// With another value for a field that is there.
fn head_with(name: &str, value: &str) -> Vec<u8> {
    block(HEAD.map(|(found, old)| (found, if found == name { value } else { old })))
}

/// With one more field, after all others.
fn head_and(name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Vec<u8> {
    [head(), field(name, value)].concat()
}

fn tonic() -> Vec<u8> {
    message(0, TONIC)
}

/// A message with a name of so many bytes, which may be too many.
fn named(bytes: usize) -> Vec<u8> {
    let name = "n".repeat(bytes);
    message(0, &EchoRequest { message: name }.encode_to_vec())
}

/// The beginning of a call: all of its headers.
fn open(stream: u32, head: &[u8]) -> Vec<u8> {
    headers(stream, flag::END_HEADERS, head)
}

/// A whole call.
fn call(stream: u32, head: &[u8], body: &[u8]) -> Vec<u8> {
    [open(stream, head), data(stream, flag::END_STREAM, body)].concat()
}

/// A whole call with nothing wrong.
fn hello(stream: u32) -> Vec<u8> {
    call(stream, &head(), &tonic())
}

/// The beginning of a call that replies to each message at once.
fn chat(stream: u32) -> Vec<u8> {
    open(stream, &head_with(":path", CHAT))
}

fn says(stream: u32) -> Vec<u8> {
    data(stream, flag::NONE, &tonic())
}

/// A message, and the end of the request.
fn last(stream: u32) -> Vec<u8> {
    data(stream, flag::END_STREAM, &tonic())
}

fn end(stream: u32) -> Vec<u8> {
    data(stream, flag::END_STREAM, b"")
}

const fn ok(stream: u32) -> Reaction {
    replies(stream, 1)
}

const fn replies(stream: u32, messages: usize) -> Reaction {
    Reaction::Answer {
        stream,
        status: 200,
        grpc: Some(0),
        messages,
    }
}

/// On stream 1, without a message.
fn fails(status: u16, grpc: u8) -> Reaction {
    Reaction::Answer {
        stream: 1,
        status,
        grpc: Some(grpc),
        messages: 0,
    }
}

fn goes(code: u32) -> Reaction {
    Reaction::GoAway(code)
}

/// What the peer sends after its preface and SETTINGS.
fn case(
    name: &'static str,
    source: &'static str,
    frames: &[Vec<u8>],
    reaction: Reaction,
) -> Case {
    bytes(name, source, &[PREFACE, &frames.concat()].concat(), reaction)
}

/// All that the peer sends.
fn bytes(name: &'static str, source: &'static str, sends: &[u8], reaction: Reaction) -> Case {
    Case {
        name,
        source,
        sends: sends.to_vec(),
        reaction,
    }
}

/// The fixed part of the preface, before SETTINGS.
fn magic() -> &'static [u8] {
    &PREFACE[..24]
}

