//! The plot of the results: a line a table, of seconds against how much of it was damaged; and beside it what a user
//! would compare with, the restore of everything.

use super::results::{Restores, Results, Size};
use crate::bench::measure::Cost;
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

type CostOf = fn(&Restores) -> Cost;

/// What stands beside the mends.
const RESTORES: [(&str, CostOf); 2] = [
    ("merged", |restores| restores.merged),
    ("pg_restore", |restores| restores.pg_restore),
];

/// How a line is interrupted, so that it is known without its colour too.
const DASHES: [&str; 3] = ["", "9 4", "2 4"];

/// Draws how long a mend takes after each damage.
pub fn svg(results: &Results) -> String {
    let time = |size: usize, at: usize| results.sizes[size].mends[at].cost.time;
    let damages = results.sizes.first().map_or(0, |size| size.mends.len());
    let mends = (0..results.sizes.len())
        .flat_map(|size| (0..damages).map(move |at| time(size, at).as_secs_f64()));
    let beside = |size: &Size| RESTORES.map(|(_, cost)| cost(&size.restores).time.as_secs_f64());
    let all = mends.chain(results.sizes.iter().flat_map(beside));
    let scale = Seconds::of(all, TOP, HEIGHT - BOTTOM);
    let right = WIDTH - MARGIN - NAMES;
    let steps = damages + RESTORES.len();
    let step = (right - LEFT - 40.0) / (steps.max(2) - 1) as f64;
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
    for (at, (name, _)) in RESTORES.iter().enumerate() {
        let (x, base) = (x(damages + at), HEIGHT - BOTTOM + 26.0);
        drawing.text_around("step", x, base, name);
    }
    drawing.text_around(
        "faint",
        (x(0) + x(damages.max(1) - 1)) / 2.0,
        HEIGHT - 18.0,
        "of the rows damaged",
    );
    drawing.text_around(
        "faint",
        (x(damages) + x(steps.max(1) - 1)) / 2.0,
        HEIGHT - 18.0,
        "everything restored",
    );
    for (row, size) in results.sizes.iter().enumerate().rev() {
        let points: Vec<(f64, f64)> = (0..damages)
            .map(|at| (x(at), scale.y(time(row, at).as_secs_f64())))
            .collect();
        let look = row.min(COLOURS.len() - 1);
        drawing.line(COLOURS[look].class, &points, DASHES[look]);
        let others = beside(size).into_iter().enumerate();
        for (at, seconds) in others {
            let point = (x(damages + at), scale.y(seconds));
            drawing.line(COLOURS[look].class, &[point], "");
        }
        if let Some(y) = beside(size).last().map(|seconds| scale.y(*seconds)) {
            let name = format!(
                "{} rows, 100 %: {}",
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
    fn every_table_has_a_line_with_a_point_for_each_damage_and_points_for_its_restores() {
        let text = svg(&results([100, 100]));
        for name in ["merged", "pg_restore"] {
            assert!(text.contains(name), "{text}");
        }
        // Restores are points, and of lines of their own.
        assert_eq!(text.matches("<polyline").count(), 2 * 3);
        assert_eq!(text.matches("<circle").count(), 2 * (5 + 2));
    }
}
