//! HTTP/2 frames as bytes, right or wrong, and a peer that sends them and remembers what it hears.
//!
//! RFC 9113 has the layout of all frames in 4.1 and that of each kind in 6.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::SocketAddr,
};

use loona_hpack::Decoder;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::PATIENCE;

/// RFC 9113, 6.
#[allow(missing_docs, reason = "the names are those of the RFC")]
pub mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// RFC 9113, 6. What a flag means depends on the kind of the frame.
#[allow(missing_docs, reason = "the names are those of the RFC")]
pub mod flag {
    pub const NONE: u8 = 0;
    pub const ACK: u8 = 1;
    pub const END_STREAM: u8 = 1;
    pub const END_HEADERS: u8 = 4;
    pub const PADDED: u8 = 8;
    pub const PRIORITY: u8 = 32;
}

/// RFC 9113, 6.5.2 and RFC 8441, 3.
#[allow(missing_docs, reason = "the names are those of the RFC")]
pub mod setting {
    pub const HEADER_TABLE_SIZE: u16 = 1;
    pub const ENABLE_PUSH: u16 = 2;
    pub const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub const INITIAL_WINDOW_SIZE: u16 = 4;
    pub const MAX_FRAME_SIZE: u16 = 5;
    pub const MAX_HEADER_LIST_SIZE: u16 = 6;
    pub const ENABLE_CONNECT_PROTOCOL: u16 = 8;
}

/// RFC 9113, 7.
#[allow(missing_docs, reason = "the names are those of the RFC")]
pub mod code {
    pub const NO_ERROR: u32 = 0;
    pub const PROTOCOL_ERROR: u32 = 1;
    pub const FLOW_CONTROL_ERROR: u32 = 3;
    pub const STREAM_CLOSED: u32 = 5;
    pub const FRAME_SIZE_ERROR: u32 = 6;
    pub const REFUSED_STREAM: u32 = 7;
    pub const CANCEL: u32 = 8;
    pub const COMPRESSION_ERROR: u32 = 9;
    pub const ENHANCE_YOUR_CALM: u32 = 11;
}

/// The nine bytes before a payload, which need not be as long as they say.
pub fn header(length: u32, kind: u8, flags: u8, stream: u32) -> Vec<u8> {
    let mut header = length.to_be_bytes()[1..].to_vec();
    header.extend([kind, flags]);
    header.extend(stream.to_be_bytes());
    header
}

/// Any frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = payload.len().try_into().expect("a payload of some size");
    [&header(length, kind, flags, stream), payload].concat()
}

/// DATA.
pub fn data(stream: u32, flags: u8, bytes: &[u8]) -> Vec<u8> {
    frame(kind::DATA, flags, stream, bytes)
}

/// HEADERS.
pub fn headers(stream: u32, flags: u8, block: &[u8]) -> Vec<u8> {
    frame(kind::HEADERS, flags, stream, block)
}

/// CONTINUATION.
pub fn continuation(stream: u32, flags: u8, block: &[u8]) -> Vec<u8> {
    frame(kind::CONTINUATION, flags, stream, block)
}

/// PRIORITY, with the least weight.
pub fn priority(stream: u32, dependency: u32) -> Vec<u8> {
    let payload = [dependency.to_be_bytes().as_slice(), &[0]].concat();
    frame(kind::PRIORITY, flag::NONE, stream, &payload)
}

/// RST_STREAM.
pub fn rst_stream(stream: u32, code: u32) -> Vec<u8> {
    frame(kind::RST_STREAM, flag::NONE, stream, &code.to_be_bytes())
}

/// SETTINGS.
pub fn settings(settings: &[(u16, u32)]) -> Vec<u8> {
    let setting =
        |(name, value): &(u16, u32)| [name.to_be_bytes().as_slice(), &value.to_be_bytes()].concat();
    let payload: Vec<u8> = settings.iter().flat_map(setting).collect();
    frame(kind::SETTINGS, flag::NONE, 0, &payload)
}

/// The SETTINGS that acknowledge the other side's.
pub fn settings_ack() -> Vec<u8> {
    frame(kind::SETTINGS, flag::ACK, 0, b"")
}

/// PUSH_PROMISE, with its whole header block.
pub fn push_promise(stream: u32, promised: u32, block: &[u8]) -> Vec<u8> {
    let payload = [&promised.to_be_bytes(), block].concat();
    frame(kind::PUSH_PROMISE, flag::END_HEADERS, stream, &payload)
}

/// PING.
pub fn ping(payload: [u8; 8]) -> Vec<u8> {
    frame(kind::PING, flag::NONE, 0, &payload)
}

/// The PING that answers the other side's.
pub fn pong(payload: [u8; 8]) -> Vec<u8> {
    frame(kind::PING, flag::ACK, 0, &payload)
}

/// GOAWAY.
pub fn goaway(last_stream: u32, code: u32, debug: &[u8]) -> Vec<u8> {
    let payload = [&last_stream.to_be_bytes(), &code.to_be_bytes(), debug].concat();
    frame(kind::GOAWAY, flag::NONE, 0, &payload)
}

/// WINDOW_UPDATE.
pub fn window_update(stream: u32, increment: u32) -> Vec<u8> {
    let payload = increment.to_be_bytes();
    frame(kind::WINDOW_UPDATE, flag::NONE, stream, &payload)
}

/// The payload of a DATA or HEADERS frame with the flag PADDED.
pub fn padded(payload: &[u8], padding: u8) -> Vec<u8> {
    [&[padding], payload, &vec![0; padding.into()]].concat()
}

/// A field of a header block, plainly: never indexed, never Huffman coded (RFC 7541, 6.2.2).
pub fn field(name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Vec<u8> {
    let string = |text: &[u8]| [&length(text.len()), text].concat();
    [vec![0], string(name.as_ref()), string(value.as_ref())].concat()
}

/// An integer with a prefix of seven bits (RFC 7541, 5.1).
fn length(of: usize) -> Vec<u8> {
    const FULL: u8 = 0x7f;
    let Some(mut rest) = of.checked_sub(FULL.into()) else {
        return vec![of as u8];
    };
    let mut bytes = vec![FULL];
    while rest >= 0x80 {
        bytes.push(0x80 | (rest & 0x7f) as u8);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    bytes
}

/// A gRPC message: its compression flag, its length, itself.
pub fn message(compressed: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a message of some size");
    [&[compressed], length.to_be_bytes().as_slice(), payload].concat()
}

/// What a peer has heard so far.
#[derive(Debug, Default)]
pub struct Heard {
    /// By stream.
    pub responses: BTreeMap<u32, Response>,
    /// The code of each RST_STREAM, by stream.
    pub resets: BTreeMap<u32, u32>,
    /// The code of the last GOAWAY.
    pub goaway: Option<u32>,
    /// How many GOAWAYs there were.
    pub goaways: usize,
    /// The last PING that wants an answer.
    pub ping: Option<[u8; 8]>,
    /// Whether the server has sent its SETTINGS.
    pub settings: bool,
    /// How many SETTINGS of ours have been acknowledged.
    pub acknowledged: usize,
    /// The different payloads of acknowledged PINGs.
    pub pongs: BTreeSet<[u8; 8]>,
    /// Whether the connection is over.
    pub closed: bool,
}

/// The answer on one stream.
#[derive(Default)]
pub struct Response {
    /// Headers and trailers, in order.
    pub fields: Vec<(String, String)>,
    /// Messages with their prefixes.
    pub body: Vec<u8>,
    ended: bool,
    /// A header block that still lacks its CONTINUATION.
    block: Vec<u8>,
}

impl Response {
    /// Whether all of it is here.
    pub fn is_whole(&self) -> bool {
        self.ended && self.block.is_empty()
    }

    /// The value of a header or trailer.
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self.fields.iter();
        fields.find_map(|(found, value)| (found == name).then_some(&**value))
    }

    /// The number of whole messages.
    pub fn messages(&self) -> usize {
        let (mut rest, mut count) = (self.body.as_slice(), 0);
        while let Some(([_, length @ ..], after)) = rest.split_first_chunk::<5>() {
            let Some(after) = after.get(u32::from_be_bytes(*length) as usize..) else {
                break;
            };
            (rest, count) = (after, count + 1);
        }
        count
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = self.fields.iter().map(|(name, value)| (name, value));
        let mut map = f.debug_map();
        map.entries(fields)
            .entry(&"messages", &self.messages())
            .entry(&"whole", &self.is_whole())
            .finish()
    }
}

/// A client that says nothing on its own.
pub struct Peer {
    stream: TcpStream,
    hpack: Decoder<'static>,
    /// All that has come.
    pub heard: Heard,
}

impl Peer {
    /// Connects, and sends nothing.
    pub async fn connect(addr: SocketAddr) -> Result<Self, String> {
        let stream = TcpStream::connect(addr).await;
        let stream = stream.map_err(|error| format!("no connection: {error}"))?;
        // So that what is sent after an answer does not wait for an acknowledgement.
        stream
            .set_nodelay(true)
            .map_err(|error| error.to_string())?;
        Ok(Self {
            stream,
            hpack: Decoder::new(),
            heard: Heard::default(),
        })
    }

    /// Sends these bytes, or as many as the server takes: one that has heard enough may hang up.
    pub async fn send(&mut self, bytes: &[u8]) {
        let _ = timeout(PATIENCE, self.stream.write_all(bytes)).await;
    }

    /// Listens until `judge` can tell whether this is it.
    pub async fn listen(&mut self, judge: impl Fn(&Heard) -> Option<bool>) -> Result<(), String> {
        let verdict = timeout(PATIENCE, async {
            loop {
                match judge(&self.heard) {
                    None if !self.heard.closed => self.hear().await?,
                    verdict => return Ok(verdict == Some(true)),
                }
            }
        });
        match verdict.await {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => Err(format!("{:?}", self.heard)),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(format!("nothing more after {:?}", self.heard)),
        }
    }

    /// Takes in the next frame, or the end of the connection.
    async fn hear(&mut self) -> Result<(), String> {
        let Ok((kind, flags, stream, payload)) = self.read().await else {
            self.heard.closed = true;
            return Ok(());
        };
        let ended = flags & flag::END_STREAM != 0;
        let heard = &mut self.heard;
        match kind {
            kind::DATA => {
                let response = heard.responses.entry(stream).or_default();
                response.body.extend(payload);
                response.ended |= ended;
            }
            kind::HEADERS | kind::CONTINUATION => {
                let response = heard.responses.entry(stream).or_default();
                response.block.extend(payload);
                response.ended |= kind == kind::HEADERS && ended;
                if flags & flag::END_HEADERS != 0 {
                    let block = std::mem::take(&mut response.block);
                    response.fields.extend(fields(&mut self.hpack, &block)?);
                }
            }
            kind::RST_STREAM => {
                heard.resets.insert(stream, number(&payload, 0)?);
            }
            kind::SETTINGS if flags & flag::ACK != 0 => heard.acknowledged += 1,
            kind::SETTINGS => heard.settings = true,
            kind::PING if flags & flag::ACK != 0 => {
                let payload = payload.try_into();
                heard
                    .pongs
                    .insert(payload.map_err(|_| "a PING of odd size")?);
            }
            kind::PING => heard.ping = payload.try_into().ok(),
            kind::GOAWAY => {
                heard.goaway = Some(number(&payload, 4)?);
                heard.goaways += 1;
            }
            _ => {}
        }
        Ok(())
    }

    async fn read(&mut self) -> std::io::Result<(u8, u8, u32, Vec<u8>)> {
        let mut header = [0; 9];
        self.stream.read_exact(&mut header).await?;
        let [a, b, c, kind, flags, stream @ ..] = header;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.stream.read_exact(&mut payload).await?;
        Ok((kind, flags, u32::from_be_bytes(stream), payload))
    }
}

fn number(payload: &[u8], at: usize) -> Result<u32, String> {
    let bytes = payload.get(at..).and_then(<[u8]>::first_chunk);
    let bytes = bytes.ok_or_else(|| format!("too short: {payload:?}"))?;
    Ok(u32::from_be_bytes(*bytes))
}

fn fields(hpack: &mut Decoder<'_>, block: &[u8]) -> Result<Vec<(String, String)>, String> {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let fields = hpack.decode(block);
    let fields = fields.map_err(|error| format!("a header block that is wrong: {error}"))?;
    let fields = fields.into_iter();
    Ok(fields
        .map(|(name, value)| (text(name), text(value)))
        .collect())
}
