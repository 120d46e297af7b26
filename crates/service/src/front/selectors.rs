//! Selectors of an order that fit nothing: an error, or only said.

use mendb_model::name::patterns;
use mendb_model::part::{Exclusion, Selector, Unmatched};

use crate::error::{Error, Result};

/// What an order leaves out of the tables that it names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeaveOut {
    /// What was said with the order.
    pub said: Exclusion,
    /// What settings say, once for all orders: it may fit nothing.
    pub always: Exclusion,
}

impl LeaveOut {
    /// All that is left out.
    pub fn all(&self) -> Exclusion {
        self.said.and(&self.always)
    }

    /// Of patterns that fit nothing, those that were said with the order.
    pub(crate) fn said_of(&self, unmatched: Vec<Unmatched>) -> Vec<Unmatched> {
        let was_said = |unmatched: &Unmatched| {
            let said = match unmatched.selector {
                Selector::ExcludeTables => &self.said.tables,
                Selector::ExcludeEngines => &self.said.engines,
                Selector::ExcludeDisks => &self.said.disks,
                Selector::Tables | Selector::Partitions => return true,
            };
            patterns(said).any(|pattern| pattern == unmatched.pattern)
        };
        unmatched.into_iter().filter(was_said).collect()
    }
}

/// Refuses patterns that fit nothing, or says which, where that was allowed.
///
/// # Errors
/// There are some, and it was not.
pub fn check_fit(unmatched: &[Unmatched], if_exists: bool) -> Result<()> {
    if unmatched.is_empty() {
        return Ok(());
    }
    if !if_exists {
        return Err(Error::NothingFits {
            unmatched: unmatched.to_vec(),
        });
    }
    for unmatched in unmatched {
        tracing::warn!("nothing fits {unmatched}");
    }
    Ok(())
}

/// Refuses patterns of tables that fit nothing, as [`check_fit`]; also those that may, where not one fits:
/// there is nothing to do then.
///
/// # Errors
/// There are some.
pub fn check_tables(
    list: &str,
    if_exists: bool,
    fits_something: impl Fn(&str) -> bool,
) -> Result<()> {
    let unmatched = Selector::Tables.unmatched(list, fits_something);
    let some_fit = unmatched.len() < patterns(list).count();
    check_fit(&unmatched, if_exists && some_fit)
}
