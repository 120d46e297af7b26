//! Where a configuration comes from.

use std::collections::BTreeMap;

/// What a configuration is translated with.
pub(super) struct Source<'s> {
    /// The file, as comments name it.
    pub file: Option<&'s str>,
    /// The environment, where it is to be taken.
    pub environment: Option<&'s BTreeMap<String, String>>,
    pub with_secrets: bool,
}
