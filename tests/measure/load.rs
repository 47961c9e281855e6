//! Unary calls from one thread that does nothing else: sockets that never block, header blocks made
//! once, replies told apart by the kinds of their frames. So it costs far less than what it loads.
//!
//! It holds to no limit of streams, as a fleet of clients would not; what is refused counts as shed.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use harness::PREFACE;

use crate::wire::{
    self, ACK, DATA, END_HEADERS, END_STREAM, Frames, HEADERS, PING, RST_STREAM, SETTINGS,
    WINDOW_UPDATE,
};

/// What a client gives each call; what comes later is worth nothing.
pub(crate) const DEADLINE: Duration = Duration::from_secs(1);

/// What became of the calls.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) served: Vec<Duration>,
    pub(crate) shed: Vec<Duration>,
    pub(crate) expired: usize,
    /// The longest that a call was due before it was made: how far the generator itself fell behind.
    pub(crate) lag: Duration,
}

pub(crate) struct Load {
    connections: Vec<Connection>,
    head: Vec<u8>,
    message: Vec<u8>,
}

impl Load {
    pub(crate) fn new(addr: SocketAddr, connections: usize) -> Self {
        // A `HelloRequest` with the name "load".
        let message = b"\0\0\0\0\x06\x0a\x04load".to_vec();
        let mut head = wire::call("/helloworld.Greeter/SayHello");
        // A header without an index: a length, the name, a length, the value.
        head.extend(b"\0\x0cgrpc-timeout\x021S");
        Self {
            connections: (0..connections).map(|_| Connection::open(addr)).collect(),
            head,
            message,
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
                    connection.call(&self.head, &self.message, now);
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
                self.connections[nth].call(&self.head, &self.message, due);
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
    stream: TcpStream,
    frames: Frames,
    out: Vec<u8>,
    /// The call with stream 2n + 1 is the nth.
    calls: Vec<Call>,
    open: usize,
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
        let mut out = PREFACE.to_vec();
        // Room for all replies at once.
        let window = 0x7000_0000_u32.to_be_bytes();
        wire::frame(&mut out, WINDOW_UPDATE, 0, 0, &window);
        Self {
            stream,
            frames: Frames::default(),
            out,
            calls: Vec::new(),
            open: 0,
            oldest: 0,
        }
    }

    fn call(&mut self, head: &[u8], message: &[u8], due: Instant) {
        let stream = 2 * self.calls.len() as u32 + 1;
        wire::frame(&mut self.out, HEADERS, END_HEADERS, stream, head);
        wire::frame(&mut self.out, DATA, END_STREAM, stream, message);
        self.calls.push(Call {
            due,
            message: false,
            over: false,
        });
        self.open += 1;
    }

    /// Gives up what is too late, sends what the socket takes, and reads what is there.
    fn turn(&mut self, outcome: &mut Outcome) {
        self.expire(outcome);
        match self.stream.write(&self.out) {
            Ok(sent) => _ = self.out.drain(..sent),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
        }
        let mut bytes = [0; 16 * 1024];
        match self.stream.read(&mut bytes) {
            Ok(0) => panic!("the server has closed a connection"),
            Ok(read) => self.frames.feed(&bytes[..read]),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
        }
        while let Some(frame) = self.frames.next() {
            self.receive(&frame, outcome);
        }
    }

    fn expire(&mut self, outcome: &mut Outcome) {
        while let Some(call) = self.calls.get_mut(self.oldest) {
            if !call.over {
                if call.due.elapsed() < DEADLINE {
                    return;
                }
                call.over = true;
                self.open -= 1;
                outcome.expired += 1;
                let stream = 2 * self.oldest as u32 + 1;
                wire::frame(&mut self.out, RST_STREAM, 0, stream, &8_u32.to_be_bytes());
            }
            self.oldest += 1;
        }
    }

    fn receive(&mut self, frame: &wire::Frame, outcome: &mut Outcome) {
        match frame.kind {
            SETTINGS if !frame.is(SETTINGS, ACK) => {
                wire::frame(&mut self.out, SETTINGS, ACK, 0, &[])
            }
            PING if !frame.is(PING, ACK) => {
                wire::frame(&mut self.out, PING, ACK, 0, &frame.payload)
            }
            DATA => self.calls[(frame.stream / 2) as usize].message = true,
            HEADERS | RST_STREAM if frame.kind == RST_STREAM || frame.is(HEADERS, END_STREAM) => {
                let call = &mut self.calls[(frame.stream / 2) as usize];
                if call.over {
                    return;
                }
                call.over = true;
                self.open -= 1;
                // An error has no message before its trailers.
                let calls = if call.message {
                    &mut outcome.served
                } else {
                    &mut outcome.shed
                };
                calls.push(call.due.elapsed());
            }
            _ => {}
        }
    }
}
