use std::{future::poll_fn, io, pin::Pin, sync::LazyLock, time::Duration};

use arbitrary::Unstructured;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadBuf, duplex},
    join,
    time::{Instant, sleep},
};

use super::{byte, config, pause, runtime};
use crate::{connection::stall_guard::StallGuard, settings::limits::Limits};

/// No multiple of the tenths of a second that peers wait, so that it is certain which comes first.
static LIMITS: LazyLock<Limits> =
    LazyLock::new(|| config(&["--handshake-timeout=5050ms", "--stall-timeout=10050ms"]).limits);

/// What a peer does.
enum Step<'a> {
    Send(&'a [u8]),
    /// Takes so many bytes of what it is sent.
    Take(usize),
    Wait(Duration),
}

/// How, and after which time, a peer is cut off.
type Cut = (io::ErrorKind, Duration);

/// Whatever a peer sends, in whatever pieces and with whatever pauses, is read as it was sent. It is cut off, to the
/// millisecond, for what it leaves half sent or does not take, and else only if SETTINGS do not come first.
///
/// Input: whether the peer sends (even) or takes; then pieces, each behind its length, or how many bytes it takes. A
/// length of 0 is for a pause, of so many tenths of a second as the byte behind says.
pub fn stall_guard(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let takes = byte(&mut input) % 2 == 1;
    let mut steps = Vec::new();
    while !input.is_empty() {
        steps.push(match byte(&mut input).into() {
            0 => Step::Wait(pause(100 * u64::from(byte(&mut input)))),
            length if takes => Step::Take(length),
            length => {
                let length = input.len().min(length);
                Step::Send(input.bytes(length).unwrap_or_default())
            }
        });
    }
    let (cut, expected) = match takes {
        true => (
            runtime().block_on(play(&steps, write)),
            cut_for_not_taking(&steps),
        ),
        false => {
            let (read, cut) = runtime().block_on(play(&steps, read));
            let sent = steps
                .iter()
                .flat_map(Step::sent)
                .copied()
                .collect::<Vec<_>>();
            assert!(sent.starts_with(&read), "not what was sent");
            assert!(
                cut.is_some() || read.len() == sent.len(),
                "not all that was sent"
            );
            (cut, cut_for_sending(&steps))
        }
    };
    match (cut, expected) {
        (None, None) => {}
        (Some((kind, after)), Some((expected, at))) if kind == expected => {
            // A timer of tokio's is right to the millisecond.
            let late = after.checked_sub(at).expect("cut off too early");
            assert!(
                !cfg!(fuzzing) || late <= Duration::from_millis(2),
                "{late:?} late"
            );
        }
        (cut, expected) => panic!("{cut:?} instead of {expected:?}"),
    }
}

impl<'a> Step<'a> {
    fn sent(&self) -> &'a [u8] {
        match self {
            Self::Send(bytes) => bytes,
            Self::Take(_) | Self::Wait(_) => &[],
        }
    }
}

/// Has a peer do these steps and leave, and us do `ours` with it meanwhile.
async fn play<T>(steps: &[Step<'_>], ours: impl AsyncFnOnce(StallGuard<DuplexStream>) -> T) -> T {
    let (stream, mut peer) = duplex(1024);
    let peer = async move {
        for step in steps {
            // Nobody hears a peer that has been cut off.
            match step {
                Step::Send(bytes) => drop(peer.write_all(bytes).await),
                Step::Take(bytes) => drop(peer.read_exact(&mut vec![0; *bytes]).await),
                Step::Wait(time) => sleep(*time).await,
            }
        }
    };
    join!(ours(StallGuard::new(stream, &LIMITS)), peer).0
}

/// Reads all there is.
async fn read(mut stall_guard: StallGuard<DuplexStream>) -> (Vec<u8>, Option<Cut>) {
    let began = Instant::now();
    let activity = stall_guard.activity();
    let (mut read, mut room) = (Vec::new(), [0; 512]);
    loop {
        let mut buffer = ReadBuf::new(&mut room);
        let outcome = poll_fn(|cx| {
            activity.begin_turn();
            Pin::new(&mut stall_guard).poll_read(cx, &mut buffer)
        });
        match outcome.await {
            Err(error) => return (read, Some((error.kind(), began.elapsed()))),
            Ok(()) if buffer.filled().is_empty() => return (read, None),
            Ok(()) => read.extend_from_slice(buffer.filled()),
        }
    }
}

/// Writes without an end.
async fn write(mut stall_guard: StallGuard<DuplexStream>) -> Option<Cut> {
    let began = Instant::now();
    loop {
        match stall_guard.write(&[0; 300]).await {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return None,
            Err(error) => return Some((error.kind(), began.elapsed())),
        }
    }
}

fn cut_for_not_taking(steps: &[Step<'_>]) -> Option<Cut> {
    let (mut now, mut since) = (Duration::ZERO, Duration::ZERO);
    for step in steps {
        match step {
            Step::Wait(time) => now += *time,
            Step::Send(_) | Step::Take(_) => since = now,
        }
        let too_late = since + *LIMITS.stall_timeout;
        if now > too_late {
            return Some((io::ErrorKind::TimedOut, too_late));
        }
    }
    None
}

/// What can be told of all that a peer has sent so far.
#[derive(Default)]
struct Heard {
    /// Preface and frames that are whole.
    complete: usize,
    /// Frames whose header is whole, without CONTINUATION.
    begun: usize,
    in_headers: bool,
    /// Nothing is half sent.
    between: bool,
    /// Another frame came before SETTINGS.
    is_invalid: bool,
}

fn heard(sent: &[u8]) -> Heard {
    let mut heard = Heard::default();
    let mut end = 24;
    let mut first = true;
    while let Some(rest) = sent.get(end..) {
        heard.complete += 1;
        let Some(&[a, b, c, kind, flags, ..]) = rest.first_chunk::<9>() else {
            heard.between = rest.is_empty() && !heard.in_headers;
            break;
        };
        heard.is_invalid |= std::mem::take(&mut first) && kind != 4;
        if matches!(kind, 1 | 5 | 9) {
            heard.in_headers = flags & 4 == 0;
        }
        heard.begun += usize::from(kind != 9);
        end += 9 + u32::from_be_bytes([0, a, b, c]) as usize;
    }
    heard
}

fn cut_for_sending(steps: &[Step<'_>]) -> Option<Cut> {
    let (mut sent, mut before) = (Vec::new(), Heard::default());
    let mut now = Duration::ZERO;
    // Since when something has been half sent, and how long it may be.
    let mut waiting = Some((now, *LIMITS.handshake_timeout));
    for step in steps {
        if let Step::Wait(time) = step {
            now += *time;
            match waiting {
                Some((since, allowed)) if now > since + allowed => {
                    return Some((io::ErrorKind::TimedOut, since + allowed));
                }
                _ => continue,
            }
        }
        sent.extend_from_slice(step.sent());
        let heard = heard(&sent);
        if heard.is_invalid {
            return Some((io::ErrorKind::InvalidData, now));
        }
        let moved =
            heard.begun > before.begun || heard.complete > before.complete && !heard.in_headers;
        // Preface and SETTINGS have one time for all.
        if heard.complete >= 2 {
            let since = waiting.filter(|_| !moved).map_or(now, |(since, _)| since);
            waiting = (!heard.between).then_some((since, *LIMITS.stall_timeout));
        }
        before = heard;
    }
    None
}
