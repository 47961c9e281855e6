//! Replaces servers one after the other under load, ours and plain tonic's in the same way, and looks
//! at how evenly calls fall on ours.
//!
//! `cargo run --release --bin lab rollout [ROW…]`. The exit code is 1 if ours misses a goal.

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use harness::measurement::{Measurement, Side};

mod balance;
mod caller;
mod ecs;
mod fleet;
mod forwarder;
mod load;
mod paths;
mod replies;
mod rolling;

/// Restarts servers under load, and measures how calls are balanced
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Which rows to measure [default: all]
    rows: Vec<String>,
    /// How many restarts there are in each rollout
    #[arg(long, default_value_t = 50)]
    restarts: usize,
    /// How many calls there are at least
    #[arg(long, default_value_t = 100_000)]
    calls: u64,
    /// Take no longer than it takes to see that all of it works, and judge no time
    #[arg(long, conflicts_with_all = ["restarts", "calls"])]
    quick: bool,
    /// Leave out plain tonic, which no goal is about
    #[arg(long)]
    alone: bool,
    /// Replace tasks as ECS does, behind an ALB with the settings of this file, which the CDK app
    /// prints, and measure nothing else
    #[arg(long, conflicts_with_all = ["rows", "restarts", "quick"])]
    ecs: Option<PathBuf>,
}

impl Options {
    fn checked(mut self) -> Result<Self, String> {
        let mut known = rolling::ROWS.iter().map(|row| row.name).collect::<Vec<_>>();
        known.extend(balance::ROWS.iter().map(|row| row.name));
        if let Some(row) = self.rows.iter().find(|row| !known.contains(&row.as_str())) {
            return Err(format!(
                "{row}: no such row; there are: {}",
                known.join(" ")
            ));
        }
        if self.quick {
            (self.restarts, self.calls) = (6, 5000);
        }
        Ok(self)
    }

    fn chosen(&self, name: &str) -> bool {
        self.rows.is_empty() || self.rows.iter().any(|row| row == name)
    }

    fn missed(&self, measurement: &Measurement) -> bool {
        if self.quick {
            measurement.wrong()
        } else {
            measurement.missed()
        }
    }

    /// Long enough for several connections to grow old.
    fn ages(&self) -> Duration {
        Duration::from_secs(if self.quick { 5 } else { 15 })
    }
}

/// Runs it; the exit code is 1 if ours misses a goal, and 2 if a row is unknown.
pub(crate) async fn main(options: Options) -> io::Result<ExitCode> {
    let options = match options.checked() {
        Ok(options) => options,
        Err(problem) => {
            writeln!(io::stderr(), "{problem}")?;
            return Ok(ExitCode::from(2));
        }
    };
    let missed = match &options.ecs {
        Some(settings) => ecs_table(settings, &options).await?,
        None => rolling_table(&options).await? | balance_table(&options).await?,
    };
    Ok(ExitCode::from(u8::from(missed)))
}

/// Says whether ours missed a goal.
async fn rolling_table(options: &Options) -> io::Result<bool> {
    let mut out = io::stdout();
    let mut missed = false;
    let mut head =
        "| rollout | goal | ours | plain tonic 0.14.9 | command |\n|---|---|---|---|---|\n";
    for row in rolling::ROWS.iter().filter(|row| options.chosen(row.name)) {
        let ours = rolling::measure(row, Side::Ours, options).await;
        let plain = match options.alone {
            true => Measurement::new(),
            false => rolling::measure(row, Side::Plain, options).await,
        };
        missed |= options.missed(&ours);
        let (name, goal, ours, plain) = (row.name, row.goal, ours.text(), plain.text());
        writeln!(
            out,
            "{head}| {name} | {goal} | {ours} | {plain} | `cargo run --release --bin lab rollout {name}` |"
        )?;
        head = "";
    }
    Ok(missed)
}

/// Says whether ours missed a goal.
async fn balance_table(options: &Options) -> io::Result<bool> {
    let mut out = io::stdout();
    let mut missed = false;
    let mut head = "\n| balance | goal | found | command |\n|---|---|---|---|\n";
    for row in balance::ROWS.iter().filter(|row| options.chosen(row.name)) {
        let found = (row.measure)(options).await;
        missed |= options.missed(&found);
        let (name, goal, found) = (row.name, row.goal, found.text());
        writeln!(
            out,
            "{head}| {name} | {goal} | {found} | `cargo run --release --bin lab rollout {name}` |"
        )?;
        head = "";
    }
    Ok(missed)
}

/// Says whether a goal was missed.
async fn ecs_table(settings: &Path, options: &Options) -> io::Result<bool> {
    let settings = ecs::Settings::read(settings).map_err(io::Error::other)?;
    let found = ecs::measure(&settings, options.calls).await;
    let text = found.text();
    writeln!(
        io::stdout(),
        "| rollout | goal | found | command |\n|---|---|---|---|\n\
         | ecs | 0 lost, 0 truncated, 0 duplicated, 0 killed | {text} | `tests/full.sh ecs` |"
    )?;
    Ok(found.missed())
}
