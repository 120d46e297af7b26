//! Names that nothing else has.

use mendb_model::key::to_hex;

/// 32 hex digits.
#[expect(
    clippy::disallowed_methods,
    reason = "the id of a repository, or of a file that is being written, must differ from all others, also when a run is repeated"
)]
pub(crate) fn random_id() -> String {
    to_hex(&rand::random::<[u8; 16]>())
}

/// A number that no other file which is being written has.
#[expect(
    clippy::disallowed_methods,
    reason = "the name of a file that is being written must differ from all others, also when a run is repeated"
)]
pub(crate) fn random_number() -> u64 {
    rand::random()
}
