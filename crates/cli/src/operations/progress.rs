//! How far operations are, on stderr: bars on a terminal, a line now and then elsewhere.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use mendb_model::name::OperationId;
use mendb_model::operation::OperationHead;

use crate::clock::Stopwatch;
use crate::operations::record::progress_line;

/// How often a line is printed where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(2);

/// Bars are drawn in hundredths of a percent.
const BAR_LENGTH: u64 = 10_000;

/// Shows every operation that moves.
pub struct OperationProgress {
    shown: Shown,
}

enum Shown {
    Nothing,
    Bars {
        all: MultiProgress,
        bars: BTreeMap<OperationId, ProgressBar>,
    },
    Lines {
        watch: Stopwatch,
        last: BTreeMap<OperationId, (u32, Duration)>,
    },
}

impl OperationProgress {
    /// Begins to show; nothing when `quiet`.
    pub fn start(quiet: bool) -> Self {
        let shown = if quiet {
            Shown::Nothing
        } else if std::io::stderr().is_terminal() {
            Shown::Bars {
                all: MultiProgress::new(),
                bars: BTreeMap::new(),
            }
        } else {
            Shown::Lines {
                watch: Stopwatch::start(),
                last: BTreeMap::new(),
            }
        };
        Self { shown }
    }

    /// Shows where an operation is now.
    pub fn update(&mut self, operation: &OperationHead) {
        let id = &operation.operation_id;
        match &mut self.shown {
            Shown::Nothing => {}
            Shown::Bars { all, bars } => {
                let bar = bars
                    .entry(id.clone())
                    .or_insert_with(|| all.add(bar(operation)));
                bar.set_position((operation.progress().percent * 100.0) as u64);
                bar.set_message(progress_line(operation));
            }
            Shown::Lines { watch, last } => {
                let elapsed = watch.elapsed();
                let due = last.get(id).is_none_or(|(step, at)| {
                    let begins = *step != operation.current_step && operation.counts.total > 1;
                    begins || elapsed >= *at + LINE_EVERY
                });
                if due || operation.state.is_terminal() {
                    last.insert(id.clone(), (operation.current_step, elapsed));
                    let percent = operation.progress().percent;
                    eprintln!("{id}: {percent:.0} %, {}", progress_line(operation));
                }
            }
        }
    }

    /// Ends the display; what was done is for the report to say.
    pub fn finish(self) {
        if let Shown::Bars { bars, .. } = self.shown {
            for bar in bars.values() {
                bar.finish_and_clear();
            }
        }
    }
}

fn bar(operation: &OperationHead) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix} [{bar:24}] {percent:>3} %  {msg}");
    let style = style
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ");
    ProgressBar::new(BAR_LENGTH)
        .with_style(style)
        .with_prefix(format!(
            "{} {}",
            operation.request.kind(),
            operation.request.collection()
        ))
}
