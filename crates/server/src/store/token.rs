//! Record `token`: who may ask, by the hash of a secret.
//!
//! A secret is 256 bits that nobody chose, so its BLAKE3 hash tells nothing of it, and hashing it slowly would protect
//! nothing: that is for secrets that can be guessed.

use mendb_service::{Error, Result, env};
use rusqlite::{OptionalExtension, params};
use serde::Serialize;

use super::{Store, int};
use crate::role::Role;

pub(super) const LAYOUT: &str = "
CREATE TABLE IF NOT EXISTS token (
    name          TEXT PRIMARY KEY,
    role          TEXT NOT NULL,
    hash          TEXT NOT NULL,      -- BLAKE3 of the secret
    created_at_ms INTEGER NOT NULL,
    expires_at_ms INTEGER,
    revoked_at_ms INTEGER
) STRICT;";

/// What every secret begins with, so that scanners know one that was left lying about.
const PREFIX: &str = "mendb_";

/// A token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Token {
    /// Whose it is.
    pub name: String,
    /// What it may.
    pub role: Role,
    /// When it was made, in milliseconds since 1970.
    pub created_at_ms: u64,
    /// When it ends.
    pub expires_at_ms: Option<u64>,
    /// When it was taken back.
    pub revoked_at_ms: Option<u64>,
}

/// Who brings a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bearer {
    /// Who has a token that holds.
    Holds(Token),
    /// Who had one.
    Expired,
    /// Whose token was taken back.
    Revoked,
    /// Somebody.
    Unknown,
}

impl Token {
    /// Whether it holds at a time.
    pub fn holds_at(&self, now_ms: u64) -> bool {
        self.revoked_at_ms.is_none() && self.expires_at_ms.is_none_or(|end| now_ms < end)
    }
}

impl Store {
    /// Makes a token, and returns its secret, which is kept nowhere.
    ///
    /// # Errors
    /// The name is taken by one that holds, or the store cannot be written.
    pub fn create_token(
        &self,
        name: &str,
        role: Role,
        expires_at_ms: Option<u64>,
    ) -> Result<String> {
        let now_ms = env::now_ms();
        if self
            .tokens()?
            .iter()
            .any(|token| token.name == name && token.holds_at(now_ms))
        {
            return Err(Error::Refused {
                message: format!("there is a token {name} already"),
                hint: Some(format!(
                    "choose another name, or take that one back: mendb token revoke {name}"
                )),
            });
        }
        let secret = format!("{PREFIX}{}{}", env::random_id(), env::random_id());
        self.with("create token", |connection| {
            connection.execute(
                "INSERT OR REPLACE INTO token (name, role, hash, created_at_ms, expires_at_ms) \
                 VALUES (?1, ?2, ?3, ?4, ?5)",
                params![
                    name,
                    role.name(),
                    blake3::hash(secret.as_bytes()).to_hex().as_str(),
                    int(now_ms),
                    expires_at_ms.map(int)
                ],
            )
        })?;
        Ok(secret)
    }

    /// All tokens, by name.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn tokens(&self) -> Result<Vec<Token>> {
        let hashed = self.hashed_tokens()?;
        Ok(hashed.into_iter().map(|(token, _)| token).collect())
    }

    fn hashed_tokens(&self) -> Result<Vec<(Token, String)>> {
        type Read = (String, String, String, i64, Option<i64>, Option<i64>);
        let rows: Vec<Read> = self.with("read tokens", |connection| {
            connection
                .prepare_cached(
                    "SELECT name, role, hash, created_at_ms, expires_at_ms, revoked_at_ms FROM token ORDER BY name",
                )?
                .query_map([], |row| Read::try_from(row))?
                .collect()
        })?;
        let token = |(name, role, hash, created, expires, revoked): Read| {
            let role = role
                .parse()
                .map_err(|_| self.unreadable(format!("token {name} has the role {role:?}")))?;
            let token = Token {
                name,
                role,
                created_at_ms: created.unsigned_abs(),
                expires_at_ms: expires.map(i64::unsigned_abs),
                revoked_at_ms: revoked.map(i64::unsigned_abs),
            };
            Ok((token, hash))
        };
        rows.into_iter().map(token).collect()
    }

    /// Takes a token back. Returns whether there was one that was not taken back before.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn revoke_token(&self, name: &str) -> Result<bool> {
        let revoked = self.with("revoke token", |connection| {
            connection.execute(
                "UPDATE token SET revoked_at_ms = ?2 WHERE name = ?1 AND revoked_at_ms IS NULL",
                params![name, int(env::now_ms())],
            )
        })?;
        Ok(revoked > 0)
    }

    /// Whether there is a token of a name.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn has_token(&self, name: &str) -> Result<bool> {
        let found: Option<i64> = self.with("read tokens", |connection| {
            connection
                .query_row("SELECT 1 FROM token WHERE name = ?1", [name], |row| {
                    row.get(0)
                })
                .optional()
        })?;
        Ok(found.is_some())
    }

    /// Who brings a secret. Every token is compared, each in the same time, so that the time tells nothing.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn bearer(&self, secret: &str) -> Result<Bearer> {
        let brought = blake3::hash(secret.as_bytes());
        let mut found = None;
        for (token, hash) in self.hashed_tokens()? {
            let hash = blake3::Hash::from_hex(&hash)
                .map_err(|_| self.unreadable(format!("token {} has no hash", token.name)))?;
            // Hashes compare in constant time.
            if hash == brought {
                found = Some(token);
            }
        }
        let now_ms = env::now_ms();
        Ok(match found {
            None => Bearer::Unknown,
            Some(token) if token.revoked_at_ms.is_some() => Bearer::Revoked,
            Some(token) if !token.holds_at(now_ms) => Bearer::Expired,
            Some(token) => Bearer::Holds(token),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_shown_once_and_kept_nowhere() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let secret = store.create_token("ann", Role::Operator, None).unwrap();
        let Bearer::Holds(token) = store.bearer(&secret).unwrap() else {
            panic!("it holds");
        };
        assert_eq!((token.name.as_str(), token.role), ("ann", Role::Operator));
        drop(store);
        for entry in std::fs::read_dir(directory.path()).unwrap() {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap();
            let needle = secret.as_bytes();
            assert!(!bytes.windows(needle.len()).any(|window| window == needle));
        }
    }

    #[test]
    fn a_token_that_has_ended_lets_nobody_in() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let old = store.create_token("old", Role::Admin, Some(1)).unwrap();
        assert_eq!(store.bearer(&old).unwrap(), Bearer::Expired);
        let ann = store.create_token("ann", Role::Admin, None).unwrap();
        assert!(store.create_token("ann", Role::Viewer, None).is_err());
        assert!(store.revoke_token("ann").unwrap());
        assert!(!store.revoke_token("ann").unwrap());
        assert_eq!(store.bearer(&ann).unwrap(), Bearer::Revoked);
        assert_eq!(store.bearer("mendb_").unwrap(), Bearer::Unknown);
        // The name of one that has ended is free.
        let again = store.create_token("ann", Role::Viewer, None).unwrap();
        assert!(matches!(store.bearer(&again).unwrap(), Bearer::Holds(_)));
        assert_eq!(store.bearer(&ann).unwrap(), Bearer::Unknown);
    }

    #[cfg(unix)]
    #[test]
    fn the_store_is_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        drop(Store::open(directory.path()).unwrap());
        let file = std::fs::metadata(directory.path().join("server.sqlite")).unwrap();
        assert_eq!(file.permissions().mode() & 0o777, 0o600);
    }
}
