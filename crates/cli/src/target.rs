//! The target: opening the database that a URL names.

use std::path::{Path, PathBuf};

use mendb_rowstore::{Database, Error, Options};

use crate::context::Context;
use crate::failure::{Failure, FailureKind};

/// The directory of the row store under the target's directory.
const ROWS: &str = "rows";

/// The directory that a target URL names: `mendb:///abs/dir`, `mendb:relative/dir` or a plain path.
///
/// # Errors
/// The URL has a scheme that is none of mendb's, or names no directory.
pub fn directory(target: &str) -> Result<PathBuf, Failure> {
    let path = match target.split_once(':') {
        None => target,
        Some(("mendb", rest)) => rest.strip_prefix("//").unwrap_or(rest),
        // `./a:b` is a path.
        Some((before, _)) if before.contains(['/', '.']) => target,
        Some((scheme, _)) => {
            return Err(Failure::misuse(format!(
                "the target {target:?} has the unknown scheme {scheme:?}"
            ))
            .hint("a target is mendb:///dir: a directory that mendb keeps its tables in"));
        }
    };
    if path.is_empty() {
        return Err(Failure::misuse(format!(
            "the target {target:?} names no directory"
        )));
    }
    std::path::absolute(Path::new(path))
        .map_err(|error| Failure::io("cannot find the current directory", &error))
}

impl Context {
    /// Opens the row store of the target; it is created when it is not there.
    ///
    /// # Errors
    /// The URL is wrong, the directory is open in another process, or the store is damaged.
    pub fn open_rows(&self) -> Result<Database, Failure> {
        let directory = directory(&self.settings.target)?.join(ROWS);
        std::fs::create_dir_all(&directory).map_err(|error| {
            Failure::io(
                format!("cannot create the target {}", directory.display()),
                &error,
            )
        })?;
        let options = Options {
            split_bytes: self.settings.split_bytes,
            cache_bytes: self.settings.cache_bytes,
            ..Options::default()
        };
        Ok(Database::open(&directory, options)?)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::Locked { .. } => FailureKind::Busy,
            Error::BeingRestored { .. } | Error::BeingBackedUp { .. } => FailureKind::Retry,
            Error::Storage { .. } | Error::Stopped { .. } | Error::Format { .. } => {
                FailureKind::FixEnvironment
            }
            Error::Unordered { .. } | Error::WrongShard { .. } => FailureKind::ReportBug,
            _ => FailureKind::FixInput,
        };
        let failure = Self::of(kind, &error);
        match &error {
            Error::Locked { .. } => failure.hint(
                "another mendb works on this target: wait for it to end, then run the command again",
            ),
            Error::NoBoundary { path, .. } => failure.hint(format!(
                "mendb table describe {} shows where its shards meet",
                path.split('/').next().unwrap_or(path)
            )),
            Error::TableMissing(_) => failure.hint("mendb table list shows the tables there are"),
            Error::BeingRestored { operation, .. } | Error::BeingBackedUp { operation, .. } => {
                failure.hint(format!(
                    "mendb operation watch {operation} shows how far it is and drives it on"
                ))
            }
            _ => failure,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_url_or_a_path() {
        for url in ["mendb:///data/x", "mendb:/data/x", "/data/x"] {
            assert_eq!(directory(url).unwrap(), Path::new("/data/x"), "{url}");
        }
        let relative = std::env::current_dir().unwrap().join("data/x");
        for url in ["mendb:data/x", "mendb://data/x", "data/x", "./data/x"] {
            assert_eq!(directory(url).unwrap(), relative, "{url}");
        }
    }

    #[test]
    fn an_unknown_scheme_is_named() {
        assert_eq!(
            directory("postgres://host/db").unwrap_err().message,
            "the target \"postgres://host/db\" has the unknown scheme \"postgres\""
        );
        assert!(directory("mendb://").is_err());
    }
}
