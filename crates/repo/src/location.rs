//! From the URL of a repository to the store and the place in it.

use std::collections::HashMap;
use std::path::Path as FilePath;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{BackoffConfig, ClientConfigKey, ObjectStore, RetryConfig};
use url::Url;

use crate::error::{Error, Result};
use crate::objects::StoreKind;
use crate::options::RepositoryOptions;

const CLIENT_TIMEOUT: AmazonS3ConfigKey = AmazonS3ConfigKey::Client(ClientConfigKey::Timeout);
/// Far beyond the limits that the repository sets by the size of each request: those decide.
const CLIENT_TIME_LIMIT: &str = "1day";

/// The client repeats a request once at most, for connections that the server had closed meanwhile;
/// the repository's own retries do the rest.
fn client_retries() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(50),
            max_backoff: Duration::from_millis(200),
            base: 2.0,
        },
        max_retries: 1,
        retry_timeout: Duration::from_secs(30),
    }
}

/// A store and the place in it.
pub(crate) struct Location {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) prefix: Path,
    /// As it is shown: without a slash at its end.
    pub(crate) url: String,
    pub(crate) place: StoreKind,
}

impl Location {
    /// Finds the place that a URL or a path names. Nothing is read or written.
    pub(crate) fn parse(text: &str, options: &RepositoryOptions) -> Result<Self> {
        let bad = |detail: &str| Error::Url {
            url: text.to_owned(),
            detail: detail.to_owned(),
        };
        if text.is_empty() {
            return Err(bad("it is empty"));
        }
        if let Some(name) = text.strip_prefix("memory:") {
            return Ok(Self::memory(name));
        }
        let Some((scheme, _)) = text.split_once("://") else {
            let path = text.strip_prefix("file:").unwrap_or(text);
            return Self::local(FilePath::new(path), bad);
        };
        match scheme {
            "file" => {
                let url = Url::parse(text).map_err(|error| bad(&error.to_string()))?;
                let path = url.to_file_path();
                Self::local(&path.map_err(|()| bad("it names another machine"))?, bad)
            }
            "s3" => Self::s3(text, options, bad),
            other => Err(bad(&format!("{other}:// is not supported"))),
        }
    }

    /// A repository in the memory of this process: the same one for each call with the same name,
    /// and one of its own for each call without.
    fn memory(name: &str) -> Self {
        static NAMED: Mutex<Option<HashMap<String, Arc<InMemory>>>> = Mutex::new(None);
        let store = if name.is_empty() {
            Arc::default()
        } else {
            let mut named = NAMED.lock().unwrap_or_else(PoisonError::into_inner);
            let stores = named.get_or_insert_default();
            Arc::clone(stores.entry(name.to_owned()).or_default())
        };
        Self {
            place: StoreKind::Remote(Arc::<InMemory>::clone(&store)),
            store,
            prefix: Path::default(),
            url: format!("memory:{name}"),
        }
    }

    fn local(path: &FilePath, bad: impl Fn(&str) -> Error) -> Result<Self> {
        let path = std::path::absolute(path).map_err(|error| bad(&error.to_string()))?;
        let url = Url::from_file_path(&path).map_err(|()| bad("it is not an absolute path"))?;
        let prefix = Path::from_absolute_path(&path).map_err(|error| bad(&error.to_string()))?;
        Ok(Self {
            store: Arc::new(LocalFileSystem::new().with_fsync(true)),
            prefix,
            url: url.as_str().trim_end_matches('/').to_owned(),
            place: StoreKind::Directory(path),
        })
    }

    fn s3(text: &str, options: &RepositoryOptions, bad: impl Fn(&str) -> Error) -> Result<Self> {
        let url = Url::parse(text).map_err(|error| bad(&error.to_string()))?;
        let bucket = url.host_str().filter(|host| !host.is_empty());
        let bucket = bucket.ok_or_else(|| bad("it names no bucket"))?;
        if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() {
            return Err(bad("settings belong into the AWS_ environment variables"));
        }
        let prefix = Path::from_url_path(url.path()).map_err(|error| bad(&error.to_string()))?;
        let mut builder = AmazonS3Builder::from_env()
            .with_bucket_name(bucket)
            .with_retry(client_retries())
            .with_config(CLIENT_TIMEOUT, CLIENT_TIME_LIMIT);
        for (name, value) in &options.s3 {
            let key = name.to_ascii_lowercase().parse::<AmazonS3ConfigKey>();
            builder = builder.with_config(key.map_err(|error| bad(&error.to_string()))?, value);
        }
        // That one was installed before is no error.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let store = Arc::new(builder.build().map_err(|error| bad(&error.to_string()))?);
        Ok(Self {
            place: StoreKind::Remote(store.clone()),
            store,
            prefix,
            url: text.trim_end_matches('/').to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Location> {
        Location::parse(url, &RepositoryOptions::default())
    }

    #[test]
    fn paths_and_file_urls_name_the_same_directory() {
        for text in ["/var/backups of db#1", "file:///var/backups%20of%20db%231/"] {
            let location = parse(text).unwrap();
            assert_eq!(location.url, "file:///var/backups%20of%20db%231");
            assert_eq!(location.prefix.as_ref(), "var/backups of db#1");
        }
        let StoreKind::Directory(relative) = parse("backups").unwrap().place else {
            panic!("it is a directory");
        };
        assert_eq!(relative, std::env::current_dir().unwrap().join("backups"));
    }

    #[test]
    fn s3_urls_name_a_bucket_and_a_prefix() {
        let location = parse("s3://bucket/some/prefix/").unwrap();
        assert_eq!(location.url, "s3://bucket/some/prefix");
        assert_eq!(location.prefix.as_ref(), "some/prefix");
        assert_eq!(parse("s3://bucket").unwrap().prefix.as_ref(), "");
    }

    #[test]
    fn what_cannot_be_a_repository_says_what_can() {
        for bad in [
            "",
            "gs://bucket",
            "s3://",
            "file://host/dir",
            "s3://key:secret@bucket/",
        ] {
            let message = parse(bad).err().unwrap().to_string();
            assert!(message.contains("use file:///directory"), "{message}");
        }
        let mut options = RepositoryOptions::default();
        options
            .s3
            .insert("aws_endpiont".into(), "http://localhost".into());
        let error = Location::parse("s3://bucket", &options).err().unwrap();
        assert!(error.to_string().contains("aws_endpiont"), "{error}");
    }
}
