//! What the changes of one key along a chain of backups come to, seen from the newest one back.
//!
//! Newest first, because a reset or an erase makes everything before it unimportant: a look-up of a key
//! needs to go no further back than that.

use crate::change::{Change, ChangeKind};
use crate::{ColumnType, Malformed};

/// The changes of one key so far, as one change.
///
/// Giving it a key's changes from the newest to the oldest is the same as joining them with
/// [`Change::then`] in the order in which they happened: the row is what the newest ones make it, and what it
/// replaced is what the oldest one did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fold(Option<Change>);

impl Fold {
    /// Takes in the change before those it has. What one that is settled makes of a row stays as it is.
    ///
    /// # Errors
    /// A row is malformed.
    pub fn push_older(&mut self, older: Change, types: &[ColumnType]) -> Result<(), Malformed> {
        self.0 = Some(match self.0.take() {
            None => older,
            Some(newer) if newer.kind != ChangeKind::Upsert => Change {
                replaced: older.replaced,
                ..newer
            },
            Some(newer) => older.then(newer, types)?,
        });
        Ok(())
    }

    /// Whether nothing before the changes it has matters any more to what becomes of the row.
    pub fn is_settled(&self) -> bool {
        (self.0.as_ref()).is_some_and(|change| change.kind != ChangeKind::Upsert)
    }

    /// The one change; `None` when there was none.
    pub fn change(self) -> Option<Change> {
        self.0
    }

    /// The row after all changes were made to `row`; `None` is an absent row.
    ///
    /// # Errors
    /// A row is malformed.
    pub fn over(
        self,
        row: Option<&[u8]>,
        types: &[ColumnType],
    ) -> Result<Option<Vec<u8>>, Malformed> {
        match self.0 {
            None => Ok(row.map(<[u8]>::to_vec)),
            Some(change) => change.apply(row, types),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Replaced;
    use crate::change::partial_row;
    use crate::value::Value;

    const TYPES: [ColumnType; 2] = [ColumnType::Int64, ColumnType::Utf8];

    fn values() -> impl Strategy<Value = Vec<Option<Value>>> {
        let number = proptest::option::of(prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::Int)
        ]);
        let text = proptest::option::of("[a-c]{0,3}".prop_map(Value::Text));
        (number, text).prop_map(|(number, text)| vec![number, text])
    }

    fn change() -> impl Strategy<Value = Change> {
        (0..4, values(), any::<u64>(), any::<u64>()).prop_map(|(kind, values, version, mark)| {
            let (set, row) = partial_row(&TYPES, &values);
            let change = match kind {
                0 => Change::erase(version),
                1 => Change::reset(row, version),
                _ => Change::upsert(set, row, version),
            };
            let replaced = Replaced::Row(mark);
            Change { replaced, ..change }
        })
    }

    proptest! {
        #[test]
        fn folding_back_from_the_newest_equals_applying_one_after_the_other(
            start in proptest::option::of(values()),
            changes in proptest::collection::vec(change(), 0..6),
        ) {
            let start = start.map(|values| partial_row(&TYPES, &values).1);
            let mut row = start.clone();
            let mut forwards: Option<Change> = None;
            for change in changes.clone() {
                row = change.apply(row.as_deref(), &TYPES).unwrap();
                forwards = Some(match forwards {
                    Some(before) => before.then(change, &TYPES).unwrap(),
                    None => change,
                });
            }
            let mut fold = Fold::default();
            for change in changes.into_iter().rev() {
                let before = fold.clone();
                let replaced = change.replaced;
                fold.push_older(change, &TYPES).unwrap();
                if before.is_settled() {
                    let same = before.change().map(|change| Change { replaced, ..change });
                    prop_assert_eq!(fold.clone().change(), same);
                }
            }
            if fold.is_settled() {
                prop_assert_eq!(fold.clone().over(None, &TYPES).unwrap(), row.clone());
            }
            prop_assert_eq!(fold.clone().change(), forwards);
            prop_assert_eq!(fold.over(start.as_deref(), &TYPES).unwrap(), row);
        }
    }
}
