//! The names of change streams: one for each chain, and so one for each repository that holds one.
//!
//! `<collection>/<full backup>@<repository>`. Streams from before a collection could have chains in several
//! repositories have no repository in their names.

use std::str::FromStr;

use mendb_model::BackupId;
use mendb_model::manifest::Manifest;

/// The change stream of the chain that begins with a full backup in a repository.
pub(crate) fn stream_of(collection: &str, full: &BackupId, repository_id: &str) -> String {
    format!("{}@{repository_id}", stream_of_before(collection, full))
}

/// The same as it was named before.
pub(crate) fn stream_of_before(collection: &str, full: &BackupId) -> String {
    format!("{collection}/{full}")
}

/// The names that the change stream of a chain may have, by the first backup of the chain that is there now:
/// the full backup that the chain began with may have been folded into it.
pub(crate) fn streams_of_chain(first: &Manifest, repository_id: &str) -> Vec<String> {
    let folded = first.compacted.iter();
    let folded = folded.flat_map(|compacted| &compacted.folded);
    let began = folded.chain([&first.backup_id]);
    let names = began.flat_map(|full| {
        [
            stream_of(&first.collection, full, repository_id),
            stream_of_before(&first.collection, full),
        ]
    });
    names.collect()
}

/// What the name of a stream says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StreamName {
    /// The collection.
    pub(crate) collection: String,
    /// The full backup that its chain begins with.
    pub(crate) full: String,
    /// The repository of the chain; `None` where its name does not say.
    pub(crate) repository_id: Option<String>,
}

impl FromStr for StreamName {
    type Err = ();

    /// Fails for a stream that is not one of ours.
    fn from_str(name: &str) -> Result<Self, ()> {
        let (collection, chain) = name.split_once('/').ok_or(())?;
        let (full, repository_id) = match chain.split_once('@') {
            Some((full, repository_id)) => (full, Some(repository_id.to_owned())),
            None => (chain, None),
        };
        Ok(Self {
            collection: collection.to_owned(),
            full: full.to_owned(),
            repository_id,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use mendb_model::name::BackupKind;

    use super::*;

    proptest! {
        #[test]
        fn the_name_of_a_stream_says_what_it_was_made_of(
            collection in "[a-z0-9_.-]{1,12}",
            second in 0i64..4_000_000_000,
            repository in "[0-9a-f]{32}",
        ) {
            let full = BackupId::new(second, BackupKind::Full).unwrap();
            let name = stream_of(&collection, &full, &repository);
            let mut expected = StreamName {
                collection: collection.clone(),
                full: full.to_string(),
                repository_id: Some(repository),
            };
            prop_assert_eq!(name.parse::<StreamName>(), Ok(expected.clone()));
            expected.repository_id = None;
            prop_assert_eq!(stream_of_before(&collection, &full).parse(), Ok(expected));
        }
    }

    #[test]
    fn what_names_no_chain_is_no_stream_of_ours() {
        assert_eq!("orders".parse::<StreamName>(), Err(()));
    }
}
