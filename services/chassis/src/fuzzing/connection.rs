//! A whole connection, from its preface to its end, with a peer that says anything.

use std::{
    collections::BTreeSet,
    sync::{Arc, LazyLock},
    time::Duration,
};

use futures_util::future::pending;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadHalf, WriteHalf, duplex, split},
    join,
    runtime::Handle,
    select,
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::yield_now,
    time::{sleep, timeout},
};

use super::{config, pause, pieces, runtime};
use crate::{
    call::{Shared, call_limit::Counter, peer::Peer, respond},
    connection::http2,
    settings::config::Config,
    state::lifecycle::{Lifecycle, Phase},
};
use script::{Script, Step, Streams, whole};

mod script;
mod service;

/// How a connection went.
#[derive(Debug)]
pub struct Played {
    /// Why it ended: as the metrics say it, or `closed` in peace, or `lost`, or `dropped` at the end of a drain.
    pub ending: &'static str,
    /// How many streams the server ended in order.
    pub answered: usize,
}

/// Few calls, so that a fuzzer finds the limits, and times that follow from one another.
static CONFIG: LazyLock<Config> = LazyLock::new(|| {
    config(&[
        "--max-calls=8",
        "--max-calls-per-peer=6",
        "--max-connection-age=120s",
        "--max-connection-age-grace=30s",
        "--max-connection-idle=60s",
    ])
});

/// As long as a connection may last, whatever its peer does: its age and a tenth, its grace, and its last words.
const LONGEST: Duration = Duration::from_secs(132 + 30 + 5 + 1);

/// A peer may say anything, in any pieces: nothing panics, the connection ends in its time, all that was counted for
/// it is given back, no task is left, and if it was not at fault, each of its calls has been answered.
///
/// Input: see [`Script::read`].
pub fn connection(data: &[u8]) -> Played {
    let script = Script::read(data);
    runtime().block_on(async {
        let shared = service::shared(&CONFIG, script.manners.reflects).await;
        let addr = ([192, 0, 2, 1], 1).into();
        let peer = Arc::new(Peer::new(
            addr,
            Vec::new(),
            &shared.lifecycle,
            &shared.calls,
        ));
        let played = play(&script, &shared, &peer).await;
        nothing_is_left(&shared, peer).await;
        played
    })
}

async fn play(script: &Script<'_>, shared: &Arc<Shared>, peer: &Arc<Peer>) -> Played {
    let (ours, theirs) = duplex(16 * 1024);
    let (reading, writing) = split(theirs);
    let (replies, to_reply) = unbounded_channel();
    let mut heard = Heard::new(script.manners.answers.then_some(replies));
    let mut streams = Streams::new();
    let lifecycle = &shared.lifecycle;
    lifecycle.enter(Phase::Serving);
    let served = http2::serve(shared, peer, ours, {
        let (shared, peer) = (shared.clone(), peer.clone());
        move |request| respond(shared, peer, request)
    });
    let peer = Speaker {
        script,
        writing,
        to_reply,
    };
    let served = async {
        select! {
            served = timeout(LONGEST, served) => match served.expect("a connection without an end") {
                Ok(()) => "closed",
                Err(why) => why.reason().unwrap_or("lost"),
            },
            () = lifecycle.reached(Phase::Closed) => "dropped",
            () = peer.speak(&mut streams, lifecycle) => unreachable!("it waits for the end"),
            () = end_of_drain(lifecycle) => unreachable!("it waits for the end"),
        }
    };
    let (ending, ()) = join!(served, heard.listen(reading, script.manners.reads));
    let manners = script.manners;
    let is_polite = manners.greets && manners.answers && manners.reads && !manners.leaves;
    if ending == "closed" && is_polite && !streams.is_spoilt {
        let mut asked = streams.asked.range(..=heard.last);
        let unanswered = asked.find(|stream| !heard.ended.contains(stream));
        assert_eq!(unanswered, None, "no end to a stream");
    }
    Played {
        ending,
        answered: heard.answered,
    }
}

/// As the process does it.
async fn end_of_drain(lifecycle: &Lifecycle) {
    lifecycle.reached(Phase::Draining).await;
    sleep(pause(20_000)).await;
    lifecycle.enter(Phase::Closing);
    sleep(pause(5_000)).await;
    lifecycle.enter(Phase::Closed);
    pending().await
}

async fn nothing_is_left(shared: &Shared, peer: Arc<Peer>) {
    // What reads on behind an answer has a second.
    const SOON: Duration = Duration::from_secs(if cfg!(fuzzing) { 2 } else { 60 });
    let no_task = async {
        while Handle::current().metrics().num_alive_tasks() > 0 {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(SOON, no_task).await.expect("no task left");
    let is_free = |counter: &Counter, places: usize| {
        let taken: Vec<_> = (0..places).map_while(|_| counter.take()).collect();
        taken.len() == places
    };
    assert!(
        is_free(&peer.calls, 6),
        "a place among the calls of the peer"
    );
    assert!(
        is_free(&shared.lingering, service::LINGERING),
        "a place to linger"
    );
    let others = Counter::new(8);
    let calls: Vec<_> = (0..8)
        .map_while(|_| shared.calls.admit(&others).ok())
        .collect();
    assert_eq!(calls.len(), 8, "a place among the calls");
    Arc::into_inner(peer).expect("nobody knows the peer");
    let metrics = shared.metrics.text();
    for none in ["grpc_server_in_flight 0\n", "grpc_server_panics_total 0\n"] {
        assert!(metrics.contains(none), "{metrics}");
    }
}

/// The peer, as the input has it.
struct Speaker<'a> {
    script: &'a Script<'a>,
    writing: WriteHalf<DuplexStream>,
    to_reply: UnboundedReceiver<Vec<u8>>,
}

impl Speaker<'_> {
    /// Says all it has to say, and stays for as long as the server does.
    async fn speak(mut self, streams: &mut Streams, lifecycle: &Lifecycle) {
        const MOST: usize = 256 * 1024;
        let mut left = MOST;
        let mut next = match self.script.manners.greets {
            true => [
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(),
                &whole(4, 0, 0, b""),
            ]
            .concat(),
            false => Vec::new(),
        };
        for step in &self.script.steps {
            if let Step::Say(frame) = step {
                let frame = streams.write(*frame);
                left = left.saturating_sub(frame.len());
                if left == 0 {
                    break;
                }
                next.extend(frame);
                continue;
            }
            self.say(&std::mem::take(&mut next)).await;
            match step {
                Step::Drain => lifecycle.enter(Phase::Draining),
                Step::Close => lifecycle.enter(Phase::Closing),
                Step::Wait(time) => drop(timeout(*time, self.reply()).await),
                Step::Say(_) => {}
            }
        }
        self.say(&next).await;
        if self.script.manners.leaves {
            // For what can be answered at once.
            for _ in 0..100 {
                while let Ok(reply) = self.to_reply.try_recv() {
                    self.say(&reply).await;
                }
                yield_now().await;
            }
            // The server may be gone.
            let _ = self.writing.shutdown().await;
        }
        self.reply().await;
    }

    async fn say(&mut self, bytes: &[u8]) {
        // A byte at a time is for short scripts.
        let cuts = self.script.cuts.map(|cut| match cut {
            0 => 0,
            cut => usize::from(cut).max(bytes.len() / 1000),
        });
        for piece in pieces(&cuts, bytes) {
            let _ = self.writing.write_all(piece).await;
            yield_now().await;
        }
    }

    /// Says whatever there is to reply, for ever.
    async fn reply(&mut self) {
        while let Some(reply) = self.to_reply.recv().await {
            self.say(&reply).await;
        }
        pending().await
    }
}

/// What a peer has heard.
struct Heard {
    /// Where to put what there is to reply.
    replies: Option<UnboundedSender<Vec<u8>>>,
    /// Streams that have been ended or reset.
    ended: BTreeSet<u32>,
    /// How many of them have been ended.
    answered: usize,
    /// The last stream that the server will answer.
    last: u32,
}

impl Heard {
    fn new(replies: Option<UnboundedSender<Vec<u8>>>) -> Self {
        Self {
            replies,
            ended: BTreeSet::new(),
            answered: 0,
            last: u32::MAX,
        }
    }

    async fn listen(&mut self, mut reading: ReadHalf<DuplexStream>, reads: bool) {
        let mut bytes = Vec::new();
        while reads
            && reading
                .read_buf(&mut bytes)
                .await
                .is_ok_and(|read| read > 0)
        {
            let mut rest = bytes.as_slice();
            while let Some((&[a, b, c, kind, flags, ref stream @ ..], behind)) =
                rest.split_first_chunk::<9>()
            {
                let length = u32::from_be_bytes([0, a, b, c]) as usize;
                let Some((payload, behind)) = behind.split_at_checked(length) else {
                    break;
                };
                self.hear(kind, flags, u32::from_be_bytes(*stream), payload);
                rest = behind;
            }
            bytes.drain(..bytes.len() - rest.len());
        }
        self.replies = None;
    }

    fn hear(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let reply = match kind {
            // SETTINGS and PING
            4 | 6 if flags & 1 == 0 => whole(kind, 1, 0, if kind == 6 { payload } else { b"" }),
            0 if !payload.is_empty() => {
                let taken = (payload.len() as u32).to_be_bytes();
                [whole(8, 0, 0, &taken), whole(8, 0, stream, &taken)].concat()
            }
            7 => {
                let last = payload.first_chunk().expect("the last stream");
                self.last = u32::from_be_bytes(*last);
                Vec::new()
            }
            _ => Vec::new(),
        };
        let is_end = matches!(kind, 0 | 1) && flags & 1 == 1;
        if is_end || kind == 3 {
            self.answered += usize::from(is_end);
            self.ended.insert(stream);
        }
        if let Some(replies) = self.replies.as_ref().filter(|_| !reply.is_empty()) {
            let _ = replies.send(reply);
        }
    }
}
