//! How far operations are, on stderr: bars on a terminal, a line now and then elsewhere.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use mendb_model::name::OperationId;
use mendb_model::operation::OperationHead;

use crate::clock::Stopwatch;
use crate::log;
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
        #[cfg(feature = "otlp")]
        log::traces::saw(operation);
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
                    log::say(&format!(
                        "{id}: {percent:.0} %, {}",
                        progress_line(operation)
                    ));
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
    styled(format!(
        "{} {}",
        operation.request.kind(),
        operation.request.collection()
    ))
}

fn styled(prefix: String) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix} [{bar:24}] {percent:>3} %  {msg}");
    let style = style
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ");
    ProgressBar::new(BAR_LENGTH)
        .with_style(style)
        .with_prefix(prefix)
}

/// Shows how far an operation is that a server drives.
pub struct RemoteProgress {
    quiet: bool,
    bar: Option<ProgressBar>,
    every: Duration,
    watch: Stopwatch,
    last: Option<Duration>,
}

impl RemoteProgress {
    /// Begins to show; nothing when `quiet`. Where there is no terminal a line is printed so often.
    pub fn start(quiet: bool, every: Duration) -> Self {
        Self {
            quiet,
            bar: None,
            every,
            watch: Stopwatch::start(),
            last: None,
        }
    }

    /// Shows where it is.
    pub fn update(&mut self, id: &str, line: &str, percent: f64) {
        if self.quiet {
            return;
        }
        if std::io::stderr().is_terminal() {
            let bar = self.bar.get_or_insert_with(|| styled(id.to_owned()));
            bar.set_position((percent * 100.0) as u64);
            bar.set_message(line.to_owned());
            return;
        }
        let elapsed = self.watch.elapsed();
        if self.last.is_none_or(|last| elapsed >= last + self.every) {
            self.last = Some(elapsed);
            log::say(&format!("{id}: {percent:.0} %, {line}"));
        }
    }

    /// Makes room for something else.
    pub fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
