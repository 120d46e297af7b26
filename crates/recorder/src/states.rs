//! Goes through the states that crashes leave, and has each checked.

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::dice::Dice;
use crate::disk::{Disk, Promise};
use crate::error::{Result, failed};
use crate::loss::{Loss, MOST_ENUMERATED, systematic};
use crate::recorder::Recording;
use crate::trace::{Change, DataChange, Event, Mark, Stream, Trace};

/// After so many failures the rest is not looked at.
const MOST_FAILURES: usize = 5;
/// How often new states are looked for where those that were drawn had been there before.
const MOST_ROUNDS: u64 = 8;
/// What the kernel writes before it looks whether its process was killed.
const PAGE: usize = 4096;

/// Which crashes, and how many states of them.
#[derive(Debug, Clone)]
pub struct How {
    crash: Crash,
    count: usize,
    seed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Crash {
    PowerLoss(Promise),
    Kill,
}

impl How {
    /// The power fails. What was not synced is there, or not, or torn, in any order, by what POSIX promises.
    pub fn power_loss() -> Self {
        Self {
            crash: Crash::PowerLoss(Promise::Posix),
            count: 1000,
            seed: 1,
        }
    }

    /// The process is killed. What its calls did is there; of the one it was in, nothing, some pages, or all.
    pub fn kill() -> Self {
        Self {
            crash: Crash::Kill,
            ..Self::power_loss()
        }
    }

    /// What may be relied on in a power loss.
    #[must_use]
    pub fn promise(mut self, promise: Promise) -> Self {
        if let Crash::PowerLoss(promised) = &mut self.crash {
            *promised = promise;
        }
        self
    }

    /// How many different states are checked, about. Where there are not more in which changes are lost whole,
    /// all of these are among them.
    #[must_use]
    pub fn count(mut self, count: usize) -> Self {
        self.count = count;
        self
    }

    /// So many states, unless the environment variable `MENDB_CRASH_STATES` says how many; the seed is that of
    /// `MENDB_CRASH_SEED`, if it is set. What is no number counts as not set.
    #[must_use]
    pub fn usual_count(self, count: usize) -> Self {
        let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
        let count = number("MENDB_CRASH_STATES").map_or(count, |states| states as usize);
        let seed = number("MENDB_CRASH_SEED").unwrap_or(self.seed);
        self.count(count).seed(seed)
    }

    /// What picks the states, where there are more.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }
}

/// What a crash has left, and what the process had told until then.
#[derive(Debug)]
pub struct State<'a> {
    directory: &'a Path,
    marks: &'a [Mark],
}

impl State<'_> {
    /// The recorded directory as the crash left it. The check may change what is in it.
    pub fn directory(&self) -> &Path {
        self.directory
    }

    /// What was told, in order.
    pub fn marks(&self) -> &[Mark] {
        self.marks
    }

    /// The lines on stdout.
    pub fn told(&self) -> impl Iterator<Item = &str> {
        let lines = self
            .marks
            .iter()
            .filter(|mark| mark.stream == Stream::Stdout);
        lines.map(|mark| mark.text.as_str())
    }

    /// Whether the process had ended well: what it was asked for is acknowledged.
    pub fn succeeded(&self) -> bool {
        let exit = self.marks.iter().find(|mark| mark.stream == Stream::Exit);
        exit.is_some_and(|exit| exit.text == "0")
    }
}

/// A state in which a promise was broken.
#[derive(Debug, Clone)]
pub struct Failure {
    /// Where the crash was, and what it took.
    pub crash: String,
    /// What the check said.
    pub message: String,
}

/// What a check has found.
#[derive(Debug, Clone)]
pub struct Report {
    /// The points at which a crash was tried.
    pub points: usize,
    /// The states that were checked, all different.
    pub states: usize,
    /// Whether all there are were among them, as far as changes are lost whole.
    pub is_exhaustive: bool,
    /// Broken promises: no more than a few are looked for.
    pub failures: Vec<Failure>,
}

impl Report {
    /// Panics with what was found where promises are broken.
    #[track_caller]
    pub fn assert(&self) {
        assert!(self.failures.is_empty(), "{self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = if self.is_exhaustive {
            " (all in which changes are lost whole among them)"
        } else {
            ""
        };
        write!(
            f,
            "{} states at {} points{all}, {} broken promises",
            self.states,
            self.points,
            self.failures.len()
        )?;
        for failure in &self.failures {
            write!(f, "\n- {}\n  {}", failure.message, failure.crash)?;
        }
        Ok(())
    }
}

/// A crash before an event, and what it takes.
type Pick = (usize, Taken);

#[derive(Debug, Clone, Copy)]
enum Taken {
    Loss(Loss),
    /// Of the write that it interrupts, so many bytes were done.
    Halfway(usize),
}

impl Recording {
    /// Writes states that a crash could have left into directories, one after the other, and has each
    /// checked.
    ///
    /// # Errors
    /// A state cannot be written. What the check finds is in the report.
    pub fn check(
        &self,
        how: &How,
        mut check: impl FnMut(&State<'_>) -> std::result::Result<(), String>,
    ) -> Result<Report> {
        let scratch =
            tempfile::tempdir().map_err(failed("make a directory in", Path::new("TMPDIR")))?;
        let (mut picks, is_exhaustive) = self.trace.picks(how);
        let mut run = Run {
            trace: &self.trace,
            how,
            directory: scratch.path().join("state"),
            seen: HashSet::new(),
            report: Report {
                points: self.trace.events.len() + 1,
                states: 0,
                is_exhaustive,
                failures: Vec::new(),
            },
        };
        for round in 1..=MOST_ROUNDS {
            run.check(&mut picks, &mut check)?;
            let left = how.count.saturating_sub(run.report.states);
            if how.crash == Crash::Kill || left == 0 || !run.report.failures.is_empty() {
                break;
            }
            picks = self.trace.random_picks(how, left, round);
        }
        Ok(run.report)
    }
}

impl Trace {
    /// The crashes to try, and whether they are all.
    fn picks(&self, how: &How) -> (Vec<Pick>, bool) {
        let mut dice = Dice::new(how.seed);
        let mut picks = Vec::new();
        let mut subsets = Some(0usize);
        let promise = how.promised();
        let mut disk = Disk::new(&self.before, promise);
        for point in 0..=self.events.len() {
            if how.crash == Crash::Kill {
                picks.push((point, Taken::Loss(Loss::Nothing)));
                picks.extend(halfway(self.events.get(point)).map(|taken| (point, taken)));
            } else {
                let losses = systematic(&disk, &mut dice).into_iter();
                picks.extend(losses.map(|loss| (point, Taken::Loss(loss))));
                let count = disk.pending.len();
                subsets = subsets.filter(|_| count <= MOST_ENUMERATED);
                subsets = subsets.map(|sum| sum + (1 << count));
            }
            if let Some(event) = self.events.get(point) {
                disk.happen(event);
            }
        }
        let all = subsets.map_or(usize::MAX, |subsets| subsets.saturating_add(picks.len()));
        if all <= how.count {
            let mut disk = Disk::new(&self.before, promise);
            for point in 0..=self.events.len() {
                if how.crash != Crash::Kill {
                    let masks = 0..1u64 << disk.pending.len();
                    picks.extend(masks.map(|bits| (point, Taken::Loss(Loss::Subset(bits)))));
                }
                if let Some(event) = self.events.get(point) {
                    disk.happen(event);
                }
            }
            return (picks, true);
        }
        let most = match how.crash {
            Crash::Kill => how.count,
            Crash::PowerLoss(_) => how.count.div_ceil(2),
        };
        let is_all = how.crash == Crash::Kill && picks.len() <= most;
        dice.shuffle(&mut picks);
        picks.truncate(most);
        (picks, is_all)
    }

    fn random_picks(&self, how: &How, count: usize, round: u64) -> Vec<Pick> {
        if how.crash == Crash::Kill {
            return Vec::new();
        }
        let mut dice = Dice::new(how.seed ^ round << 40);
        let mut busy = Vec::new();
        let mut disk = Disk::new(&self.before, how.promised());
        for point in 0..=self.events.len() {
            if !disk.pending.is_empty() {
                busy.push(point);
            }
            if let Some(event) = self.events.get(point) {
                disk.happen(event);
            }
        }
        if busy.is_empty() {
            return Vec::new();
        }
        let pick = |_| {
            let point = busy[dice.below(busy.len())];
            (point, Taken::Loss(Loss::Random(dice.next())))
        };
        (0..count).map(pick).collect()
    }
}

/// Places within a write at which a kill may stop it.
fn halfway(event: Option<&Event>) -> impl Iterator<Item = Taken> {
    let bytes = event.map_or(0, |event| match &event.change {
        Change::Data(_, DataChange::Write { bytes, .. }) => bytes.len(),
        _ => 0,
    });
    let last = bytes.saturating_sub(1) / PAGE * PAGE;
    let mut places = vec![PAGE, last / 2 / PAGE * PAGE, last];
    places.retain(|place| *place > 0 && *place < bytes);
    places.dedup();
    places.into_iter().map(Taken::Halfway)
}

impl How {
    fn promised(&self) -> Promise {
        match self.crash {
            Crash::PowerLoss(promise) => promise,
            Crash::Kill => Promise::Posix,
        }
    }
}

struct Run<'a> {
    trace: &'a Trace,
    how: &'a How,
    directory: PathBuf,
    /// Images with the number of marks before them.
    seen: HashSet<(u64, usize)>,
    report: Report,
}

impl Run<'_> {
    fn check(
        &mut self,
        picks: &mut [Pick],
        check: &mut impl FnMut(&State<'_>) -> std::result::Result<(), String>,
    ) -> Result<()> {
        picks.sort_by_key(|(point, _)| *point);
        let mut picks = picks.iter().peekable();
        let mut disk = Disk::new(&self.trace.before, self.how.promised());
        let mut marks = Vec::new();
        for point in 0..=self.trace.events.len() {
            while let Some((_, taken)) = picks.next_if(|(at, _)| *at == point) {
                if self.report.failures.len() >= MOST_FAILURES {
                    return Ok(());
                }
                self.check_one(&disk, point, *taken, &marks, check)?;
            }
            let Some(event) = self.trace.events.get(point) else {
                break;
            };
            disk.happen(event);
            if let Change::Mark(mark) = &event.change {
                marks.push(mark.clone());
            }
        }
        Ok(())
    }

    fn check_one(
        &mut self,
        disk: &Disk<'_>,
        point: usize,
        taken: Taken,
        marks: &[Mark],
        check: &mut impl FnMut(&State<'_>) -> std::result::Result<(), String>,
    ) -> Result<()> {
        let part = match taken {
            Taken::Loss(_) => None,
            Taken::Halfway(bytes) => self
                .trace
                .events
                .get(point)
                .and_then(|event| event.part(bytes)),
        };
        let loss = match taken {
            Taken::Loss(loss) => loss,
            Taken::Halfway(_) => Loss::Nothing,
        };
        // The rest of a write that was interrupted is not on its way.
        let with_part = part.as_ref().map(|part| {
            let mut with_part = disk.clone();
            with_part.happen(part);
            with_part
        });
        let disk = with_part.as_ref().unwrap_or(disk);
        let survival = loss.survival(disk);
        let image = disk.image(&survival);
        if !self.seen.insert((image.fingerprint(), marks.len())) {
            return Ok(());
        }
        let directory = &self.directory;
        if directory.exists() {
            std::fs::remove_dir_all(directory).map_err(failed("remove", directory))?;
        }
        std::fs::create_dir_all(directory).map_err(failed("make directory", directory))?;
        image.write(directory)?;
        self.report.states += 1;
        let state = State { directory, marks };
        if let Err(message) = check(&state) {
            let next = self
                .trace
                .events
                .get(point)
                .map_or("nothing", |event| &event.shown);
            let after = point
                .checked_sub(1)
                .and_then(|last| self.trace.events.get(last));
            let after = after.map_or("the beginning", |event| &event.shown);
            self.report.failures.push(Failure {
                crash: format!(
                    "crash at point {point}, after {after}, before {next}:\n    {}",
                    survival.tell(disk)
                ),
                message,
            });
        }
        Ok(())
    }
}

impl Event {
    /// The beginning of a write.
    fn part(&self, length: usize) -> Option<Self> {
        let Change::Data(file, DataChange::Write { offset, bytes }) = &self.change else {
            return None;
        };
        let bytes = bytes.get(..length)?.to_vec();
        let change = DataChange::Write {
            offset: *offset,
            bytes,
        };
        Some(Self {
            shown: format!("{length} bytes of {}", self.shown),
            change: Change::Data(*file, change),
            ..self.clone()
        })
    }
}
