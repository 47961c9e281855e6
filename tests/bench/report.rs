//! Figures as people read them.

use std::fmt::Write as _;

use crate::{
    peer::OURS,
    rounds::{Sample, Spread},
    work::Work,
};

/// What one work came to, as a table of Markdown; the first of the samples is ours.
pub(crate) fn table(work: &Work, names: &[&str], samples: &[Sample]) -> String {
    let unit = work.unit.0;
    let mut out = format!(
        "### {}\n\n| server | CPU per {unit} | of ours | calls a second | RSS | goal |\n|---|--:|--:|--:|--:|---|\n",
        work.title
    );
    let ours = samples.first().map_or(f64::NAN, |ours| ours.cpu.median());
    for (name, sample) in names.iter().zip(samples) {
        let ratio = sample.cpu.median() / ours;
        let goal = work.goals.iter().find(|(peer, _)| peer == name);
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "| {name} | {} | {ratio:.2} | {:.0} | {:.1} MiB | {} |",
            nanoseconds(&sample.cpu),
            sample.rate.median(),
            sample.rss as f64 / f64::from(1 << 20),
            goal.map_or_else(String::new, |(_, goal)| verdict(ratio, *goal)),
        );
    }
    for (name, goal) in work.goals {
        if !names.contains(name) {
            let _ = writeln!(out, "| {name} | – | – | – | – | ≥ {goal}: not measured |");
        }
    }
    debug_assert!(names.first() == Some(&OURS));
    out
}

fn verdict(ratio: f64, goal: f64) -> String {
    if ratio >= goal {
        return format!("≥ {goal}: met");
    }
    format!(
        "**≥ {goal}: missed by {:.0} %**",
        (1.0 - ratio / goal) * 100.0
    )
}

/// The median, and the range of all rounds.
fn nanoseconds(spread: &Spread) -> String {
    let one = |ns: f64| match ns {
        ns if ns < 1e3 => format!("{ns:.0} ns"),
        ns => format!("{:.2} µs", ns / 1e3),
    };
    let range = spread.range();
    let range = range.map(|(least, most)| format!(" ({} – {})", one(least), one(most)));
    one(spread.median()) + &range.unwrap_or_default()
}
