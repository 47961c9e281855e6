//! Measures the suite's servers and plain tonic in the same way, and prints a line for each promise.
//!
//! `cargo run --release --bin lab measure [ROW…]`. The exit code is 1 if ours misses a goal.

use std::{
    io::{self, Write as _},
    net::SocketAddr,
    pin::Pin,
    process::ExitCode,
    time::Duration,
};

use harness::measurement::{self, Measurement};

mod age;
mod authority;
mod calls;
mod certificates;
mod client;
mod cold;
mod descriptors;
mod floods;
mod frames;
pub(crate) mod load;
mod memory;
mod notes;
mod overload;
mod probes;
mod server_under_test;
mod shutdown;
mod silent;
mod soak;
pub(crate) mod wire;

use server_under_test::Side;

/// Measures the suite's servers beside plain tonic
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Which rows to measure [default: all but cold-start, saturation, soak and those of notes]
    rows: Vec<String>,
    /// Take as long as the goals say: 60 s of overload, 1000 rotations
    #[arg(long)]
    long: bool,
    /// Take no longer than it takes to see that all of it works, and judge no time, size or rate: one that
    /// does not come is wrong all the same
    #[arg(long, conflicts_with_all = ["long", "minutes"])]
    quick: bool,
    /// How long to soak
    #[arg(long, default_value_t = 60)]
    minutes: u64,
    /// For the row `memory`: attack this greeter, which somebody else runs and watches, in place of our own
    #[arg(long)]
    at: Option<SocketAddr>,
    /// Leave out plain tonic, which no goal is about
    #[arg(long)]
    alone: bool,
}

const SECOND: Duration = Duration::from_secs(1);

impl Options {
    /// So many, or so few for a quick run.
    fn of<T>(&self, many: T, few: T) -> T {
        if self.quick { few } else { many }
    }

    fn load(&self) -> Duration {
        SECOND * if self.long { 60 } else { self.of(10, 1) }
    }

    fn rotations(&self) -> usize {
        if self.long { 1000 } else { self.of(20, 3) }
    }

    fn soak(&self) -> Duration {
        let minutes = Duration::from_secs(60 * self.minutes);
        self.of(minutes, 10 * SECOND)
    }

    fn missed(&self, measurement: &Measurement) -> bool {
        if self.quick {
            measurement.wrong()
        } else {
            measurement.missed()
        }
    }
}

type Measured = Pin<Box<dyn Future<Output = Measurement>>>;

struct Row {
    name: &'static str,
    goal: &'static str,
    measure: fn(Side, &Options) -> Measured,
}

/// What is measured only by name: what has no goal, one that is out of reach, one that takes hours, and
/// those that take minutes and a `redis-server`.
const BY_NAME: [&str; 8] = [
    "cold-start",
    "saturation",
    "soak",
    "notes-history",
    "notes-outage",
    "notes-memory",
    "notes-slow-reader",
    "notes-speed",
];

const ROWS: &[Row] = &[
    Row {
        name: "frames",
        goal: "every raw-frame case that h2 leaves to its users has the reaction that is required",
        measure: |side, _| Box::pin(frames::frames(side)),
    },
    Row {
        name: "sigterm",
        goal: "SIGTERM to exit ≤ 3.2 s (lame duck 0.2 s, drain 2 s) with 100 silent peers, a Watch, an idle stream and a mute HTTP/2 peer; idle ≤ 100 ms",
        measure: |side, _| Box::pin(shutdown::sigterm(side)),
    },
    Row {
        name: "not-serving",
        goal: "SIGTERM to NOT_SERVING ≤ 50 ms",
        measure: |side, _| Box::pin(shutdown::not_serving(side)),
    },
    Row {
        name: "deadline",
        goal: "DEADLINE_EXCEEDED (4) ≤ 20 ms after the deadline",
        measure: |side, _| Box::pin(calls::deadline(side)),
    },
    Row {
        name: "cancel",
        goal: "RST_STREAM to the end of the handler ≤ 50 ms; 10 000 cancelled RecordRoute, 0 commits",
        measure: |side, _| Box::pin(calls::cancel(side)),
    },
    Row {
        name: "age",
        goal: "GOAWAY at 2 s ± 10 % to 1000 connections, chi-square over 10 parts ≤ 16.92, 0 lost calls",
        measure: |side, _| Box::pin(age::age(side)),
    },
    Row {
        name: "silent",
        goal: "10 000 silent sockets closed ≤ 6 s, p99 of a good client ≤ 2×, ≤ 20 KB a socket",
        measure: |side, _| Box::pin(silent::silent(side)),
    },
    Row {
        name: "rapid-reset",
        goal: "closed at stream ≤ 1100 of 1 000 000, RSS ≤ +20 MB, 0 errors of a good client",
        measure: |side, _| Box::pin(floods::rapid_reset(side)),
    },
    Row {
        name: "made-you-reset",
        goal: "closed at stream ≤ 1100 of 1 000 000, RSS ≤ +20 MB, 0 errors of a good client",
        measure: |side, _| Box::pin(floods::made_you_reset(side)),
    },
    Row {
        name: "streams",
        goal: "of 20 000 streams on a connection ≤ 200 admitted, RSS ≤ +5 MB",
        measure: |side, _| Box::pin(floods::streams(side)),
    },
    Row {
        name: "memory",
        goal: "RSS < 256 MiB, the manifests' limit, under 40 to 125 connections that have it hold what they can",
        measure: |side, options| match options.at {
            Some(addr) => Box::pin(memory::of_another(addr)),
            None => Box::pin(memory::memory(side)),
        },
    },
    Row {
        name: "probes",
        goal: "beside 2000 Watches and 2000 half-sent Checks of 20 peers, each probe on a connection of its own: all OK, ≤ 50 ms",
        measure: |side, options| Box::pin(probes::probes(side, options.of(200, 3))),
    },
    Row {
        name: "emfile",
        goal: "64 descriptors, 200 connections: ≤ 5 % of a core, next call ≤ 1 s after they go",
        measure: |side, _| Box::pin(descriptors::emfile(side)),
    },
    Row {
        name: "overload",
        goal: "twice the calls that 20 workers can do, 1 s deadlines, one core: goodput ≥ 90 % of the peak",
        measure: |side, options| Box::pin(overload::overload(side, options.load())),
    },
    Row {
        name: "rotations",
        goal: "new certificate presented ≤ 5 s after the swap, 0 lost calls",
        measure: |side, options| Box::pin(certificates::rotations(side, options.rotations())),
    },
    Row {
        name: "mtls",
        goal: "allowed identity OK (0), another PERMISSION_DENIED (7), none refused",
        measure: |side, _| Box::pin(certificates::mtls(side)),
    },
    Row {
        name: "footprint",
        goal: "≤ 20 KB for an idle HTTP/2 connection",
        measure: |side, _| Box::pin(silent::footprint(side)),
    },
    Row {
        name: "saturation",
        goal: "twice the calls that one core can do, 1 s deadlines: goodput ≥ 90 % of the peak",
        measure: |side, options| Box::pin(overload::saturation(side, options.load())),
    },
    Row {
        name: "cold-start",
        goal: "none: from exec to the first answer, of the server and of the Lambda functions",
        measure: |side, _| Box::pin(cold::cold_start(side)),
    },
    Row {
        name: "soak",
        goal: "half the peak: 0 lost; over half an hour and more, RSS ≤ +1 MB/h and p99 drift ≤ 10 %",
        measure: |side, options| Box::pin(soak::soak(side, options.soak())),
    },
    Row {
        name: "notes-history",
        goal: "60 s of chat from 64 streams on two servers, the store killed (-9) and restarted 20 times (append-only, fsync always): every acknowledged note is there afterwards, none twice, order kept",
        measure: |side, options| Box::pin(notes::of_ours(side, notes::history(options.of(20, 2)))),
    },
    Row {
        name: "notes-outage",
        goal: "store killed: the first calls fail with p99 ≤ 200 ms, later ones ≤ 1 ms or no slower than served ones; SERVING again ≤ 1 s after it returns; a wedged connection replaced ≤ 1.5 s; GetFeature 0 errors, p99 within 10 % or 0.5 ms",
        measure: |side, options| Box::pin(notes::of_ours(side, notes::outage(options.of(5, 1)))),
    },
    Row {
        name: "notes-memory",
        goal: "10 million notes on 1 million points leave the process under its cap",
        measure: |side, options| {
            Box::pin(notes::of_ours(
                side,
                notes::memory(options.of(1_000_000, 100_000)),
            ))
        },
    },
    Row {
        name: "notes-slow-reader",
        goal: "a chat that does not read changes the p99 of others by ≤ 5 % or 0.5 ms",
        measure: |side, options| {
            Box::pin(notes::of_ours(side, notes::slow_reader(options.of(4, 1))))
        },
    },
    Row {
        name: "notes-speed",
        goal: "exactly 1 round trip a note",
        measure: |side, options| {
            Box::pin(notes::of_ours(
                side,
                notes::speed(options.of(10, 1) * SECOND),
            ))
        },
    },
];

/// Runs it; the exit code is 1 if ours misses a goal, and 2 if a row is unknown.
pub(crate) async fn main(options: Options) -> io::Result<ExitCode> {
    if let Some(unknown) =
        (options.rows.iter()).find(|name| ROWS.iter().all(|row| row.name != **name))
    {
        writeln!(io::stderr(), "{unknown}: no such row")?;
        return Ok(ExitCode::from(2));
    }
    let chosen = |row: &&Row| {
        let named = options.rows.iter().any(|name| name == row.name);
        named || options.rows.is_empty() && !BY_NAME.contains(&row.name)
    };
    harness::raise_file_limit()?;
    let mut out = io::stdout();
    writeln!(
        out,
        "| row | goal | ours | plain tonic 0.14.9 | command |\n|---|---|---|---|---|"
    )?;
    let mut missed = false;
    for Row {
        name,
        goal,
        measure,
    } in ROWS.iter().filter(chosen)
    {
        let mut ours = measure(Side::Ours, &options).await;
        for attempt in 2..=5 {
            if ours.unlucky() && !options.quick {
                let again = measure(Side::Ours, &options).await;
                ours = again.note(format!("attempt {attempt}"));
            }
        }
        let plain = match options.alone {
            true => Measurement::new(),
            false => measure(Side::Plain, &options).await,
        };
        missed |= options.missed(&ours);
        let (ours, plain) = (ours.text(), plain.text());
        writeln!(
            out,
            "| {name} | {goal} | {ours} | {plain} | `cargo run --release --bin lab measure {name}` |"
        )?;
    }
    Ok(ExitCode::from(u8::from(missed)))
}
