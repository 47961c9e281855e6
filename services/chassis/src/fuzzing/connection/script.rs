//! What a peer does, as a fuzzer writes it: frames, right or wrong, in any order.

use std::{collections::BTreeSet, time::Duration};

use arbitrary::Unstructured;

use crate::fuzzing::{byte, bytes, pause};

/// What a peer says, and how.
pub(super) struct Script<'a> {
    pub(super) manners: Manners,
    /// Where what it says is cut.
    pub(super) cuts: [u8; 2],
    pub(super) steps: Vec<Step<'a>>,
}

/// What a peer does of itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manners {
    /// It begins with its preface and SETTINGS.
    pub(super) greets: bool,
    /// It answers SETTINGS and PING, and DATA with WINDOW_UPDATE.
    pub(super) answers: bool,
    pub(super) reads: bool,
    /// It hangs up at the end.
    pub(super) leaves: bool,
    /// The server has reflection, which takes a while to make.
    pub(super) reflects: bool,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Step<'a> {
    Say(Frame<'a>),
    Wait(Duration),
    /// The server drains.
    Drain,
    /// The server has no more time for calls.
    Close,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Frame<'a> {
    /// The head of a call. What is odd about it, and where it ends, is in the bits.
    Head {
        path: u8,
        stream: u8,
        bits: u8,
    },
    /// A message of a call, perhaps its last.
    Message {
        stream: u8,
        bits: u8,
        payload: &'a [u8],
    },
    Reset {
        stream: u8,
        code: u8,
    },
    Ping {
        flags: u8,
    },
    WindowUpdate {
        stream: u8,
        increment: u32,
    },
    Setting {
        name: u8,
        value: u32,
    },
    GoAway {
        last: u8,
        code: u8,
    },
    Any {
        kind: u8,
        flags: u8,
        stream: u8,
        payload: &'a [u8],
    },
    /// As long as it says, which is not as long as it is.
    Header {
        kind: u8,
        flags: u8,
        stream: u8,
        length: u16,
    },
    Bytes(&'a [u8]),
}

impl<'a> Script<'a> {
    /// Reads a byte for the manners, two cuts, and steps, each a byte for its kind and what it consists of.
    pub(super) fn read(data: &'a [u8]) -> Self {
        // A fuzzer is to try much, and a flood of control frames takes long: the replay has some.
        const MOST: usize = if cfg!(fuzzing) { 2_500 } else { 20_000 };
        let mut input = Unstructured::new(data);
        let manners = byte(&mut input);
        let mut script = Self {
            manners: Manners {
                greets: manners & 1 == 0,
                answers: manners & 2 == 0,
                reads: manners & 4 == 0 || cfg!(not(fuzzing)),
                leaves: manners & 8 == 0 || cfg!(not(fuzzing)),
                reflects: manners & 16 != 0,
            },
            cuts: [byte(&mut input), byte(&mut input)],
            steps: Vec::new(),
        };
        while !input.is_empty() && script.steps.len() < MOST {
            match step(&mut input) {
                Ok(step) => script.steps.push(step),
                Err((last, times)) => {
                    let length = script.steps.len();
                    let again = script.steps[length.saturating_sub(last)..].to_vec();
                    let more = (times * again.len()).min(MOST.saturating_sub(length));
                    script.steps.extend(again.iter().cycle().take(more));
                }
            }
        }
        script
    }
}

/// The next step, or how many of the last are to be taken again, and how often.
fn step<'a>(input: &mut Unstructured<'a>) -> Result<Step<'a>, (usize, usize)> {
    let kind = byte(input) % 14;
    Ok(Step::Say(match kind {
        0 => Frame::Head {
            path: byte(input),
            stream: byte(input),
            bits: byte(input),
        },
        1 => Frame::Message {
            stream: byte(input),
            bits: byte(input),
            payload: bytes(input),
        },
        2 => Frame::Reset {
            stream: byte(input),
            code: byte(input),
        },
        3 => Frame::Ping { flags: byte(input) },
        4 => Frame::WindowUpdate {
            stream: byte(input),
            increment: input.arbitrary().unwrap_or(1),
        },
        5 => Frame::Setting {
            name: byte(input),
            value: input.arbitrary().unwrap_or_default(),
        },
        6 => Frame::GoAway {
            last: byte(input),
            code: byte(input),
        },
        7 => Frame::Any {
            kind: byte(input),
            flags: byte(input),
            stream: byte(input),
            payload: bytes(input),
        },
        8 => Frame::Header {
            kind: byte(input),
            flags: byte(input),
            stream: byte(input),
            length: input.arbitrary().unwrap_or_default(),
        },
        9 => Frame::Bytes(bytes(input)),
        10 => return Ok(Step::Wait(pause(500 * u64::from(byte(input))))),
        11 => return Ok(Step::Drain),
        12 => return Ok(Step::Close),
        _ => {
            let last = 1 + byte(input) % 4;
            let times: u16 = input.arbitrary().unwrap_or_default();
            return Err((last.into(), times.into()));
        }
    }))
}

/// The streams of a connection, as its client sees them.
pub(super) struct Streams {
    newest: u32,
    /// Those that are to be answered: calls that have not been reset.
    pub(super) asked: BTreeSet<u32>,
    /// There was a frame that may spoil other streams than its own.
    pub(super) is_spoilt: bool,
}

impl Streams {
    pub(super) fn new() -> Self {
        Self {
            newest: u32::MAX,
            asked: BTreeSet::new(),
            is_spoilt: false,
        }
    }

    /// The stream that a byte means: the newest, a new one, or any.
    fn id(&mut self, stream: u8) -> u32 {
        match stream {
            0xfe => self.newest,
            0xff => {
                self.newest = self.newest.wrapping_add(2);
                self.newest
            }
            id => id.into(),
        }
    }

    /// A frame as bytes.
    pub(super) fn write(&mut self, frame: Frame<'_>) -> Vec<u8> {
        self.is_spoilt |= !matches!(
            frame,
            Frame::Head { .. } | Frame::Message { .. } | Frame::Reset { .. } | Frame::Ping { .. }
        );
        match frame {
            Frame::Head { path, stream, bits } => {
                let stream = self.id(stream);
                self.asked.insert(stream);
                let flags = bits & 1 | if bits & 2 == 0 { 4 } else { 0 };
                whole(1, flags, stream, &head(path, bits))
            }
            Frame::Message {
                stream,
                bits,
                payload,
            } => {
                let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
                let message = [&[bits >> 1 & 1], length.as_slice(), payload].concat();
                whole(0, bits & 1, self.id(stream), &message)
            }
            Frame::Reset { stream, code } => {
                let stream = self.id(stream);
                self.asked.remove(&stream);
                whole(3, 0, stream, &u32::from(code).to_be_bytes())
            }
            Frame::Ping { flags } => whole(6, flags, 0, b"whatever"),
            Frame::WindowUpdate { stream, increment } => {
                whole(8, 0, self.id(stream), &increment.to_be_bytes())
            }
            Frame::Setting { name, value } => whole(
                4,
                0,
                0,
                &[[0, name].as_slice(), &value.to_be_bytes()].concat(),
            ),
            Frame::GoAway { last, code } => {
                let codes = [self.id(last).to_be_bytes(), u32::from(code).to_be_bytes()];
                whole(7, 0, 0, codes.as_flattened())
            }
            Frame::Any {
                kind,
                flags,
                stream,
                payload,
            } => whole(kind, flags, self.id(stream), payload),
            Frame::Header {
                kind,
                flags,
                stream,
                length,
            } => header(length.into(), kind, flags, self.id(stream)),
            Frame::Bytes(bytes) => bytes.to_vec(),
        }
    }
}

pub(super) fn whole(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    [&header(payload.len(), kind, flags, stream), payload].concat()
}

fn header(length: usize, kind: u8, flags: u8, stream: u32) -> Vec<u8> {
    let length = u32::try_from(length).expect("short").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat()
}

/// The methods that a peer may call.
const PATHS: [&str; 12] = [
    "/fuzz.Any/Echo",
    "/fuzz.Any/Collect",
    "/fuzz.Any/Deaf",
    "/fuzz.Any/Never",
    "/fuzz.Any/Large",
    "/fuzz.Any/Unknown",
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
    "/grpc.health.v1.Health/List",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/AWS.ALB/healthcheck",
    "nowhere",
];

fn head(path: u8, bits: u8) -> Vec<u8> {
    let path = PATHS[usize::from(path) % PATHS.len()];
    let method = if bits & 4 == 0 { "POST" } else { "GET" };
    let media_type = if bits & 8 == 0 {
        "application/grpc"
    } else {
        "text/plain"
    };
    let mut fields = vec![
        (":method", method),
        (":scheme", "http"),
        (":path", path),
        ("content-type", media_type),
    ];
    for (bit, name, value) in [
        (4, "grpc-timeout", "2S"),
        (5, "grpc-encoding", "gzip"),
        (6, "user-agent", "ELB-HealthChecker/2.0"),
        (7, ":path", "twice"),
    ] {
        if bits >> bit & 1 == 1 {
            fields.push((name, value));
        }
    }
    // Plainly: never indexed, never Huffman coded, all shorter than 127 bytes. RFC 7541, 6.2.2.
    let string = |text: &str| [&[text.len() as u8], text.as_bytes()].concat();
    let field = |(name, value): (&str, &str)| [vec![0], string(name), string(value)].concat();
    fields.into_iter().flat_map(field).collect()
}
