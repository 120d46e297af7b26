//! One object of a log: a line of JSON, what was put, compressed, and the BLAKE3 of all that.

use std::io::Read as _;

use mendb_model::key::to_hex;
use serde::{Deserialize, Serialize};

use crate::seal::Unreadable;

/// The format that this version writes and reads.
pub(super) const FORMAT_VERSION: u32 = 1;

const HASH_BYTES: usize = blake3::OUT_LEN;
const ZSTD_LEVEL: i32 = 1;
/// The most bytes that an object may hold: what says more is damaged.
const MOST_BYTES: u64 = 1 << 34;

/// What an object says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    pub(super) format_version: u32,
    /// Its place in the log; of a snapshot that of the last entry in it.
    pub(super) number: u64,
    /// Grows by one with each process that leads.
    pub(super) epoch: u64,
    /// Drawn at random by who leads, so that no two processes write the same bytes.
    pub(super) writer: String,
    /// The hash at the end of the entry before; of a snapshot that of the last entry in it.
    pub(super) previous: String,
    /// Whether its epoch begins with it.
    pub(super) takes_over: bool,
    /// Of a snapshot, the entries with which epochs have begun.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) takeovers: Vec<u64>,
    /// Of what was put, before it was compressed.
    pub(super) bytes: u64,
}

/// An object that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Read {
    pub(super) head: Head,
    pub(super) payload: Vec<u8>,
    /// The hash at its end, as hex digits.
    pub(super) seal: String,
}

/// The bytes of an object, and the hash at their end.
pub(super) fn encode(head: &Head, payload: &[u8]) -> (Vec<u8>, String) {
    let mut bytes = serde_json::to_vec(head).expect("a head has string keys");
    bytes.push(b'\n');
    let compressed = zstd::bulk::compress(payload, ZSTD_LEVEL);
    bytes.extend(compressed.expect("memory is what compressing needs"));
    let hash = blake3::hash(&bytes);
    bytes.extend_from_slice(hash.as_bytes());
    (bytes, hash.to_hex().to_string())
}

/// Reads the object of a number.
pub(super) fn decode(bytes: &[u8], number: u64) -> Result<Read, Unreadable> {
    let damaged = |detail: &str| Unreadable::Damaged(detail.to_owned());
    let Some((content, hash)) = bytes
        .len()
        .checked_sub(HASH_BYTES)
        .map(|end| bytes.split_at(end))
    else {
        return Err(damaged("it is too short to end with a hash"));
    };
    if blake3::hash(content).as_bytes() != hash {
        return Err(damaged("it does not match the hash at its end"));
    }
    let end = content.iter().position(|byte| *byte == b'\n');
    let (line, rest) = content.split_at(end.ok_or_else(|| damaged("it has no first line"))?);
    #[derive(Deserialize)]
    struct Version {
        format_version: u64,
    }
    let version: Version = serde_json::from_slice(line)
        .map_err(|error| Unreadable::Damaged(format!("its first line: {error}")))?;
    if version.format_version != u64::from(FORMAT_VERSION) {
        return Err(Unreadable::UnknownFormat(version.format_version));
    }
    let head: Head = serde_json::from_slice(line)
        .map_err(|error| Unreadable::Damaged(format!("its first line: {error}")))?;
    if head.number != number {
        return Err(Unreadable::Damaged(format!("it is number {}", head.number)));
    }
    if head.bytes > MOST_BYTES {
        return Err(damaged("it says that it holds more than it can"));
    }
    let mut payload = Vec::new();
    let decoder = zstd::stream::Decoder::with_buffer(&rest[1..]);
    let read = decoder.and_then(|decoder| decoder.take(head.bytes + 1).read_to_end(&mut payload));
    if let Err(error) = read {
        return Err(Unreadable::Damaged(format!("what it holds: {error}")));
    }
    if payload.len() as u64 != head.bytes {
        return Err(damaged("it holds another number of bytes than it says"));
    }
    Ok(Read {
        head,
        payload,
        seal: to_hex(hash),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head(number: u64, bytes: u64) -> Head {
        Head {
            format_version: FORMAT_VERSION,
            number,
            epoch: 3,
            writer: "w".to_owned(),
            previous: "p".to_owned(),
            takes_over: false,
            takeovers: vec![1, 7],
            bytes,
        }
    }

    proptest! {
        #[test]
        fn what_was_put_reads_back(payload: Vec<u8>, number in 1u64..) {
            let head = head(number, payload.len() as u64);
            let (bytes, seal) = encode(&head, &payload);
            prop_assert_eq!(decode(&bytes, number), Ok(Read { head, payload, seal }));
        }

        #[test]
        fn any_changed_byte_and_any_cut_is_noticed(payload: Vec<u8>, at: prop::sample::Index, flip in 1u8..) {
            let (mut bytes, _) = encode(&head(5, payload.len() as u64), &payload);
            let at = at.index(bytes.len());
            prop_assert!(decode(&bytes[..at], 5).is_err());
            bytes[at] ^= flip;
            prop_assert!(decode(&bytes, 5).is_err());
        }
    }

    #[test]
    fn another_number_and_another_format_are_named() {
        let (bytes, _) = encode(&head(5, 0), &[]);
        let Err(Unreadable::Damaged(detail)) = decode(&bytes, 6) else {
            panic!("it is number 5");
        };
        assert_eq!(detail, "it is number 5");
        let newer = Head {
            format_version: FORMAT_VERSION + 1,
            ..head(5, 0)
        };
        let (bytes, _) = encode(&newer, &[]);
        let newer = u64::from(FORMAT_VERSION) + 1;
        assert_eq!(decode(&bytes, 5), Err(Unreadable::UnknownFormat(newer)));
        let wrong = head(5, 1);
        let (bytes, _) = encode(&wrong, b"two");
        assert!(matches!(decode(&bytes, 5), Err(Unreadable::Damaged(_))));
    }
}
