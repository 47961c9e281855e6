//! Unary calls from one thread that does nothing else: sockets that never block, header blocks made
//! once, replies told apart by the kinds of their frames. So it costs far less than what it loads.
//!
//! Like every gRPC client it keeps to 200 streams on a connection, has further calls wait for one, gives
//! up by RST_STREAM at the deadline, and opens a connection anew that is closed.

use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use harness::PREFACE;

use crate::measure::wire::{
    self, ACK, DATA, END_HEADERS, END_STREAM, Frames, HEADERS, PING, RST_STREAM, SETTINGS,
    WINDOW_UPDATE,
};

/// What a client gives each call; what comes later is worth nothing.
pub(crate) const DEADLINE: Duration = Duration::from_secs(1);

/// What our servers allow on a connection; plain tonic would allow any number.
const STREAMS: usize = 200;

/// A `HelloRequest` with the name "load".
const MESSAGE: &[u8] = b"\0\0\0\0\x06\x0a\x04load";

/// What became of the calls.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) served: Vec<Duration>,
    pub(crate) shed: Vec<Duration>,
    pub(crate) expired: usize,
    /// Calls, and the closed connections that they were on.
    pub(crate) cut: [usize; 2],
    /// The longest that a call was due before it was made: how far the generator itself fell behind.
    pub(crate) lag: Duration,
}

pub(crate) struct Load {
    connections: Vec<Connection>,
}

impl Load {
    pub(crate) fn new(addr: SocketAddr, connections: usize) -> Self {
        let connections = (0..connections).map(|_| Connection::open(addr));
        Self {
            connections: connections.collect(),
        }
    }

    /// So many calls open on each connection, always.
    pub(crate) fn closed(&mut self, open: usize, time: Duration) -> Outcome {
        let began = Instant::now();
        let mut outcome = Outcome::default();
        while began.elapsed() < time {
            let now = Instant::now();
            for connection in &mut self.connections {
                while connection.open < open {
                    connection.call(now);
                }
                connection.turn(&mut outcome);
            }
        }
        self.settle(&mut outcome);
        outcome
    }

    /// So many calls a second, whatever becomes of them.
    pub(crate) fn open(&mut self, rate: f64, time: Duration) -> Outcome {
        let began = Instant::now();
        let mut outcome = Outcome::default();
        let mut made = 0;
        while began.elapsed() < time {
            loop {
                let due = began + Duration::from_secs_f64(f64::from(made) / rate);
                let Some(lag) = Instant::now().checked_duration_since(due) else {
                    break;
                };
                outcome.lag = outcome.lag.max(lag);
                let nth = made as usize % self.connections.len();
                self.connections[nth].call(due);
                made += 1;
                // Replies must not wait until it has caught up.
                if nth == 0 {
                    break;
                }
            }
            for connection in &mut self.connections {
                connection.turn(&mut outcome);
            }
        }
        self.settle(&mut outcome);
        outcome
    }

    /// Waits for the calls that are left.
    fn settle(&mut self, outcome: &mut Outcome) {
        while self
            .connections
            .iter()
            .any(|connection| connection.open > 0)
        {
            for connection in &mut self.connections {
                connection.turn(outcome);
            }
        }
    }
}

struct Connection {
    addr: SocketAddr,
    head: Vec<u8>,
    stream: TcpStream,
    frames: Frames,
    out: Vec<u8>,
    /// The call with stream 2n + 1 is the nth.
    calls: Vec<Call>,
    /// Calls that are not over.
    open: usize,
    /// Those of them that have been sent.
    streams: usize,
    /// Calls before it have been sent.
    unsent: usize,
    /// Calls before it are over.
    oldest: usize,
}

struct Call {
    due: Instant,
    message: bool,
    over: bool,
}

impl Connection {
    fn open(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).expect("a server that listens");
        stream.set_nodelay(true).expect("a socket");
        stream.set_nonblocking(true).expect("a socket");
        let mut head = wire::call("/helloworld.Greeter/SayHello");
        // A header without an index: a length, the name, a length, the value.
        head.extend(b"\0\x0cgrpc-timeout\x021S");
        let mut out = PREFACE.to_vec();
        // Room for all replies at once.
        let window = 0x7000_0000_u32.to_be_bytes();
        wire::frame(&mut out, WINDOW_UPDATE, 0, 0, &window);
        Self {
            addr,
            head,
            stream,
            frames: Frames::default(),
            out,
            calls: Vec::new(),
            open: 0,
            streams: 0,
            unsent: 0,
            oldest: 0,
        }
    }

    fn call(&mut self, due: Instant) {
        self.calls.push(Call {
            due,
            message: false,
            over: false,
        });
        self.open += 1;
    }

    /// Gives up what is too late, sends what may be sent, and reads what is there.
    fn turn(&mut self, outcome: &mut Outcome) {
        self.expire(outcome);
        self.send();
        if self.exchange().is_err() {
            outcome.cut[0] += self.open;
            outcome.cut[1] += 1;
            *self = Self::open(self.addr);
        }
        while let Some(frame) = self.frames.next() {
            self.receive(&frame, outcome);
        }
    }

    fn expire(&mut self, outcome: &mut Outcome) {
        while let Some(call) = self.calls.get(self.oldest) {
            if !call.over {
                if call.due.elapsed() < DEADLINE {
                    return;
                }
                outcome.expired += 1;
                if self.oldest < self.unsent {
                    let stream = 2 * self.oldest as u32 + 1;
                    wire::frame(&mut self.out, RST_STREAM, 0, stream, &8_u32.to_be_bytes());
                }
                self.end(self.oldest);
            }
            self.oldest += 1;
        }
    }

    fn send(&mut self) {
        while self.streams < STREAMS && self.unsent < self.calls.len() {
            if !self.calls[self.unsent].over {
                let stream = 2 * self.unsent as u32 + 1;
                wire::frame(&mut self.out, HEADERS, END_HEADERS, stream, &self.head);
                wire::frame(&mut self.out, DATA, END_STREAM, stream, MESSAGE);
                self.streams += 1;
            }
            self.unsent += 1;
        }
    }

    /// As much as the socket takes and has.
    fn exchange(&mut self) -> io::Result<()> {
        match self.stream.write(&self.out) {
            Ok(sent) => _ = self.out.drain(..sent),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        let mut bytes = [0; 16 * 1024];
        match self.stream.read(&mut bytes) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(read) => {
                self.frames.feed(&bytes[..read]);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn receive(&mut self, frame: &wire::Frame, outcome: &mut Outcome) {
        let nth = (frame.stream / 2) as usize;
        match frame.kind {
            SETTINGS if !frame.is(SETTINGS, ACK) => {
                wire::frame(&mut self.out, SETTINGS, ACK, 0, &[])
            }
            PING if !frame.is(PING, ACK) => {
                wire::frame(&mut self.out, PING, ACK, 0, &frame.payload)
            }
            DATA => self.calls[nth].message = true,
            HEADERS | RST_STREAM if frame.kind == RST_STREAM || frame.is(HEADERS, END_STREAM) => {
                let call = &self.calls[nth];
                if call.over {
                    return;
                }
                // An error has no message before its trailers.
                let calls = if call.message {
                    &mut outcome.served
                } else {
                    &mut outcome.shed
                };
                calls.push(call.due.elapsed());
                self.end(nth);
            }
            _ => {}
        }
    }

    fn end(&mut self, nth: usize) {
        self.calls[nth].over = true;
        self.open -= 1;
        if nth < self.unsent {
            self.streams -= 1;
        }
    }
}
