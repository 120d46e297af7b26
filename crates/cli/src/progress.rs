//! How far a long command is, on stderr: a bar on a terminal, a line every few seconds elsewhere.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::clock::Stopwatch;
use crate::human;
use crate::log;

/// How often a line is printed where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// What the progress of a piece of work is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    /// Bytes of a file.
    Bytes,
    /// Rows of a table.
    Rows,
}

/// The progress of one piece of work.
pub struct Progress {
    shown: Shown,
}

enum Shown {
    Nothing,
    Bar(ProgressBar),
    Lines {
        label: String,
        unit: Unit,
        total: Option<u64>,
        watch: Stopwatch,
        last: Mutex<Duration>,
    },
}

impl Progress {
    /// Begins to show work on so many bytes, if that is known. Nothing is shown when `quiet`.
    pub fn start(label: impl Into<String>, total_bytes: Option<u64>, quiet: bool) -> Self {
        Self::of(label.into(), Unit::Bytes, total_bytes, quiet)
    }

    /// Begins to show work on so many rows. Nothing is shown when `quiet`.
    pub fn start_rows(label: impl Into<String>, total_rows: u64, quiet: bool) -> Self {
        Self::of(label.into(), Unit::Rows, Some(total_rows), quiet)
    }

    fn of(label: String, unit: Unit, total: Option<u64>, quiet: bool) -> Self {
        let shown = if quiet {
            Shown::Nothing
        } else if std::io::stderr().is_terminal() {
            Shown::Bar(bar(label, unit, total))
        } else {
            Shown::Lines {
                label,
                unit,
                total,
                watch: Stopwatch::start(),
                last: Mutex::new(Duration::ZERO),
            }
        };
        Self { shown }
    }

    /// Says how many units are done, and what that is in words: `120,000 rows`.
    pub fn update(&self, units: u64, done: &str) {
        match &self.shown {
            Shown::Nothing => {}
            Shown::Bar(bar) => {
                bar.set_position(units);
                bar.set_message(done.to_owned());
            }
            Shown::Lines {
                label,
                unit,
                total,
                watch,
                last,
            } => {
                let elapsed = watch.elapsed();
                let mut last = last.lock().expect("no holder of this lock panics");
                if elapsed >= *last + LINE_EVERY {
                    *last = elapsed;
                    log::say(&line(label, *unit, units, *total, elapsed, done));
                }
            }
        }
    }

    /// Ends the display; the bar goes away, what was done is for the report to say.
    pub fn finish(self) {
        if let Shown::Bar(bar) = self.shown {
            bar.finish_and_clear();
        }
    }
}

fn bar(label: String, unit: Unit, total: Option<u64>) -> ProgressBar {
    let template = match (unit, total) {
        (Unit::Bytes, Some(_)) => {
            "{prefix} [{bar:30}] {percent:>3} %  {binary_bytes_per_sec}  ETA {eta}  {msg}"
        }
        (Unit::Rows, Some(_)) => "{prefix} [{bar:30}] {percent:>3} %  ETA {eta}  {msg}",
        (_, None) => "{prefix} {spinner} {elapsed}  {msg}",
    };
    let style = ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ");
    ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr_with_hz(8))
        .with_style(style)
        .with_prefix(label)
}

/// `importing flights: 45 %, 120,000 rows, 3.1 MiB/s, 7.2 s left`
fn line(
    label: &str,
    unit: Unit,
    units: u64,
    total: Option<u64>,
    elapsed: Duration,
    done: &str,
) -> String {
    let rate = human::rate(units, elapsed);
    let speed = match unit {
        Unit::Bytes => format!("{}/s", human::bytes(rate)),
        Unit::Rows => format!("{}/s", human::rows(rate)),
    };
    match total {
        Some(total) if total > 0 && rate > 0 => {
            let percent = units.min(total) * 100 / total;
            let left = Duration::from_secs_f64(total.saturating_sub(units) as f64 / rate as f64);
            let left = human::duration(left);
            format!("{label}: {percent} %, {done}, {speed}, {left} left")
        }
        _ if rate > 0 => format!("{label}: {done}, {speed}"),
        _ => format!("{label}: {done}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_percent_rate_and_time_left() {
        let elapsed = Duration::from_secs(2);
        let shown = |unit, units, total| line("importing t", unit, units, total, elapsed, "9 rows");
        assert_eq!(
            shown(Unit::Bytes, 2 << 20, Some(8 << 20)),
            "importing t: 25 %, 9 rows, 1.0 MiB/s, 6.00 s left"
        );
        assert_eq!(
            shown(Unit::Bytes, 2 << 20, None),
            "importing t: 9 rows, 1.0 MiB/s"
        );
        assert_eq!(shown(Unit::Bytes, 0, None), "importing t: 9 rows");
        assert_eq!(
            shown(Unit::Rows, 9, Some(90)),
            "importing t: 10 %, 9 rows, 4 rows/s, 20.2 s left"
        );
    }
}
