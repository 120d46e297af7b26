//! From the parts that a backup lists to the backups that have them.
//!
//! An increment refers to parts of the backup that it requires, and that to parts of its own parent.
//! The reference is a name, and names do not tell content. So whatever the backup that is asked for
//! says of the content of a part is carried down the chain, compared with what each backup below says,
//! and proved at the end by the bytes. Where it says nothing, the part that is found is
//! [`Located::ambiguous`].

use std::collections::HashSet;

use mendb_model::part::{Hash128, TableName};

use super::error::{ImportError, PartOf, Result};
use super::metadata::{PartMetadata, TableMetadata};

/// A part of the backup that is asked for, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Located {
    pub(super) name: String,
    /// The disk that it was on when the backup was made that is asked for.
    pub(super) disk: String,
    /// Place in the chain of the backup that has it.
    pub(super) link: usize,
    /// The disk that it is listed under there.
    pub(super) stored_disk: String,
    /// The disk that was taken instead of that one; empty if none was.
    pub(super) rebalanced_disk: String,
    /// Bytes, as metadata tells; 0 where it does not.
    pub(super) bytes: u64,
    /// What metadata says of its content.
    pub(super) hash: Option<Hash128>,
    /// CRC64 of its `checksums.txt`, in backups of servers that knew no hashes.
    pub(super) crc64: Option<u64>,
    /// It was found by its name, and the backup that is asked for does not tell its content.
    pub(super) ambiguous: bool,
}

/// The search, backup by backup.
#[derive(Debug)]
pub(super) struct Search<'a> {
    table: &'a TableName,
    /// The backups so far.
    chain: Vec<String>,
    found: Vec<Located>,
    /// Parts that the last backup only refers to.
    open: Vec<Located>,
}

impl<'a> Search<'a> {
    /// Begins at the backup that is asked for.
    pub(super) fn begin(table: &'a TableName, backup: &str, metadata: &TableMetadata) -> Self {
        let mut search = Self {
            table,
            chain: vec![backup.to_owned()],
            found: Vec::new(),
            open: Vec::new(),
        };
        let on_disks = metadata.parts.iter();
        for (disk, part) in
            on_disks.flat_map(|(disk, parts)| parts.iter().map(move |part| (disk, part)))
        {
            let hash = metadata.hash_of_all_files.get(&part.name).copied();
            let crc64 = metadata.checksums.get(&part.name).copied();
            let located = Located {
                name: part.name.clone(),
                disk: disk.clone(),
                link: 0,
                stored_disk: disk.clone(),
                rebalanced_disk: part.rebalanced_disk.clone(),
                bytes: part.size,
                hash,
                crc64,
                ambiguous: part.required && hash.is_none() && crc64.is_none(),
            };
            search.place(located, part);
        }
        search
    }

    /// The part for whose sake the next backup is needed.
    pub(super) fn needs(&self) -> Option<&str> {
        self.open.first().map(|part| part.name.as_str())
    }

    /// The backup that was looked at last.
    pub(super) fn last(&self) -> &str {
        self.chain.last().map_or("", String::as_str)
    }

    /// What is needed from the backup that the last one requires cannot be had there.
    pub(super) fn missing(&self, problem: impl Into<String>) -> ImportError {
        self.missing_in(self.last(), self.needs().unwrap_or_default(), problem)
    }

    fn missing_in(&self, child: &str, part: &str, problem: impl Into<String>) -> ImportError {
        ImportError::MissingParent {
            of: Box::new(self.part_of(child, part)),
            problem: problem.into(),
        }
    }

    fn part_of(&self, backup: &str, part: &str) -> PartOf {
        PartOf {
            backup: backup.to_owned(),
            table: self.table.clone(),
            part: part.to_owned(),
        }
    }

    /// Whether the backup that the last one requires can be gone to.
    pub(super) fn check(&self, parent: &str) -> Result<()> {
        if parent.is_empty() {
            return Err(self.missing("it names none"));
        }
        if self.chain.iter().any(|backup| backup == parent) {
            let chain = self.chain.iter().cloned().chain([parent.to_owned()]);
            return Err(ImportError::Circle {
                chain: chain.collect(),
            });
        }
        Ok(())
    }

    /// Goes on to the backup that the last one requires, and looks there for what is open.
    pub(super) fn descend(&mut self, parent: &str, metadata: &TableMetadata) -> Result<()> {
        self.chain.push(parent.to_owned());
        for mut part in std::mem::take(&mut self.open) {
            let Some((disk, entry)) = named(metadata, &part.disk, &part.name) else {
                let child = self.chain.iter().rev().nth(1);
                let problem = format!("{} has no part of that name", self.last());
                let child = child.map_or("", String::as_str);
                return Err(self.missing_in(child, &part.name, problem));
            };
            let hash = metadata.hash_of_all_files.get(&part.name).copied();
            let crc64 = metadata.checksums.get(&part.name).copied();
            let crc_text = |crc: u64| format!("one whose checksums.txt has CRC64 {crc:016x}");
            let other = match (part.hash, hash, part.crc64, crc64) {
                (Some(wanted), Some(found), ..) if wanted != found => {
                    Some((wanted.to_string(), found.to_string()))
                }
                (.., Some(wanted), Some(found)) if wanted != found => {
                    Some((crc_text(wanted), crc_text(found)))
                }
                _ => None,
            };
            if let Some((wanted, found)) = other {
                return Err(ImportError::OtherContent {
                    of: Box::new(self.part_of(&self.chain[0], &part.name)),
                    wanted,
                    parent: self.last().to_owned(),
                    found,
                });
            }
            part.hash = part.hash.or(hash);
            part.crc64 = part.crc64.or(crc64);
            part.link = self.chain.len() - 1;
            part.stored_disk.clone_from(disk);
            part.rebalanced_disk.clone_from(&entry.rebalanced_disk);
            if part.bytes == 0 {
                part.bytes = entry.size;
            }
            self.place(part, entry);
        }
        Ok(())
    }

    /// The parts, each in a backup that lists it as its own.
    pub(super) fn finish(self) -> Vec<Located> {
        self.found
    }

    fn place(&mut self, part: Located, entry: &PartMetadata) {
        if entry.required {
            self.open.push(part);
        } else {
            self.found.push(part);
        }
    }
}

/// The part of a name: on the disk it was on, or on any other, since parts move between disks.
fn named<'m>(
    metadata: &'m TableMetadata,
    disk: &str,
    name: &str,
) -> Option<(&'m String, &'m PartMetadata)> {
    let same_disk = metadata.parts.get_key_value(disk).into_iter();
    same_disk
        .chain(&metadata.parts)
        .find_map(|(disk, parts)| Some((disk, parts.iter().find(|part| part.name == name)?)))
}

/// Names that are listed more than once, on whatever disks.
pub(super) fn listed_twice(parts: &[Located]) -> Option<&Located> {
    let mut seen = HashSet::new();
    parts.iter().find(|part| !seen.insert(&part.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PART: &str = "all_1_1_0";

    fn hash(byte: u8) -> Hash128 {
        Hash128([byte; 16])
    }

    /// A table with one part.
    fn table(disk: &str, required: bool, hash: Option<Hash128>) -> TableMetadata {
        let part = PartMetadata {
            name: PART.to_owned(),
            required,
            size: if required { 0 } else { 7 },
            ..PartMetadata::default()
        };
        TableMetadata {
            parts: [(disk.to_owned(), vec![part])].into(),
            hash_of_all_files: hash
                .map(|hash| (PART.to_owned(), hash))
                .into_iter()
                .collect(),
            ..TableMetadata::default()
        }
    }

    fn name() -> TableName {
        TableName::new("db", "t")
    }

    #[test]
    fn a_part_is_found_where_it_is_no_reference_any_more_on_whatever_disk() {
        let name = name();
        let mut search = Search::begin(&name, "c", &table("d1", true, Some(hash(1))));
        assert_eq!(search.needs(), Some(PART));
        search.descend("b", &table("d1", true, None)).unwrap();
        search
            .descend("a", &table("d2", false, Some(hash(1))))
            .unwrap();
        assert_eq!(search.needs(), None);
        let [part] = search.finish().try_into().unwrap();
        assert_eq!((part.link, part.bytes), (2, 7));
        assert_eq!(
            (part.disk.as_str(), part.stored_disk.as_str()),
            ("d1", "d2")
        );
        assert_eq!(part.hash, Some(hash(1)));
        assert!(!part.ambiguous);
    }

    #[test]
    fn a_reference_that_tells_no_content_is_ambiguous_also_where_the_parent_tells_it() {
        let name = name();
        let mut search = Search::begin(&name, "b", &table("d", true, None));
        search
            .descend("a", &table("d", false, Some(hash(2))))
            .unwrap();
        let [part] = search.finish().try_into().unwrap();
        assert!(part.ambiguous);
        assert_eq!(part.hash, Some(hash(2)));
    }

    #[test]
    fn other_content_under_the_same_name_is_refused_with_both_hashes() {
        let name = name();
        let mut search = Search::begin(&name, "b", &table("d", true, Some(hash(1))));
        let error = search
            .descend("a", &table("d", false, Some(hash(2))))
            .unwrap_err();
        let text = error.to_string();
        for word in [PART, "db.t", &hash(1).to_string(), &hash(2).to_string()] {
            assert!(text.contains(word), "{text}");
        }
    }

    #[test]
    fn other_checksums_under_the_same_name_are_refused_too() {
        let name = name();
        let with_crc = |required, crc| TableMetadata {
            checksums: [(PART.to_owned(), crc)].into(),
            ..table("d", required, None)
        };
        let mut search = Search::begin(&name, "b", &with_crc(true, 1));
        let error = search.descend("a", &with_crc(false, 2)).unwrap_err();
        assert!(matches!(error, ImportError::OtherContent { .. }), "{error}");
    }

    #[test]
    fn a_chain_that_ends_too_early_or_never_names_its_backups() {
        let name = name();
        let required = table("d", true, None);
        let search = Search::begin(&name, "b", &required);
        let error = search.check("").unwrap_err().to_string();
        assert!(
            error.contains("backup b") && error.contains(PART),
            "{error}"
        );

        let mut search = Search::begin(&name, "b", &required);
        let error = search.descend("a", &TableMetadata::default()).unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains("backup b") && error.contains("and a has"),
            "{error}"
        );

        let mut search = Search::begin(&name, "b", &required);
        search.descend("a", &required).unwrap();
        let error = search.check("b").unwrap_err().to_string();
        assert!(error.ends_with("b -> a -> b"), "{error}");
    }
}
