//! Servers and channels of the suite, as they are, in a network and a time that are simulated: drains, ages, health,
//! crashes and cuts, all from a seed.
//!
//! ```text
//! simulation --seeds 20             twenty seeds, each in a process of its own
//! SEED=7 LOG=debug simulation       one of them again, exactly, with what the servers log
//! ```
//!
//! `plan` makes of a seed what happens, `servers`, `callers` and `probes` live through it and write down what they
//! see in `record`, and `judge` holds that against what was promised.

use std::{
    env, panic,
    process::{Command, ExitCode},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
};

use clap::Parser as _;
use mad_turmoil::time::SimClocksGuard;
use rand::{SeedableRng as _, rngs::StdRng};
use tracing_subscriber::filter::LevelFilter;

mod callers;
mod judge;
mod plan;
mod probes;
mod record;
mod servers;
mod world;

/// Simulates as many seeds, and says which of them break a promise
#[derive(Debug, clap::Parser)]
struct Arguments {
    /// How many seeds
    #[arg(long, default_value_t = 20)]
    seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 1)]
    from: u64,
}

fn main() -> ExitCode {
    let alone = env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    let fine = match alone {
        Some(seed) => one(seed),
        None => many(&Arguments::parse()),
    };
    if fine {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

static PANICKED: AtomicBool = AtomicBool::new(false);

/// Simulates this seed. Chance and clocks are the simulation's from here on, for the whole process.
fn one(seed: u64) -> bool {
    let level = env::var("LOG").ok().and_then(|level| level.parse().ok());
    tracing_subscriber::fmt()
        .with_max_level(level.unwrap_or(LevelFilter::OFF))
        .with_writer(std::io::stderr)
        .init();
    let told = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        PANICKED.store(true, Relaxed);
        told(panic);
    }));
    mad_turmoil::rand::set_rng(StdRng::seed_from_u64(seed));
    let clocks = SimClocksGuard::init();
    let plan = plan::Plan::of(seed);
    let (record, problem) = world::simulate(&plan);
    drop(clocks);
    let mut broken = judge::judge(&plan, &record);
    broken.extend(problem);
    if PANICKED.load(Relaxed) {
        broken.push("something has panicked".to_owned());
    }
    for promise in &broken {
        eprintln!("seed {seed}: {promise}");
    }
    anstream::println!("seed {seed}: {}", record.summary());
    broken.is_empty()
}

/// Simulates many, as many at once as there are cores, and the first one twice, to see that a seed is all there is.
fn many(arguments: &Arguments) -> bool {
    let seeds = arguments.from..arguments.from + arguments.seeds;
    let next = AtomicU64::new(arguments.from);
    let failed = Mutex::new(Vec::new());
    let fail = |seed| {
        failed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(seed)
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Relaxed);
                    if !seeds.contains(&seed) {
                        return;
                    }
                    let (fine, said) = apart(seed);
                    let again = seed > arguments.from || apart(seed) == (fine, said.clone());
                    if !fine || !again {
                        eprint!("{said}");
                        fail(seed);
                    }
                    if !again {
                        eprintln!("seed {seed}: another outcome the second time");
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    for seed in &failed {
        eprintln!("again: SEED={seed} LOG=debug");
    }
    anstream::println!("{} seeds, {} failed", arguments.seeds, failed.len());
    failed.is_empty()
}

/// Simulates a seed in a process of its own, and returns whether all promises are kept, and what it said.
fn apart(seed: u64) -> (bool, String) {
    let program = env::current_exe().map(Command::new);
    let output = program.and_then(|mut program| program.env("SEED", seed.to_string()).output());
    match output {
        Ok(output) => {
            let said = [output.stdout, output.stderr].concat();
            (
                output.status.success(),
                String::from_utf8_lossy(&said).into_owned(),
            )
        }
        Err(error) => (false, format!("seed {seed}: {error}\n")),
    }
}
