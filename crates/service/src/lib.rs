//! Drives the operations of mendb to their end.
//!
//! [`Service`] is the front door: it validates requests and gives back operation ids, and
//! [`Service::drive`] runs what the journal says is unfinished until nothing more can move. The
//! [`coordinator`] takes events through the machine of `mendb_model`, persists each step in the
//! [`journal`] before any message, and sends the tasks of a step to [`worker`]s, which join an
//! engine and a repository.
//!
//! *Crash*: at any instant. The next `drive` derives the same messages again from the journal.
//! *Clock and randomness*: only in [`mod@env`].

mod chains;
pub mod coordinator;
mod diff;
pub mod env;
mod error;
mod in_use;
pub mod journal;
mod orphans;
pub mod proof;
mod prune;
mod request;
mod service;
mod sizes;
mod ways_on;
pub mod wire;
pub mod worker;

pub use chains::{ChainHold, Held};
pub use diff::{
    DiffOrder, DiffReport, DiffRoad, RestorePoint, RowDiff, RowSink, RowsDiffer, TableDiff,
    TellRead,
};
pub use error::{Error, Result};
pub use orphans::{Orphan, orphans_among};
pub use prune::{PlannedBackup, PrunePlan, plan_prune};
pub use request::backup::BackupOrder;
pub use request::chosen::{Chosen, Purpose};
pub use request::mend::{MendOrder, MendPreview, UndoneTable};
pub use request::mend_source::MendFrom;
pub use request::part_backup::PartBackupOrder;
pub use request::restore::RestoreOrder;
pub use request::row_drift::Drift;
pub use request::row_mend::{Conflicting, RowMendOrder, RowMendPreview};
pub use request::selectors::LeaveOut;
pub use request::whose::Whose;
pub use service::{Service, Settings, command_through, forget_through};
pub use ways_on::ways_on;
pub use worker::mend::{Conflicts, HolderFate, RowConflict, ShardPreview};
