//! Where objects are, relative to the repository.

use mendb_model::BackupId;
use mendb_model::name::{BadName, TablePath, check};
use mendb_model::part::TableName;

pub(crate) const HEADER: &str = "mendb.json";
pub(crate) const COLLECTIONS: &str = "collections";
pub(crate) const MANIFEST: &str = "manifest.json";
const SEGMENT_END: &str = ".parquet";
const PART_LIST_END: &str = ".parts.json.zst";
const INVENTORY_END: &str = ".inventory.json.zst";
const SHARD_LIST_END: &str = ".shards.json.zst";
pub(crate) const FILES: &str = "files";
pub(crate) const BUNDLES: &str = "files/bundles";
/// Where files are written before they take the name of their content.
pub(crate) const INCOMING: &str = "files/incoming";

/// Who may remove things.
pub(crate) const LEASE: &str = "lease.json";

/// In a local directory: what processes lock while they replace a document.
pub(crate) const LOCK: &str = "mendb.lock";

/// In the directory of a backup that is about to be sealed: what it stands on.
pub(crate) const CLAIM: &str = "parent.json";

/// What may be removed soon, or was lately.
pub(crate) const GARBAGE: &str = "garbage";

/// What was found damaged.
pub(crate) const DAMAGED: &str = "damaged";

/// Where ids of backups that were given are remembered.
const IDS: &str = "ids";

/// File systems allow 255 bytes; what else the name of a segment needs is added elsewhere.
const MAX_PART_BYTES: usize = 200;

/// The directory of a collection.
pub(crate) fn collection(collection: &str) -> Result<String, BadName> {
    check(collection)?;
    Ok(format!("{COLLECTIONS}/{collection}"))
}

/// The directory of the marks of ids that were given in a collection: each an object named by its second.
pub(crate) fn ids(collection: &str) -> Result<String, BadName> {
    check(collection)?;
    Ok(format!("{IDS}/{collection}"))
}

/// The directory of a backup.
pub(crate) fn backup(collection: &str, id: &BackupId) -> Result<String, BadName> {
    check(collection)?;
    Ok(format!("{COLLECTIONS}/{collection}/{id}"))
}

/// The manifest of a backup.
pub(crate) fn manifest(collection: &str, id: &BackupId) -> Result<String, BadName> {
    Ok(format!("{}/{MANIFEST}", backup(collection, id)?))
}

/// The claim of a backup on the one that it stands on.
pub(crate) fn claim(collection: &str, id: &BackupId) -> Result<String, BadName> {
    Ok(format!("{}/{CLAIM}", backup(collection, id)?))
}

/// A segment, relative to the directory of its backup.
pub(crate) fn segment(path: &TablePath, shard: u32, writer: &str, attempt: u32, n: u32) -> String {
    let file = format!("{shard:04}-{}-{attempt}.{n:04}{SEGMENT_END}", part(writer));
    below_table(path, &file)
}

/// The list of the shards of a table from the one with number `first`, relative to the directory of its
/// backup; `blake3` is of the list.
pub(crate) fn shard_list(path: &TablePath, first: usize, writer: &str, blake3: &str) -> String {
    let hash = blake3.get(..16).unwrap_or(blake3);
    let file = format!("{first:04}-{}-{hash}{SHARD_LIST_END}", part(writer));
    below_table(path, &file)
}

fn below_table(path: &TablePath, file: &str) -> String {
    let table = part(&path.table);
    match &path.index {
        None => format!("{table}/{file}"),
        Some(index) => format!("{table}/{}/{file}", part(index)),
    }
}

/// A list of parts of a table, relative to the directory of its backup.
pub(crate) fn part_list(table: &TableName, chunk: u32, writer: &str, attempt: u32) -> String {
    let directory = table_directory(table);
    let writer = part(writer);
    format!("{directory}/{chunk:04}-{writer}-{attempt}{PART_LIST_END}")
}

/// The inventory of a table when it was frozen, relative to the directory of its backup.
pub(crate) fn current_parts(table: &TableName, writer: &str, attempt: u32) -> String {
    let directory = table_directory(table);
    format!(
        "{directory}/current-{}-{attempt}{INVENTORY_END}",
        part(writer)
    )
}

/// Two names, because a dot may be in either.
fn table_directory(table: &TableName) -> String {
    format!("{}/{}", part(&table.database), part(&table.table))
}

/// Whether an object of a backup is a list of parts.
pub(crate) fn is_part_list(object: &str) -> bool {
    object.ends_with(PART_LIST_END)
}

/// The list of parts that takes the place of another of the same writer.
pub(crate) fn renewed_list(list: &str, generation: u64) -> String {
    let name = list.strip_suffix(PART_LIST_END).unwrap_or(list);
    format!("{name}r{generation}{PART_LIST_END}")
}

/// The directory of the objects whose hashes begin with a byte: none grows too large to be listed.
pub(crate) fn prefix_directory(root: &str, first: u8) -> String {
    format!("{root}/{first:02x}")
}

/// Whether the last part of an object's name says that this writer made it. A shard and an attempt
/// have no `-` in them, so that a writer may.
pub(crate) fn is_written_by(object: &str, writer: &str) -> bool {
    let file = object.rsplit('/').next().unwrap_or(object);
    let middle = [SEGMENT_END, PART_LIST_END, INVENTORY_END, SHARD_LIST_END]
        .into_iter()
        .find_map(|end| file.strip_suffix(end))
        .and_then(|name| name.split_once('-'))
        .and_then(|(_shard, rest)| rest.rsplit_once('-'));
    middle.is_some_and(|(found, _attempt)| found == part(writer))
}

/// A name as one part of an object key, on which all stores and file systems agree: other characters
/// than ASCII letters, digits, `_`, `-` and `.` become `=` and hex digits. Different names stay
/// different, also from the manifest's and from those of segments.
fn part(name: &str) -> String {
    use std::fmt::Write;
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        let plain = byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        let hidden = out.is_empty() && byte == b'.';
        if plain && !hidden {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "={byte:02x}");
        }
    }
    let is_object = out.ends_with(SEGMENT_END) || out.ends_with(SHARD_LIST_END);
    if out == MANIFEST || out == CLAIM || is_object {
        out.push('=');
    }
    if out.len() > MAX_PART_BYTES {
        let hash = blake3::hash(name.as_bytes()).to_hex();
        out.truncate(MAX_PART_BYTES - 34);
        let _ = write!(out, "=={}", &hash[..32]);
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_names_are_kept() {
        let index = TablePath::index("flights", "by_carrier");
        assert_eq!(
            segment(&index, 7, "3fa9c1", 2, 13),
            "flights/by_carrier/0007-3fa9c1-2.0013.parquet"
        );
        let table = TablePath::table("flights.v2");
        assert_eq!(
            segment(&table, 12_345, "a/b", 0, 0),
            "flights.v2/12345-a=2fb-0.0000.parquet"
        );
    }

    #[test]
    fn a_table_cannot_take_the_place_of_the_manifest_nor_an_index_that_of_a_segment() {
        assert_eq!(part("manifest.json"), "manifest.json=");
        assert_eq!(part("0000-0.0000.parquet"), "0000-0.0000.parquet=");
        assert_eq!(part(".."), "=2e.");
    }

    #[test]
    fn what_is_no_segment_was_written_by_nobody() {
        for object in [
            "manifest.json",
            "goods/note.txt",
            "goods/0000-0.0000.parquet",
        ] {
            assert!(!is_written_by(object, ""), "{object}");
        }
    }

    proptest! {
        #[test]
        fn a_segment_tells_its_writer_and_no_other(
            a in ".{1,40}",
            b in ".{1,40}",
            shard: u32,
            attempt: u32,
        ) {
            let object = segment(&TablePath::index("goods", "a-b"), shard, &a, attempt, 7);
            prop_assert!(is_written_by(&object, &a));
            prop_assert_eq!(is_written_by(&object, &b), a == b);
        }

        #[test]
        fn a_document_tells_its_writer_and_no_other(
            a in ".{1,40}",
            b in ".{1,40}",
            chunk: u32,
            attempt: u32,
        ) {
            let table = TableName::new("shop", "a-b.parts.json.zst");
            let list = part_list(&table, chunk, &a, attempt);
            let inventory = current_parts(&table, &a, attempt);
            prop_assert!(is_part_list(&list) && !is_part_list(&inventory));
            for object in [list, inventory] {
                prop_assert!(is_written_by(&object, &a));
                prop_assert_eq!(is_written_by(&object, &b), a == b);
            }
        }

        #[test]
        fn different_tables_have_different_documents(
            a in ("[a.]{1,4}", "[a.]{1,4}"),
            b in ("[a.]{1,4}", "[a.]{1,4}"),
        ) {
            let list = |(database, table): &(String, String)| {
                part_list(&TableName::new(database, table), 0, "w", 0)
            };
            prop_assert_eq!(a == b, list(&a) == list(&b));
        }

        #[test]
        fn different_names_have_different_parts(a in ".{1,300}", b in ".{1,300}") {
            let (part_a, part_b) = (part(&a), part(&b));
            prop_assert_eq!(a == b, part_a == part_b);
            prop_assert!(part_a.len() <= MAX_PART_BYTES);
            prop_assert!(object_store::path::Path::parse(&part_a).is_ok());
        }
    }
}
