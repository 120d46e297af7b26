//! How much of what was on its way has come to the disk: the ways to lose something.

use crate::dice::Dice;
use crate::disk::{Disk, PendingChange};
use crate::survival::{Kept, Length, Lengths, SECTOR, Survival, Tear};
use crate::trace::DataChange;

/// What file systems write as one.
const PAGE: usize = 4096;
/// Of more changes than these, so many are picked for each kind of loss.
const MOST_PICKED: usize = 48;
/// Of more that were lost, the rest is counted.
const MOST_TOLD: usize = 12;
/// Up to so many changes, every subset may be enumerated.
pub(crate) const MOST_ENUMERATED: usize = 16;

/// A way to lose something, at one point of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    Nothing,
    Everything,
    /// All that came later than the first few.
    After(usize),
    AllBut(usize),
    Only(usize),
    /// One write is torn; all others are kept, or lost.
    Torn(usize, Kept, bool),
    /// The data of a file, not its length.
    DataOf(usize),
    /// The data of all other files.
    DataOfOthers(usize),
    /// The length of a file, not its data.
    LengthOf(usize),
    /// All names, no data.
    AllNames,
    AllData,
    /// Each change whose bit is not set.
    Subset(u64),
    Random(u64),
}

impl Survival {
    /// What was lost, for people.
    pub(crate) fn tell(&self, disk: &Disk<'_>) -> String {
        let lost = disk.pending.iter().zip(&self.kept);
        let lost: Vec<_> = lost
            .filter_map(|(pending, kept)| match kept {
                Kept::Whole => None,
                Kept::No => Some(format!("lost {}", pending.shown)),
                Kept::Torn { unit, tear } => {
                    Some(format!("torn at {unit} ({tear:?}) {}", pending.shown))
                }
            })
            .collect();
        let lengths = match self.lengths {
            Lengths::AsKept => "",
            Lengths::Of(_, Length::Old) => "\n    a file has its old length",
            Lengths::Of(..) => "\n    a file has its new length",
            Lengths::Random(_) => "\n    files have old or new lengths",
        };
        if lost.is_empty() {
            return format!("nothing was lost{lengths}");
        }
        let others = match lost.len().saturating_sub(MOST_TOLD) {
            0 => String::new(),
            others => format!("\n    and {others} others"),
        };
        let told = &lost[..lost.len().min(MOST_TOLD)];
        format!("{}{others}{lengths}", told.join("\n    "))
    }
}

impl Loss {
    /// What it comes to on a disk.
    pub(crate) fn survival(self, disk: &Disk<'_>) -> Survival {
        let data_of = |at: usize| match disk.pending[at].change {
            PendingChange::Data(file, _) => Some(file),
            PendingChange::Names(_) => None,
        };
        let keep = |kept: &dyn Fn(usize) -> bool| {
            let all = (0..disk.pending.len()).map(kept);
            all.map(|kept| if kept { Kept::Whole } else { Kept::No })
                .collect()
        };
        let mut lengths = Lengths::AsKept;
        let kept = match self {
            Self::Nothing => keep(&|_| true),
            Self::Everything => keep(&|_| false),
            Self::After(first) => keep(&|at| at < first),
            Self::AllBut(lost) => keep(&|at| at != lost),
            Self::Only(kept) => keep(&|at| at == kept),
            Self::Torn(torn, how, others) => {
                let mut all: Vec<_> = keep(&|_| others);
                all[torn] = how;
                all
            }
            Self::DataOf(file) => {
                lengths = Lengths::Of(file, Length::New);
                keep(&|at| data_of(at) != Some(file))
            }
            Self::DataOfOthers(file) => keep(&|at| data_of(at).is_none_or(|of| of == file)),
            Self::LengthOf(file) => {
                lengths = Lengths::Of(file, Length::Old);
                keep(&|_| true)
            }
            Self::AllNames => keep(&|at| data_of(at).is_none()),
            Self::AllData => keep(&|at| data_of(at).is_some()),
            Self::Subset(bits) => keep(&|at| bits >> at & 1 == 1),
            Self::Random(seed) => {
                lengths = Lengths::Random(seed);
                random(disk, seed)
            }
        };
        Survival { kept, lengths }
    }
}

/// Keeps each change by chance: of some files more than of others, as caches write one and not yet the other.
fn random(disk: &Disk<'_>, seed: u64) -> Vec<Kept> {
    let mut dice = Dice::new(seed);
    let usual = [10, 50, 90][dice.below(3)];
    let tears = [0, 25, 60][dice.below(3)];
    let all = disk.pending.iter().map(|pending| {
        let of_file = match &pending.change {
            PendingChange::Data(file, _) => *file as u64,
            PendingChange::Names(_) => u64::MAX,
        };
        let mut temper = Dice::new(seed ^ of_file.wrapping_mul(0x2545_f491_4f6c_dd1d));
        let percent = match temper.below(6) {
            0 => 0,
            1 => 100,
            _ => usual,
        };
        if !dice.percent(percent) {
            return Kept::No;
        }
        let unit = [SECTOR, PAGE][dice.below(2)];
        if sectors(&pending.change, unit) > 1 && dice.percent(tears) {
            let tear = [
                Tear::Front,
                Tear::Back,
                Tear::NotLast,
                Tear::Any(dice.next()),
            ];
            let tear = tear[dice.below(4)];
            return Kept::Torn { unit, tear };
        }
        Kept::Whole
    });
    all.collect()
}

/// How many sectors a change writes.
fn sectors(change: &PendingChange<'_>, unit: usize) -> usize {
    match change {
        PendingChange::Data(_, DataChange::Write { offset, bytes }) => {
            (offset + bytes.len()).div_ceil(unit) - offset / unit
        }
        _ => 0,
    }
}

/// The losses at a point of which each kind of fault would show in one.
pub(crate) fn systematic(disk: &Disk<'_>, dice: &mut Dice) -> Vec<Loss> {
    let count = disk.pending.len();
    let mut losses = vec![Loss::Nothing];
    if count == 0 {
        return losses;
    }
    losses.extend([Loss::Everything, Loss::AllNames, Loss::AllData]);
    let mut picked: Vec<usize> = (0..count).collect();
    if count > MOST_PICKED {
        dice.shuffle(&mut picked);
        picked.truncate(MOST_PICKED);
    }
    let mut files = Vec::new();
    for at in picked {
        losses.extend([Loss::After(at), Loss::AllBut(at), Loss::Only(at)]);
        let PendingChange::Data(file, _) = disk.pending[at].change else {
            continue;
        };
        if !files.contains(&file) {
            files.push(file);
            losses.extend([
                Loss::DataOf(file),
                Loss::DataOfOthers(file),
                Loss::LengthOf(file),
            ]);
        }
        for unit in [SECTOR, PAGE] {
            if sectors(&disk.pending[at].change, unit) < 2 {
                continue;
            }
            for tear in [Tear::Front, Tear::Back, Tear::NotLast] {
                let torn = Kept::Torn { unit, tear };
                losses.extend([Loss::Torn(at, torn, true), Loss::Torn(at, torn, false)]);
            }
        }
    }
    losses
}
