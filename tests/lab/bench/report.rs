//! Figures as people read them, and the document that they are in.

use std::{fmt::Write as _, fs, io, path::Path};

use crate::bench::{
    peer::ROOT,
    rounds::{Sample, Spread},
    work::Work,
};

pub(crate) const KIB: f64 = 1024.0;
pub(crate) const MIB: f64 = 1024.0 * KIB;

/// Names, and what those came to; ours first.
pub(crate) type Results = Vec<(&'static str, Sample)>;

/// What one work came to, as a table of Markdown.
pub(crate) fn table(work: &Work, results: &Results) -> String {
    let unit = work.unit.0;
    let mut out = format!(
        "### {}\n\n| server | CPU a {unit} | least – most | of ours | calls a second | RSS | goal |\n\
         |---|--:|--:|--:|--:|--:|---|\n",
        work.title
    );
    let ours = results
        .first()
        .map_or(f64::NAN, |(_, ours)| ours.cpu.median());
    for (name, sample) in results {
        let ratio = sample.cpu.median() / ours;
        let goal = work.goals.iter().find(|(peer, _)| peer == name);
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "| {name} | {} | {} | {ratio:.2} | {:.0} | {:.1} MiB | {} |",
            nanoseconds(sample.cpu.median()),
            range(&sample.cpu),
            sample.rate.median(),
            sample.rss as f64 / MIB,
            goal.map_or_else(String::new, |(_, goal)| verdict(ratio, *goal)),
        );
    }
    let measured = |name: &str| results.iter().any(|(peer, _)| *peer == name);
    for (name, goal) in work.goals.iter().filter(|(name, _)| !measured(name)) {
        let _ = writeln!(
            out,
            "| {name} | – | – | – | – | – | ≥ {goal}: not measured |"
        );
    }
    out + "\n"
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

/// A figure that is to be no larger than its goal, if it has one.
pub(crate) fn bound(figure: f64, unit: &str, goal: Option<f64>) -> String {
    match goal {
        None => format!("{figure:.1} {unit}"),
        Some(goal) if figure <= goal => format!("{figure:.1} {unit} (≤ {goal}: met)"),
        Some(goal) => {
            let over = (figure / goal - 1.0) * 100.0;
            format!("**{figure:.1} {unit} (≤ {goal}: missed by {over:.0} %)**")
        }
    }
}

/// A time in its unit.
pub(crate) fn nanoseconds(ns: f64) -> String {
    match ns {
        ns if ns < 1e3 => format!("{ns:.1} ns"),
        ns if ns < 1e6 => format!("{:.2} µs", ns / 1e3),
        ns => format!("{:.2} ms", ns / 1e6),
    }
}

fn range(spread: &Spread) -> String {
    let range = spread.range();
    range.map_or_else(String::new, |(least, most)| {
        format!("{} – {}", nanoseconds(least), nanoseconds(most))
    })
}

/// Puts the tables between the markers of docs/performance.md, whose words stay, and the plot beside it.
pub(crate) fn write(tables: &str, plot: &str) -> io::Result<()> {
    const BEGIN: &str = "<!-- What follows is written by `bench --write`. -->\n";
    const END: &str = "<!-- End of what is written. -->";
    let docs = Path::new(ROOT).join("docs");
    let path = docs.join("performance.md");
    let text = fs::read_to_string(&path)?;
    let parts = text.split_once(BEGIN).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(END)?;
        Some((before, after))
    });
    let (before, after) =
        parts.ok_or_else(|| io::Error::other("docs/performance.md has no markers"))?;
    fs::write(
        path,
        format!("{before}{BEGIN}\n{}\n\n{END}{after}", tables.trim()),
    )?;
    fs::write(docs.join("performance.svg"), plot)
}
