//! The plot of the results: seconds of a mend of the smallest table against how much of it was damaged, and of what
//! others do instead.

use std::time::Duration;

use super::results::{Results, Size};
use crate::bench::scale::Seconds;
use crate::bench::svg::{Colour, Drawing, MARGIN, MENDB, WIDTH};
use crate::bench::units::{count, seconds};

const HEIGHT: f64 = 430.0;
const LEFT: f64 = 84.0;
const TOP: f64 = 74.0;
const BOTTOM: f64 = 66.0;
/// Room behind the lines for what they are.
const NAMES: f64 = 190.0;
/// Names of lines that end beside each other are so far apart.
const NAME_STEP: f64 = 18.0;

const COLOURS: [Colour; 4] = [
    MENDB,
    Colour {
        class: "bare",
        light: "#b3541e",
        dark: "#e08a55",
    },
    Colour {
        class: "restore",
        light: "#7d8794",
        dark: "#7b8694",
    },
    Colour {
        class: "delta",
        light: "#6b4fa0",
        dark: "#a58bd6",
    },
];

/// How a line is interrupted, so that it is known without its colour too.
const DASHES: [&str; 4] = ["", "9 4", "2 4", "9 4 2 4"];

/// Draws them.
pub fn svg(results: &Results) -> String {
    let rows = results.sizes.first().map_or(0, |size| size.rows);
    let mut drawing = Drawing::new(
        HEIGHT,
        "Seconds of a mend and of what others do, against the part of the rows that was damaged",
        &format!(
            "{} rows brought back: seconds, lower is better",
            count(rows)
        ),
        &COLOURS,
    );
    if let Some(size) = results.sizes.first() {
        draw(&mut drawing, size);
    }
    drawing.finish()
}

fn draw(drawing: &mut Drawing, size: &Size) {
    let mends = &size.mends;
    let lines: [(&str, Vec<Duration>); 4] = [
        ("mend", mends.iter().map(|mend| mend.cost.time).collect()),
        ("bare rewrite", mends.iter().map(|mend| mend.bare).collect()),
        (
            "pg_restore",
            mends.iter().map(|_| size.pg_restore.time).collect(),
        ),
        (
            "restore --delta",
            size.pgbackrest
                .shares
                .iter()
                .map(|share| share.down)
                .collect(),
        ),
    ];
    let all = lines.iter().flat_map(|(_, times)| times);
    let scale = Seconds::of(all.map(Duration::as_secs_f64), TOP, HEIGHT - BOTTOM);
    let right = WIDTH - MARGIN - NAMES;
    let step = (right - LEFT - 40.0) / (mends.len().max(2) - 1) as f64;
    let x = |at: usize| LEFT + 20.0 + step * at as f64;
    for mark in scale.marks() {
        drawing.rule(LEFT, right, scale.y(mark));
        let said = format!("{mark} s");
        drawing.text_before("faint", LEFT - 10.0, scale.y(mark) + 4.0, &said);
    }
    for (at, mend) in mends.iter().enumerate() {
        let damaged = format!("{} %", mend.percent);
        drawing.text_around("step", x(at), HEIGHT - BOTTOM + 26.0, &damaged);
    }
    let middle = (x(0) + x(mends.len().max(1) - 1)) / 2.0;
    drawing.text_around("faint", middle, HEIGHT - 18.0, "of the rows damaged");
    let mut names: Vec<(f64, String)> = Vec::new();
    for (at, (name, times)) in lines.iter().enumerate() {
        let points = times.iter().enumerate();
        let points: Vec<(f64, f64)> = points
            .map(|(at, time)| (x(at), scale.y(time.as_secs_f64())))
            .collect();
        drawing.line(COLOURS[at].class, &points, DASHES[at]);
        if let (Some((_, y)), Some(time)) = (points.last(), times.last()) {
            names.push((*y, format!("{name}: {}", seconds(*time))));
        }
    }
    names.sort_by(|left, right| left.0.total_cmp(&right.0));
    let mut above = f64::MIN;
    for (y, name) in names {
        let y = y.max(above + NAME_STEP);
        drawing.text("", right + 4.0, y + 4.0, &name);
        above = y;
    }
}

#[cfg(test)]
mod tests {
    use super::super::results::tests::results;
    use super::*;

    #[test]
    fn every_way_has_a_line_with_a_point_for_each_damage_and_a_name() {
        let text = svg(&results(1));
        for name in ["mend:", "bare rewrite:", "pg_restore:", "restore --delta:"] {
            assert!(text.contains(name), "{name}\n{text}");
        }
        assert_eq!(text.matches("<polyline").count(), 4);
        assert_eq!(text.matches("<circle").count(), 4 * 5);
    }
}
