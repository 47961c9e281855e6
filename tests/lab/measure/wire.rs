//! HTTP/2 by hand: cheap enough to outrun a server, and free to break the rules.

use std::net::SocketAddr;

use bytes::{Buf as _, BytesMut};
use harness::{PREFACE, frames};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

pub(crate) use harness::frames::{
    flag::{ACK, END_HEADERS, END_STREAM},
    kind::{DATA, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS, WINDOW_UPDATE},
};

/// Most that a window can be opened by.
pub(crate) const WHOLE_WINDOW: [u8; 4] = 0x7fff_ffff_u32.to_be_bytes();

/// A gRPC message without a field.
pub(crate) const EMPTY_MESSAGE: &[u8] = &[0; 5];

/// Appends a frame.
pub(crate) fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend(frames::frame(kind, flags, stream, payload));
}

/// The header block of a gRPC call, the same for every stream: nothing of it is to be remembered.
pub(crate) fn call(path: &str) -> Vec<u8> {
    // RFC 7541, appendix A: `:method: POST`, `:scheme: http`, and the names of the rest.
    let mut block = vec![0x83, 0x86];
    for (name, value) in [
        ([0x04].as_slice(), path),
        (&[0x01], "localhost"),
        (&[0x0f, 0x10], "application/grpc"),
        (b"\0\x02te", "trailers"),
    ] {
        block.extend(name);
        block.push(value.len() as u8);
        block.extend(value.as_bytes());
    }
    block
}

/// A frame that has been received.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: BytesMut,
}

impl Frame {
    pub(crate) fn is(&self, kind: u8, flag: u8) -> bool {
        self.kind == kind && self.flags & flag == flag
    }
}

/// Frames out of bytes, however these are cut.
#[derive(Debug, Default)]
pub(crate) struct Frames(BytesMut);

impl Frames {
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub(crate) fn next(&mut self) -> Option<Frame> {
        let [a, b, c, kind, flags, s, t, u, v, ..] = *self.0 else {
            return None;
        };
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        if self.0.len() < 9 + length {
            return None;
        }
        self.0.advance(9);
        Some(Frame {
            kind,
            flags,
            stream: u32::from_be_bytes([s, t, u, v]) & 0x7fff_ffff,
            payload: self.0.split_to(length),
        })
    }

    /// The next frame that comes; none once the connection is closed.
    pub(crate) async fn read(&mut self, from: &mut (impl AsyncRead + Unpin)) -> Option<Frame> {
        loop {
            if let Some(frame) = self.next() {
                return Some(frame);
            }
            if from.read_buf(&mut self.0).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }
}

/// A connection on which the preface and our settings are sent.
pub(crate) async fn connect(addr: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(addr)
        .await
        .expect("a server that listens");
    stream.set_nodelay(true).expect("a socket");
    stream.write_all(PREFACE).await.expect("sent");
    stream
}
