//! The plot of the results: bars of seconds.

use super::results::{ROUNDS, Results};
use crate::bench::measure::Cost;
use crate::bench::svg::{Colour, Drawing, MARGIN, MENDB, WIDTH};
use crate::bench::units::{count, seconds, times};

/// Where the bars begin: what is left of them is text.
const BARS: f64 = 190.0;
/// Room behind the longest bar for what it says.
const SAID: f64 = 210.0;
const BAR: f64 = 18.0;
const BAR_STEP: f64 = 22.0;
const GROUP_STEP: f64 = 100.0;
const HEAD: f64 = 78.0;

const COLOURS: [Colour; 3] = [
    MENDB,
    Colour {
        class: "default",
        light: "#b9bec6",
        dark: "#4b535e",
    },
    Colour {
        class: "tuned",
        light: "#7d8794",
        dark: "#7b8694",
    },
];

/// A step of all systems.
struct Group {
    step: [String; 2],
    mendb: Cost,
    default: Cost,
    tuned: Cost,
}

/// Draws seconds of import, backup and restore; shorter is better.
pub fn svg(results: &Results) -> String {
    let mendb = &results.mendb;
    let [default, tuned] = &results.postgres;
    let group = |step: [&str; 2], ours, default, tuned| Group {
        step: step.map(str::to_owned),
        mendb: ours,
        default,
        tuned,
    };
    let groups = [
        group(["import", ""], mendb.import, default.import, tuned.import),
        group(["full backup", ""], mendb.full, default.dump, tuned.dump),
        group(
            ["restore", "of the full backup"],
            mendb.restore_full,
            default.restore,
            tuned.restore,
        ),
        group(
            ["restore", &format!("and {ROUNDS} increments, merged")],
            mendb.restore_merged,
            default.restore,
            tuned.restore,
        ),
    ];
    let longest = groups
        .iter()
        .flat_map(|group| [group.mendb, group.default, group.tuned])
        .map(|cost| cost.time.as_secs_f64())
        .fold(0.0, f64::max);
    let scale = (WIDTH - BARS - SAID) / longest.max(1e-9);
    let height = HEAD + GROUP_STEP * groups.len() as f64;

    let rows = count(results.rows);
    let mut drawing = Drawing::new(
        height,
        &format!("Seconds for import, backup and restore of {rows} rows"),
        &format!("{rows} rows with one index: seconds, shorter is better"),
        &COLOURS,
    );
    legend(&mut drawing, &tuned.version);
    for (at, group) in groups.iter().enumerate() {
        let top = HEAD + GROUP_STEP * at as f64;
        drawing.text("step", MARGIN, top + 14.0, &group.step[0]);
        drawing.text("faint", MARGIN, top + 32.0, &group.step[1]);
        let bars = [
            ("mendb", group.mendb),
            ("default", group.default),
            ("tuned", group.tuned),
        ];
        for (row, (class, cost)) in bars.into_iter().enumerate() {
            let top = top + BAR_STEP * row as f64;
            let length = (cost.time.as_secs_f64() * scale).max(1.0);
            drawing.bar(class, BARS, top, length, BAR);
            let said = match class {
                "mendb" => seconds(cost.time),
                _ => format!(
                    "{}, {:.1} times as long",
                    seconds(cost.time),
                    times(cost.time, group.mendb.time)
                ),
            };
            drawing.text("", BARS + length + 8.0, top + 14.0, &said);
        }
    }
    drawing.finish()
}

fn legend(drawing: &mut Drawing, version: &str) {
    let entries = [
        ("mendb", "mendb".to_owned(), 0.0),
        ("default", format!("{version}, default settings"), 90.0),
        ("tuned", format!("{version}, tuned for loading"), 350.0),
    ];
    for (class, name, from) in entries {
        let left = BARS + from;
        drawing.bar(class, left, 46.0, 12.0, 12.0);
        drawing.text("faint", left + 18.0, 57.0, &name);
    }
}
