//! The URL of a ClickHouse server: `clickhouse://user[:password]@host:port/`.

use std::path::{Path, PathBuf};

use url::Url;

use crate::failure::Failure;
use crate::settings::secret::{Secret, hide_in_url};

/// Where a server listens for HTTP unless it was told otherwise.
const PORT: u16 = 8123;
/// Where a server listens for HTTPS unless it was told otherwise.
const SECURE_PORT: u16 = 8443;
/// The user that every server has.
const USER: &str = "default";

const FORM: &str = "a ClickHouse target is clickhouse://user[:password]@host:8123/, \
                    with clickhouses:// or ?secure=1 for TLS; the password can also come from \
                    MENDB_CLICKHOUSE_PASSWORD";

/// A server as a URL names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// The address of its HTTP interface, without user and password.
    pub address: String,
    /// Its host and port, as they can be part of a file name.
    name: String,
    /// The user.
    pub user: String,
    /// The password in the URL; empty for none.
    pub password: Secret,
}

impl Server {
    /// Whether a URL is meant to name a ClickHouse server.
    pub fn is_meant_by(target: &str) -> bool {
        matches!(
            target.split_once(':'),
            Some(("clickhouse" | "clickhouses", _))
        )
    }

    /// Reads a URL.
    ///
    /// # Errors
    /// It is none of a server, or says more than which server.
    pub fn parse(target: &str) -> Result<Self, Failure> {
        let wrong = |why: &str| {
            let shown = hide_in_url(target);
            Failure::misuse(format!("the target {shown:?} {why}")).hint(FORM)
        };
        let url = Url::parse(target).map_err(|error| wrong(&format!("is no URL: {error}")))?;
        let host = url.host_str().filter(|host| !host.is_empty());
        let host = host.ok_or_else(|| wrong("names no host"))?;
        if !matches!(url.path(), "" | "/") || url.fragment().is_some() {
            return Err(wrong(
                "names more than a server: databases and tables are chosen with --tables",
            ));
        }
        let mut secure = url.scheme() == "clickhouses";
        for (key, value) in url.query_pairs() {
            match (key.as_ref(), value.as_ref()) {
                ("secure", "1" | "true") => secure = true,
                ("secure", "0" | "false") => secure = false,
                _ => return Err(wrong(&format!("has the unknown parameter {key}={value}"))),
            }
        }
        let (scheme, default_port) = if secure {
            ("https", SECURE_PORT)
        } else {
            ("http", PORT)
        };
        let port = url.port().unwrap_or(default_port);
        let text = |encoded: &str, what: &str| {
            decode(encoded).ok_or_else(|| wrong(&format!("has a {what} that is not UTF-8")))
        };
        let user = match url.username() {
            "" => USER.to_owned(),
            user => text(user, "user")?,
        };
        let password = text(url.password().unwrap_or_default(), "password")?;
        Ok(Self {
            address: format!("{scheme}://{host}:{port}/"),
            name: format!("{}-{port}", plain(host)),
            user,
            password: Secret::new(password),
        })
    }

    /// Its host and port.
    pub fn place(&self) -> &str {
        let (_, place) = self.address.split_once("://").unwrap_or_default();
        place.trim_end_matches('/')
    }

    /// The server of a host that is asked as this one is: by the same user, over TLS or not, and on the same port unless
    /// another is named.
    #[must_use]
    pub fn at(&self, host: &str, port: Option<u16>) -> Self {
        let (scheme, place) = self.address.split_once("://").unwrap_or_default();
        let own = place.trim_end_matches('/').rsplit_once(':');
        let own = own.map(|(_, port)| port).unwrap_or_default();
        let port = port.map_or_else(|| own.to_owned(), |port| port.to_string());
        let host = match host.contains(':') && !host.starts_with('[') {
            true => format!("[{host}]"),
            false => host.to_owned(),
        };
        Self {
            address: format!("{scheme}://{host}:{port}/"),
            name: format!("{}-{port}", plain(&host)),
            ..self.clone()
        }
    }

    /// Where mendb kept the journal of this server before it was in the server's data directory.
    ///
    /// # Errors
    /// The current directory is gone.
    pub fn state_before(&self) -> Result<PathBuf, Failure> {
        let directory = Path::new("mendb-data").join(format!("clickhouse-{}", self.name));
        std::path::absolute(directory)
            .map_err(|error| Failure::io("cannot find the current directory", &error))
    }
}

/// A host as it can be part of a file name.
fn plain(host: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
    let plain = host.chars().map(|c| if is_plain(c) { c } else { '_' });
    plain.collect()
}

/// Text with its `%XX` replaced; `None` when that is not UTF-8. A `%` without two digits stands for itself.
fn decode(encoded: &str) -> Option<String> {
    let bytes = encoded.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digits = bytes.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        let byte = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        decoded.push(byte.unwrap_or(bytes[at]));
        at += if byte.is_some() { 3 } else { 1 };
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_named_by_user_host_and_port() {
        let server = Server::parse("clickhouse://me:s%2Fe%40c@db.example:18123/").unwrap();
        assert_eq!(server.address, "http://db.example:18123/");
        assert_eq!(server.user, "me");
        assert_eq!(server.password.reveal(), "s/e@c");
        let state = server.state_before().unwrap();
        assert!(state.ends_with("mendb-data/clickhouse-db.example-18123"));
    }

    #[test]
    fn what_a_url_leaves_out_is_what_servers_have_by_default() {
        let server = Server::parse("clickhouse://localhost").unwrap();
        assert_eq!(server.address, "http://localhost:8123/");
        assert_eq!(
            (server.user.as_str(), server.password.is_empty()),
            ("default", true)
        );
        for secure in ["clickhouses://h", "clickhouse://h/?secure=1"] {
            assert_eq!(Server::parse(secure).unwrap().address, "https://h:8443/");
        }
        let port = Server::parse("clickhouse://h:80/").unwrap();
        assert_eq!(port.address, "http://h:80/");
    }

    #[test]
    fn an_address_in_brackets_makes_a_plain_file_name() {
        let server = Server::parse("clickhouse://[::1]:8123/").unwrap();
        assert_eq!(server.address, "http://[::1]:8123/");
        let state = server.state_before().unwrap();
        assert!(
            state.ends_with("mendb-data/clickhouse-___1_-8123"),
            "{state:?}"
        );
    }

    #[test]
    fn another_host_is_asked_in_the_same_way() {
        let server = Server::parse("clickhouses://me:secret@db1:9443/").unwrap();
        let other = server.at("db2", None);
        assert_eq!(other.address, "https://db2:9443/");
        assert_eq!(
            (other.user.as_str(), other.password.reveal()),
            ("me", "secret")
        );
        assert_eq!(server.at("::1", Some(80)).address, "https://[::1]:80/");
    }

    #[test]
    fn a_wrong_url_is_told_without_its_password() {
        for (url, why) in [
            (
                "clickhouse://u:hunter2@h:8123/analytics",
                "names more than a server",
            ),
            ("clickhouse://u:hunter2@h/?compress=1", "compress=1"),
            ("clickhouse://u:hunter2@h:port/", "is no URL"),
            ("clickhouse:///", "names no host"),
            ("clickhouse:h", "names no host"),
        ] {
            let failure = Server::parse(url).unwrap_err();
            assert_eq!(failure.exit_code(), 2);
            assert!(failure.message.contains(why), "{failure}");
            assert!(!failure.to_string().contains("hunter2"), "{failure}");
        }
    }

    #[test]
    fn text_is_decoded_where_it_is_encoded() {
        assert_eq!(decode("a%20b%2Bc").unwrap(), "a b+c");
        assert_eq!(decode("100%").unwrap(), "100%");
        assert_eq!(decode("%+1%zz").unwrap(), "%+1%zz");
        assert!(decode("%ff").is_none());
    }
}
