//! The plot of the results, as SVG that follows the reader's light or dark colours.

use std::fmt::Write;

use super::measure::Cost;
use super::results::{ROUNDS, Results};
use super::units::{count, seconds, times};

const WIDTH: f64 = 860.0;
const MARGIN: f64 = 24.0;
/// Where the bars begin: what is left of them is text.
const BARS: f64 = 190.0;
/// Room behind the longest bar for what it says.
const SAID: f64 = 210.0;
const BAR: f64 = 18.0;
const BAR_STEP: f64 = 22.0;
const GROUP_STEP: f64 = 100.0;
const HEAD: f64 = 78.0;

/// Colours of a background that is not the page's own, so that the plot can be read on any.
const STYLE: &str = "\
    .ground { fill: #ffffff; stroke: #d7dbe0; }\n\
    text { font: 13px system-ui, sans-serif; fill: #22272e; }\n\
    .title { font-size: 17px; font-weight: 600; }\n\
    .step { font-weight: 600; }\n\
    .faint { fill: #656d76; }\n\
    .mendb { fill: #0f7b6c; }\n\
    .default { fill: #b9bec6; }\n\
    .tuned { fill: #7d8794; }\n\
    @media (prefers-color-scheme: dark) {\n\
      .ground { fill: #15191f; stroke: #363c45; }\n\
      text { fill: #e6eaef; }\n\
      .faint { fill: #9aa4b0; }\n\
      .mendb { fill: #34c3ab; }\n\
      .default { fill: #4b535e; }\n\
      .tuned { fill: #7b8694; }\n\
    }";

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
            ["restore", &format!("and {ROUNDS} increments")],
            mendb.restore_chain,
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

    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">\n\
         <title>Seconds for import, backup and restore of {rows} rows</title>\n\
         <style>\n{STYLE}\n</style>\n\
         <rect class=\"ground\" x=\"0.5\" y=\"0.5\" width=\"{}\" height=\"{}\" rx=\"8\"/>\n",
        WIDTH - 1.0,
        height - 1.0,
        rows = count(results.rows),
    );
    let title = format!(
        "{} rows with one index: seconds, shorter is better",
        count(results.rows)
    );
    text(&mut out, "title", MARGIN, 34.0, &title);
    legend(&mut out, &tuned.version);
    for (at, group) in groups.iter().enumerate() {
        let top = HEAD + GROUP_STEP * at as f64;
        text(&mut out, "step", MARGIN, top + 14.0, &group.step[0]);
        text(&mut out, "faint", MARGIN, top + 32.0, &group.step[1]);
        let bars = [
            ("mendb", group.mendb),
            ("default", group.default),
            ("tuned", group.tuned),
        ];
        for (row, (class, cost)) in bars.into_iter().enumerate() {
            let top = top + BAR_STEP * row as f64;
            let length = (cost.time.as_secs_f64() * scale).max(1.0);
            let _ = writeln!(
                out,
                "<rect class=\"{class}\" x=\"{BARS}\" y=\"{top}\" width=\"{length:.1}\" height=\"{BAR}\" rx=\"2\"/>"
            );
            let said = match class {
                "mendb" => seconds(cost.time),
                _ => format!(
                    "{}, {:.1} times as long",
                    seconds(cost.time),
                    times(cost.time, group.mendb.time)
                ),
            };
            text(&mut out, "", BARS + length + 8.0, top + 14.0, &said);
        }
    }
    out.push_str("</svg>\n");
    out
}

fn legend(out: &mut String, version: &str) {
    let entries = [
        ("mendb", "mendb".to_owned(), 0.0),
        ("default", format!("{version}, default settings"), 90.0),
        ("tuned", format!("{version}, tuned for loading"), 350.0),
    ];
    for (class, name, from) in entries {
        let left = BARS + from;
        let _ = writeln!(
            out,
            "<rect class=\"{class}\" x=\"{left}\" y=\"46\" width=\"12\" height=\"12\" rx=\"2\"/>"
        );
        text(out, "faint", left + 18.0, 57.0, &name);
    }
}

fn text(out: &mut String, class: &str, left: f64, base: f64, said: &str) {
    if said.is_empty() {
        return;
    }
    let _ = writeln!(
        out,
        "<text class=\"{class}\" x=\"{left:.1}\" y=\"{base}\">{said}</text>"
    );
}
