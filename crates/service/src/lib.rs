//! Drives the operations of mendb to their end.
//!
//! [`Service`] takes the orders of users ([`front`]), which `operations` turn into requests, and gives back operation
//! ids; [`Service::drive`] runs what the journal says is unfinished until nothing more can move. The [`coordinator`]
//! takes events through the machine of `mendb_model`, persists each step in the [`journal`] before any message, and
//! sends the tasks of a step over a [`wire`] to [`worker`]s, which do what `operations` say, with an engine and a
//! repository.
//!
//! *Crash*: at any instant. The next `drive` derives the same messages again from the journal.
//! *Clock and randomness*: only in [`mod@env`].

mod attempt;
mod chains;
pub mod coordinator;
mod diff;
pub mod env;
mod error;
pub mod front;
pub mod journal;
mod journal_port;
mod manifests;
mod operations;
mod orphans;
pub mod proof;
pub mod question;
mod reconcile;
pub mod replica;
mod row_conflict;
mod service;
mod shared;
mod sizes;
mod task_error;
mod ways_on;
pub mod wire;
pub mod worker;

pub use attempt::Tools;
pub use chains::{ChainHold, Held};
pub use diff::{
    DiffMethod, DiffOrder, DiffReport, RestorePoint, RowDiff, RowSink, RowsDiffer, TableDiff,
    TellRead, Transaction, TransactionSink, TransactionsOrder, TransactionsReport, row_values,
};
pub use error::{Error, Result};
pub use front::chosen::{Chosen, Purpose};
pub use front::selectors::LeaveOut;
pub use front::whose::Whose;
pub use front::{Front, Settings};
pub use manifests::Manifests;
pub use mendb_engines::agents::{COORDINATOR, Coordinator, KNOWN_ONLY, RATES, Rates, SERVER};
pub use operations::cluster::order::{ClusterOrder, ToldByShard};
pub use operations::maintenance::prune::{PlannedBackup, PrunePlan, plan_prune};
pub use operations::part_backup::order::PartBackupOrder;
pub use operations::part_mend::order::MendOrder;
pub use operations::part_mend::preview::{MendPreview, UndoneTable};
pub use operations::part_mend::wanted_backup::MendFrom;
pub use operations::restore::order::RestoreOrder;
pub use operations::row_backup::order::{BackupOrder, ChangesBy};
pub use operations::row_mend::ShardPreview;
pub use operations::row_mend::drift::Drift;
pub use operations::row_mend::order::{Conflicting, RowMendOrder, RowMendPreview};
pub use operations::row_mend::scope::{NewerRow, RewrittenRow};
pub use operations::row_mend::written_keys::WrittenBy;
pub use orphans::{Orphan, orphans_among};
pub use row_conflict::{Conflicts, HolderFate, RowConflict};
pub use service::{Service, command_through, forget_through};
pub use shared::SharedJournals;
pub use ways_on::ways_on;
