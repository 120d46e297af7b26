//! How long a mend would take and writers would wait, going by the mends of the target so far.

use mendb_model::operation::{MendedRows, Request, RowMendRequest, State};

use crate::error::Result;
use crate::front::Front;

impl Front {
    /// How long mends of so many rows take, by those that are done: between the least and the most that a
    /// row took in any; the shortest of them is within.
    pub(super) fn milliseconds_of(&self, rows: &MendedRows) -> Result<Option<(u64, u64)>> {
        let work = |rows: &MendedRows| (rows.read + rows.upserted + rows.erased) as f64;
        let mut interval: Option<(f64, f64)> = None;
        let mut shortest = f64::MAX;
        for operation in self.journal.operations()? {
            let is_mend = matches!(operation.request, Request::MendRows(_));
            if !is_mend || operation.state != State::Done {
                continue;
            }
            let took = operation
                .updated_at_ms
                .saturating_sub(operation.created_at_ms) as f64;
            shortest = shortest.min(took);
            let rate = took / work(&operation.mended_rows).max(1.0);
            let (least, most) = interval.unwrap_or((rate, rate));
            interval = Some((least.min(rate), most.max(rate)));
        }
        let work = work(rows);
        Ok(interval.map(|(least, most)| {
            let (least, most) = ((least * work).min(shortest), (most * work).max(shortest));
            (least as u64, most as u64)
        }))
    }

    /// How long writers wait for the publish of so many rows, by those that are done: between the least and the most
    /// that a row took in any, for no shorter than the shortest.
    pub(super) fn writers_wait_of(
        &self,
        request: &RowMendRequest,
        rows: &MendedRows,
    ) -> Result<Option<(u64, u64)>> {
        let written = |rows: &MendedRows| (rows.upserted + rows.erased) as f64;
        let mut interval: Option<(f64, f64)> = None;
        let mut shortest = f64::MAX;
        for operation in self.journal.operations()? {
            let done = operation.mended_rows;
            if operation.state != State::Done || done.writers_waited_ms == 0 {
                continue;
            }
            let waited = done.writers_waited_ms as f64;
            shortest = shortest.min(waited);
            let rate = waited / written(&done).max(1.0);
            let (least, most) = interval.unwrap_or((rate, rate));
            interval = Some((least.min(rate), most.max(rate)));
        }
        let written = written(rows);
        let interval = interval.filter(|_| request.beside_writers);
        Ok(interval.map(|(least, most)| {
            let (least, most) = (
                (least * written).min(shortest),
                (most * written).max(shortest),
            );
            (least as u64, most.ceil() as u64)
        }))
    }
}
