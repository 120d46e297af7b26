//! The plot of the results: a line a method, of seconds against what was lost.

use super::results::{Method, Results};
use crate::bench::scale::Seconds;
use crate::bench::svg::{Colour, Drawing, MARGIN, MENDB, WIDTH};
use crate::bench::units::{megabytes, seconds};

const HEIGHT: f64 = 430.0;
const LEFT: f64 = 84.0;
const TOP: f64 = 74.0;
const BOTTOM: f64 = 66.0;
/// Room behind the lines for what they are.
const NAMES: f64 = 180.0;
/// Names are at least this far apart.
const NAME_STEP: f64 = 18.0;

const COLOURS: [Colour; 4] = [
    MENDB,
    Colour {
        class: "native",
        light: "#b3541e",
        dark: "#e08a55",
    },
    Colour {
        class: "copied",
        light: "#7d8794",
        dark: "#7b8694",
    },
    Colour {
        class: "linked",
        light: "#a8aeb7",
        dark: "#59626d",
    },
];

/// How a line is interrupted, so that it is known without its colour too.
const DASHES: [&str; 4] = ["", "9 4", "2 4", "9 4 2 4"];

/// Draws how long each method takes after each damage.
pub fn svg(results: &Results) -> String {
    let time = |at: usize, method| {
        let restores = &results.restores[at];
        restores.by(method).cost.time.as_secs_f64()
    };
    let damages = 0..results.restores.len();
    let all = damages
        .clone()
        .flat_map(|at| Method::ALL.map(|method| time(at, method)));
    let scale = Seconds::of(all, TOP, HEIGHT - BOTTOM);
    let right = WIDTH - MARGIN - NAMES;
    let step = (right - LEFT - 40.0) / (damages.len().max(2) - 1) as f64;
    let x = |at: usize| LEFT + 20.0 + step * at as f64;

    let size = megabytes(results.dataset.bytes);
    let mut drawing = Drawing::new(
        HEIGHT,
        &format!("Seconds of a restore of a table of {size} against what was lost of it"),
        &format!("Restore of a table of {size}: seconds, lower is better"),
        &COLOURS,
    );
    for mark in scale.marks() {
        drawing.rule(LEFT, right, scale.y(mark));
        drawing.text_before(
            "faint",
            LEFT - 10.0,
            scale.y(mark) + 4.0,
            &format!("{mark} s"),
        );
    }
    for at in damages.clone() {
        let lost = format!("{} %", results.restores[at].percent);
        drawing.text_around("step", x(at), HEIGHT - BOTTOM + 26.0, &lost);
    }
    drawing.text_around(
        "faint",
        (LEFT + right) / 2.0,
        HEIGHT - 18.0,
        "lost of the table",
    );

    let mut names = Vec::new();
    for (row, method) in Method::ALL.into_iter().enumerate().rev() {
        let points: Vec<(f64, f64)> = damages
            .clone()
            .map(|at| (x(at), scale.y(time(at, method))))
            .collect();
        drawing.line(COLOURS[row].class, &points, DASHES[row]);
        names.extend(points.last().map(|(_, y)| (*y, method.name())));
    }
    for (at, method) in damages.map(|at| (at, Method::Mendb)) {
        let restored = results.restores[at].by(method).cost.time;
        let above = scale.y(restored.as_secs_f64()) - 12.0;
        drawing.text_around("", x(at), above, &seconds(restored));
    }
    for (y, name) in apart(names) {
        drawing.text("", right + 4.0, y + 4.0, name);
    }
    drawing.finish()
}

/// Moves names down where they would stand on each other.
fn apart(mut names: Vec<(f64, &str)>) -> Vec<(f64, &str)> {
    names.sort_by(|(left, _), (right, _)| left.total_cmp(right));
    for at in 1..names.len() {
        let least = names[at - 1].0 + NAME_STEP;
        names[at].0 = names[at].0.max(least);
    }
    names
}

#[cfg(test)]
mod tests {
    use super::super::results::tests::results;
    use super::*;

    #[test]
    fn names_do_not_stand_on_each_other() {
        let names = apart(vec![(105.0, "b"), (100.0, "a"), (300.0, "c")]);
        assert_eq!(names, [(100.0, "a"), (118.0, "b"), (300.0, "c")]);
    }

    #[test]
    fn every_method_has_a_line_with_a_point_for_each_damage() {
        let text = svg(&results(700, 19, [10, 49, 200, 1000]));
        assert_eq!(text.matches("<polyline").count(), Method::ALL.len());
        assert_eq!(text.matches("<circle").count(), Method::ALL.len() * 4);
        for method in Method::ALL {
            assert!(text.contains(method.name()), "{method:?}");
        }
    }
}
