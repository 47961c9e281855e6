//! The processor time of each server as a plot.

use std::fmt::Write as _;

use crate::bench::{
    report::{Results, nanoseconds},
    work::Work,
};

const WIDTH: f64 = 760.0;
const ROW: f64 = 20.0;
const HEAD: f64 = 34.0;
/// Where bars begin, and how far the longest goes.
const LEFT: f64 = 110.0;
const LONGEST: f64 = 520.0;

/// A group of bars for each work, their lengths by the logarithm: each line is ten times the one before.
pub(crate) fn draw(works: &[(&Work, Results)]) -> String {
    let rows: usize = works.iter().map(|(_, results)| results.len()).sum();
    let height = works.len() as f64 * HEAD + rows as f64 * ROW + ROW;
    let mut svg = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12">
<title>CPU time of each server, logarithmic</title>
<rect width="100%" height="100%" fill="#fff"/>
"##
    );
    let mut y = 0.0;
    for (work, results) in works {
        y += HEAD;
        text(
            &mut svg,
            8.0,
            y - 8.0,
            &format!("{}: CPU a {}", work.title, work.unit.0),
        );
        let figures = || {
            results
                .iter()
                .map(|(_, sample)| sample.cpu.median().log10())
        };
        // Whole powers of ten.
        let least = figures().fold(f64::INFINITY, f64::min).floor();
        let decades = figures().fold(f64::NEG_INFINITY, f64::max).ceil() - least;
        let scale = LONGEST / decades.max(1.0);
        for decade in 0..=decades as u32 {
            let x = LEFT + f64::from(decade) * scale;
            let to = y + results.len() as f64 * ROW;
            element(
                &mut svg,
                format_args!(r##"<path d="M{x:.1} {y}V{to}" stroke="#ccc"/>"##),
            );
        }
        for (name, sample) in results {
            let figure = sample.cpu.median();
            let length = (figure.log10() - least) * scale;
            let colour = if *name == "ours" { "#c33" } else { "#789" };
            text(&mut svg, 8.0, y + 14.0, name);
            element(
                &mut svg,
                format_args!(
                    r#"<rect x="{LEFT}" y="{}" width="{length:.1}" height="14" fill="{colour}"/>"#,
                    y + 3.0
                ),
            );
            text(
                &mut svg,
                LEFT + length + 6.0,
                y + 14.0,
                &nanoseconds(figure),
            );
            y += ROW;
        }
    }
    svg + "</svg>\n"
}

fn text(svg: &mut String, x: f64, y: f64, text: &str) {
    element(
        svg,
        format_args!(r#"<text x="{x:.1}" y="{y}">{text}</text>"#),
    );
}

fn element(svg: &mut String, element: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(svg, "{element}");
}
