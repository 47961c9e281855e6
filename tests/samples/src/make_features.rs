//! Makes files of features for `--features-file`.
//!
//! `cargo run --release --bin make-features -- COUNT [--array] [--clustered] [--seed N] > FILE`. The same
//! arguments make the same file.

use std::{
    collections::HashSet,
    io::{self, BufWriter, Write as _},
    iter,
};

use clap::Parser;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

/// Writes features at random places, no two at one point, one to a line
#[derive(Debug, Parser)]
struct Options {
    /// How many
    count: u32,
    /// Write a JSON array instead of lines
    #[arg(long)]
    array: bool,
    /// Put them around 50 places instead of anywhere on the globe
    #[arg(long)]
    clustered: bool,
    /// Make other features than those of another seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// In units of 1e-7 degree.
type Place = (i32, i32);

fn main() -> io::Result<()> {
    let options = Options::parse();
    let mut out = BufWriter::new(io::stdout().lock());
    let (begin, between, end) = match options.array {
        true => ("[\n", ",\n", "\n]\n"),
        false => ("", "\n", "\n"),
    };
    write!(out, "{begin}")?;
    for (index, (latitude, longitude)) in places(&options).enumerate() {
        let between = if index == 0 { "" } else { between };
        write!(
            out,
            r#"{between}{{"location":{{"latitude":{latitude},"longitude":{longitude}}},"name":""#
        )?;
        // About as many are unnamed, and names about as long, as in data/route_guide_db.json.
        if index % 3 != 2 {
            write!(
                out,
                "{} Imaginary Avenue, Somewhere, NJ 07945, USA",
                index + 1
            )?;
        }
        write!(out, r#""}}"#)?;
    }
    write!(out, "{end}")?;
    out.flush()
}

fn places(options: &Options) -> impl Iterator<Item = Place> + use<> {
    let mut random = StdRng::seed_from_u64(options.seed);
    let clustered = options.clustered;
    let centres: [Place; 50] = std::array::from_fn(|_| anywhere(&mut random));
    let mut taken = HashSet::new();
    let place = move || loop {
        let place = match clustered {
            true => near(centres[random.random_range(..centres.len())], &mut random),
            false => anywhere(&mut random),
        };
        if taken.insert(place) {
            break place;
        }
    };
    iter::repeat_with(place).take(options.count as usize)
}

fn anywhere(random: &mut StdRng) -> Place {
    (
        random.random_range(-900_000_000..=900_000_000),
        random.random_range(-1_800_000_000..=1_800_000_000),
    )
}

/// Within four degrees of latitude and twelve of longitude, and the nearer the likelier.
fn near((latitude, longitude): Place, random: &mut StdRng) -> Place {
    let mut about = |far: i32| random.random_range(-far..=far) + random.random_range(-far..=far);
    let (north, east) = (about(20_000_000), about(60_000_000));
    (
        (latitude + north).clamp(-900_000_000, 900_000_000),
        (longitude + east).clamp(-1_800_000_000, 1_800_000_000),
    )
}
