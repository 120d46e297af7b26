//! Operations that the journal of the target does not know, and that the target still holds something for.

use mendb_engines::Engine as _;
use mendb_model::name::OperationId;
use mendb_service::journal::Journal;
use mendb_service::{Orphan, orphans_among};

use crate::context::Context;
use crate::failure::{Failure, FailureKind};
use crate::target::Target;

impl Context {
    /// The operations that the target holds something for and the journal does not know. The target is looked
    /// at first: what it holds by then, the journal knew before.
    ///
    /// # Errors
    /// Target or journal cannot be read.
    pub fn orphans(&self, journal: Option<&Journal>) -> Result<Vec<Orphan>, Failure> {
        let holds = match self.target()? {
            Target::ClickHouse(server) => self.server_holds(&server)?,
            // Its agents hold what there is.
            Target::Cluster(_) => Vec::new(),
            Target::Rows(_) => self.row_holds()?,
            // The journal has operations while the server is away, too.
            Target::Postgres(_) => match self.look_at_postgres() {
                Ok(engine) => engine.holds()?,
                Err(failure) => {
                    self.say(&format!(
                        "note: whether the database holds tables for operations that the journal does not know cannot be \
                         told: {}",
                        failure.message
                    ));
                    Vec::new()
                }
            },
        };
        Ok(orphans_among(journal, holds)?)
    }

    /// That there is no operation of an id; of one that the target holds something for, with the way out.
    pub fn unknown_operation(&self, journal: Option<&Journal>, id: &OperationId) -> Failure {
        let orphans = self.orphans(journal).unwrap_or_default();
        let orphan = orphans
            .iter()
            .find(|orphan| orphan.operation_id == id.as_str());
        match orphan {
            Some(orphan) => lost(id.as_str(), &orphan.tables.join(", ")),
            None => mendb_service::Error::UnknownOperation(id.to_string()).into(),
        }
    }
}

/// That an operation is not in the journal although the target holds tables for it, and the way out.
fn lost(id: &str, tables: &str) -> Failure {
    Failure::new(
        FailureKind::FixInput,
        format!(
            "operation {id} is not in the journal of this target, which holds {tables} for it: the journal was \
             lost, so nobody can go on with it"
        ),
    )
    .hint(way_out(id))
}

/// What ends an operation that the journal does not know.
pub fn way_out(id: &str) -> String {
    format!(
        "bring journal.sqlite back from a copy of the target; if there is none, mendb operation abandon {id} \
         lets go of what is held"
    )
}
