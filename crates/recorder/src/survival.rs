//! What became of the changes that were on their way to the disk.

use crate::dice::Dice;

/// What disks write as one.
pub(crate) const SECTOR: usize = 512;

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    No,
    Whole,
    /// Only some of its sectors.
    Torn {
        unit: usize,
        tear: Tear,
    },
}

impl Kept {
    pub(crate) fn unit(self) -> usize {
        match self {
            Self::Torn { unit, .. } => unit,
            Self::No | Self::Whole => SECTOR,
        }
    }
}

/// Which sectors of a torn write came to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tear {
    /// The first half.
    Front,
    /// The second half.
    Back,
    /// All but the last.
    NotLast,
    /// Any, by a seed.
    Any(u64),
}

/// Whether one of the sectors of a write came to the disk.
pub(crate) fn survives(kept: Kept, sector: usize, sectors: usize) -> bool {
    match kept {
        Kept::No => false,
        Kept::Whole => true,
        Kept::Torn { tear, .. } => match tear {
            Tear::Front => sector < sectors / 2,
            Tear::Back => sector >= sectors / 2,
            Tear::NotLast => sector + 1 < sectors,
            Tear::Any(seed) => Dice::new(seed ^ (sector as u64) << 20).percent(50),
        },
    }
}

/// Which length a file has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Length {
    /// As the writes that were kept make it.
    AsKept,
    /// That of the last sync.
    Old,
    /// That of all writes.
    New,
    /// One of those between.
    Any(usize),
}

/// What a loss comes to: what became of each change on its way, and of lengths.
#[derive(Debug, Clone)]
pub(crate) struct Survival {
    pub(crate) kept: Vec<Kept>,
    pub(crate) lengths: Lengths,
}

/// Which lengths files have.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Lengths {
    AsKept,
    Of(usize, Length),
    Random(u64),
}

impl Survival {
    pub(crate) fn length_of(&self, file: usize) -> Length {
        match self.lengths {
            Lengths::Of(of, length) if of == file => length,
            Lengths::AsKept | Lengths::Of(..) => Length::AsKept,
            Lengths::Random(seed) => {
                let mut dice = Dice::new(seed ^ (file as u64) << 32);
                match dice.below(8) {
                    0 => Length::Old,
                    1 => Length::New,
                    2 => Length::Any(dice.below(1 << 20)),
                    _ => Length::AsKept,
                }
            }
        }
    }
}
