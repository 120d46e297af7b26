//! The plot of the results: a line a table, of seconds against how much of it was damaged.

use super::results::Results;
use crate::bench::scale::Seconds;
use crate::bench::svg::{Colour, Drawing, MARGIN, MENDB, WIDTH};
use crate::bench::units::{count, seconds};

const HEIGHT: f64 = 430.0;
const LEFT: f64 = 84.0;
const TOP: f64 = 74.0;
const BOTTOM: f64 = 66.0;
/// Room behind the lines for what they are.
const NAMES: f64 = 180.0;

const COLOURS: [Colour; 3] = [
    MENDB,
    Colour {
        class: "middle",
        light: "#b3541e",
        dark: "#e08a55",
    },
    Colour {
        class: "large",
        light: "#7d8794",
        dark: "#7b8694",
    },
];

/// How a line is interrupted, so that it is known without its colour too.
const DASHES: [&str; 3] = ["", "9 4", "2 4"];

/// Draws how long a mend takes after each damage.
pub fn svg(results: &Results) -> String {
    let time = |size: usize, at: usize| results.sizes[size].mends[at].cost.time;
    let damages = results.sizes.first().map_or(0, |size| size.mends.len());
    let all = (0..results.sizes.len())
        .flat_map(|size| (0..damages).map(move |at| time(size, at).as_secs_f64()));
    let scale = Seconds::of(all, TOP, HEIGHT - BOTTOM);
    let right = WIDTH - MARGIN - NAMES;
    let step = (right - LEFT - 40.0) / (damages.max(2) - 1) as f64;
    let x = |at: usize| LEFT + 20.0 + step * at as f64;
    let mut drawing = Drawing::new(
        HEIGHT,
        "Seconds of a mend against the part of the rows that was damaged, a line a table",
        "Mend of a live table: seconds, lower is better",
        &COLOURS,
    );
    for mark in scale.marks() {
        drawing.rule(LEFT, right, scale.y(mark));
        let said = format!("{mark} s");
        drawing.text_before("faint", LEFT - 10.0, scale.y(mark) + 4.0, &said);
    }
    for at in 0..damages {
        let damaged = results.sizes[0].mends[at].percent();
        drawing.text_around("step", x(at), HEIGHT - BOTTOM + 26.0, &damaged);
    }
    drawing.text_around(
        "faint",
        (LEFT + right) / 2.0,
        HEIGHT - 18.0,
        "of the rows damaged",
    );
    for (row, size) in results.sizes.iter().enumerate().rev() {
        let points: Vec<(f64, f64)> = (0..damages)
            .map(|at| (x(at), scale.y(time(row, at).as_secs_f64())))
            .collect();
        let look = row.min(COLOURS.len() - 1);
        drawing.line(COLOURS[look].class, &points, DASHES[look]);
        if let Some((_, y)) = points.last() {
            let name = format!(
                "{} rows, {}",
                count(size.rows),
                seconds(time(row, damages - 1))
            );
            drawing.text("", right + 4.0, y + 4.0, &name);
        }
    }
    drawing.finish()
}

#[cfg(test)]
mod tests {
    use super::super::results::tests::results;
    use super::*;

    #[test]
    fn every_table_has_a_line_with_a_point_for_each_damage() {
        let text = svg(&results([100, 100]));
        assert_eq!(text.matches("<polyline").count(), 2);
        assert_eq!(text.matches("<circle").count(), 10);
    }
}
