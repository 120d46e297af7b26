//! JSON documents that notice changes.
//!
//! The last field of a sealed document, on a line of its own, is the BLAKE3 of the document without
//! that line. The manifest guards segments, and the next manifest of the chain guards a manifest; the
//! seal guards the last one, and `mendb.json`.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

const END: &str = "\n}";
const SEAL: &str = ",\n  \"seal\": \"";
const SEAL_END: &str = "\"\n}\n";
const HASH_DIGITS: usize = 64;

/// Why a document cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// It was changed, or is something else.
    Damaged(String),
    /// It was written by another mendb.
    UnknownFormat(u64),
}

/// The text of a document, sealed.
///
/// # Panics
/// The value is not a JSON object with at least one field.
pub(crate) fn seal(document: &impl Serialize) -> Vec<u8> {
    let text = serde_json::to_string_pretty(document).expect("documents have string keys");
    let hash = blake3::hash(text.as_bytes()).to_hex();
    let body = text.strip_suffix(END).expect("documents are objects");
    format!("{body}{SEAL}{hash}{SEAL_END}").into_bytes()
}

/// Reads a document that carries a seal and a `format_version`, up to the newest that is known.
pub(crate) fn open<T: DeserializeOwned>(bytes: &[u8], newest: u32) -> Result<T, Unreadable> {
    #[derive(Deserialize)]
    struct Version {
        format_version: u64,
    }
    let damaged = |detail: &str| Unreadable::Damaged(detail.to_owned());
    let version = serde_json::from_slice::<Version>(bytes).ok();
    let foreign = version
        .map(|document| document.format_version)
        .filter(|version| !(1..=u64::from(newest)).contains(version));
    match (seal_of(bytes), foreign) {
        (Some(false), _) => return Err(damaged("its text does not match its seal")),
        // Another version may seal otherwise.
        (_, Some(version)) => return Err(Unreadable::UnknownFormat(version)),
        (None, None) => return Err(damaged("it does not end with a seal")),
        (Some(true), None) => {}
    }
    serde_json::from_slice(bytes).map_err(|error| Unreadable::Damaged(error.to_string()))
}

/// Whether the seal matches; `None` when there is none.
fn seal_of(bytes: &[u8]) -> Option<bool> {
    let text = std::str::from_utf8(bytes).ok()?;
    let sealed = text.strip_suffix(SEAL_END)?;
    let (body, hash) = sealed.split_at_checked(sealed.len().checked_sub(HASH_DIGITS)?)?;
    let body = body.strip_suffix(SEAL)?;
    let mut hasher = blake3::Hasher::new();
    hasher.update(body.as_bytes()).update(END.as_bytes());
    Some(hasher.finalize().to_hex().as_str() == hash)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NEWEST: u32 = 2;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Document {
        format_version: u32,
        note: String,
    }

    fn document(note: String) -> Document {
        Document {
            format_version: NEWEST,
            note,
        }
    }

    proptest! {
        #[test]
        fn a_sealed_document_reads_back(note: String) {
            let document = document(note);
            prop_assert_eq!(open::<Document>(&seal(&document), NEWEST), Ok(document));
        }

        #[test]
        fn any_changed_byte_is_noticed(note: String, at: prop::sample::Index, flip in 1u8..) {
            let mut bytes = seal(&document(note));
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            prop_assert!(open::<Document>(&bytes, NEWEST).is_err());
        }

        #[test]
        fn a_document_cut_short_is_noticed(note: String, at: prop::sample::Index) {
            let bytes = seal(&document(note));
            let cut = &bytes[..at.index(bytes.len())];
            prop_assert!(matches!(open::<Document>(cut, NEWEST), Err(Unreadable::Damaged(_))));
        }
    }

    #[test]
    fn another_version_is_told_from_damage_with_and_without_a_seal() {
        let newer = Document {
            format_version: NEWEST + 1,
            note: String::new(),
        };
        let expected = Err(Unreadable::UnknownFormat(u64::from(NEWEST) + 1));
        assert_eq!(open::<Document>(&seal(&newer), NEWEST), expected);
        let bare = serde_json::to_vec(&newer).unwrap();
        assert_eq!(open::<Document>(&bare, NEWEST), expected);
    }
}
