//! Queries to a server over HTTP.
//!
//! *Retry*: only listings that fail over a table which is dropped meanwhile are asked for again. An error
//! says whether repeating may help ([`ServerError::remedy`]); a statement that got no answer may have been run. *Bounds*: a connection is waited for
//! [`CONNECT_TIMEOUT`], the answer to a question [`QUESTION_TIMEOUT`], the end of a statement
//! [`STATEMENT_TIMEOUT`]; the rows of an answer are in memory all at once.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;
use std::time::Duration;

use mendb_model::describe_error;
use reqwest::blocking;
use reqwest::header::{HeaderMap, HeaderValue};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use url::Url;

use crate::error::{EngineError, Remedy};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A server that freezes or exchanges terabytes answers after hours; one that is stuck never does.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(12 * 3600);
/// A question about tables and parts is answered within seconds, also by a server that is busy.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(5 * 60);
/// Servers close idle connections after 3 seconds or more: one that is closed while it is being used
/// again would look like a server that died.
const IDLE_TIMEOUT: Duration = Duration::from_secs(1);
/// The most of a message that is passed on: stack traces have thousands of characters.
const MESSAGE_CHARS_MAX: usize = 1000;

/// How often a listing is asked for that fails over tables that come and go meanwhile.
const LISTINGS_MAX: u32 = 20;

const UNKNOWN_TABLE: u32 = 60;
const UNKNOWN_DATABASE: u32 = 81;
const MISSING_FILE: u32 = 107;
const READONLY: u32 = 164;
const SETTING_CONSTRAINT: u32 = 452;
const ACCESS_DENIED: u32 = 497;
/// ZooKeeper or Keeper has failed, or says no.
const KEEPER_EXCEPTION: u32 = 999;

/// A way to ask one server.
pub(super) struct Client {
    http: blocking::Client,
    url: Url,
    user: String,
    known_settings: OnceLock<HashSet<String>>,
}

/// What a query ends in.
pub(super) type Result<T> = std::result::Result<T, ServerError>;

impl Client {
    /// A client for the server at an address such as `http://localhost:8123`. Nothing is sent yet.
    pub(super) fn new(url: &str, user: &str, password: &str) -> crate::Result<Self> {
        let refused = |why: String| {
            let message = format!(
                "{url:?} is no address of a ClickHouse server ({why}): give one such as http://localhost:8123"
            );
            EngineError::new(Remedy::Request, message)
        };
        let address = Url::parse(url).map_err(|error| refused(error.to_string()))?;
        if !matches!(address.scheme(), "http" | "https") || !address.has_host() {
            return Err(refused("not HTTP".to_owned()));
        }
        if !address.username().is_empty() || address.password().is_some() {
            // The address stands in messages.
            let message = "give the user and the password apart from the address of the server";
            return Err(EngineError::new(Remedy::Request, message));
        }
        let mut headers = HeaderMap::new();
        for (name, value) in [("X-ClickHouse-User", user), ("X-ClickHouse-Key", password)] {
            let mut value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| {
                let message = "a user or password with control characters cannot be sent";
                EngineError::new(Remedy::Request, message)
            })?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        // That one was installed before is no error.
        let _ = rustls::crypto::ring::default_provider().install_default();
        // The server's files are read beside it: no proxy is between.
        let mut http = blocking::Client::builder()
            .no_proxy()
            .default_headers(headers)
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_TIMEOUT);
        if address.scheme() == "http" {
            // Nobody shows a certificate: reading the system's hundreds takes as long as several questions.
            http = http.tls_certs_only([]);
        }
        let http = http
            .build()
            .map_err(|error| refused(describe_error(&error)))?;
        Ok(Self {
            http,
            url: address,
            user: user.to_owned(),
            known_settings: OnceLock::new(),
        })
    }

    /// Runs a statement.
    pub(super) fn execute(&self, sql: &str) -> Result<()> {
        self.execute_with(sql, &[])
    }

    /// Runs a statement with those of the settings that the server knows.
    pub(super) fn execute_with(&self, sql: &str, settings: &[(&str, &str)]) -> Result<()> {
        let settings = self.known(settings)?;
        self.send(sql, &settings, STATEMENT_TIMEOUT).map(drop)
    }

    /// The rows that a query answers with. It must not name a format.
    pub(super) fn rows<T: DeserializeOwned>(&self, sql: &str) -> Result<Vec<T>> {
        self.rows_with(sql, &[])
    }

    /// As [`Self::rows`], with settings, all of which the server has to know.
    pub(super) fn rows_with<T: DeserializeOwned>(
        &self,
        sql: &str,
        settings: &[(&str, &str)],
    ) -> Result<Vec<T>> {
        self.answered(sql, settings, QUESTION_TIMEOUT)
    }

    /// As [`Self::rows`], of a statement that may take as long as any: a check of all bytes. It runs with
    /// those of the settings that the server knows.
    pub(super) fn rows_of_statement<T: DeserializeOwned>(
        &self,
        sql: &str,
        settings: &[(&str, &str)],
    ) -> Result<Vec<T>> {
        let settings = self.known(settings)?;
        self.answered(sql, &settings, STATEMENT_TIMEOUT)
    }

    fn answered<T: DeserializeOwned>(
        &self,
        sql: &str,
        settings: &[(&str, &str)],
        limit: Duration,
    ) -> Result<Vec<T>> {
        let answer = self.ask(&format!("{sql}\nFORMAT JSONEachRow"), settings, limit)?;
        // Names are bytes to the server; what is not UTF-8 matches nothing afterwards, and only there.
        let text = String::from_utf8_lossy(&answer);
        let lines = text.lines().filter(|line| !line.is_empty());
        lines
            .map(|line| serde_json::from_str(line))
            .collect::<serde_json::Result<_>>()
            .map_err(|error| self.unreadable(&error))
    }

    /// The only row of an answer.
    pub(super) fn row<T: DeserializeOwned>(&self, sql: &str) -> Result<T> {
        let rows: Vec<T> = self.rows(sql)?;
        let count = rows.len();
        let [row] = <[T; 1]>::try_from(rows)
            .map_err(|_| self.unreadable(&format_args!("{count} rows instead of one")))?;
        Ok(row)
    }

    /// Sends a query, again where an old server looked for a table that went away while it listed all of
    /// them: another operation's staging table, most often.
    fn ask(&self, sql: &str, settings: &[(&str, &str)], limit: Duration) -> Result<Vec<u8>> {
        for _ in 1..LISTINGS_MAX {
            match self.send(sql, settings, limit) {
                Err(error) if error.is_of_a_table_that_went() => {}
                answer => return answer,
            }
        }
        self.send(sql, settings, limit)
    }

    fn known<'a>(&self, settings: &[(&'a str, &'a str)]) -> Result<Vec<(&'a str, &'a str)>> {
        if settings.is_empty() {
            return Ok(Vec::new());
        }
        let known = self.known_settings()?;
        let settings = settings.iter().copied();
        Ok(settings.filter(|(name, _)| known.contains(*name)).collect())
    }

    fn known_settings(&self) -> Result<&HashSet<String>> {
        #[derive(Deserialize)]
        struct Setting {
            name: String,
        }
        if let Some(known) = self.known_settings.get() {
            return Ok(known);
        }
        let settings: Vec<Setting> = self.rows("SELECT name FROM system.settings")?;
        let names = settings.into_iter().map(|setting| setting.name).collect();
        Ok(self.known_settings.get_or_init(|| names))
    }

    fn send(&self, sql: &str, settings: &[(&str, &str)], limit: Duration) -> Result<Vec<u8>> {
        let mut url = self.url.clone();
        url.query_pairs_mut()
            // Without it an error in the middle of a result comes after the status that says all is well.
            .append_pair("wait_end_of_query", "1")
            .extend_pairs(settings);
        let answer = self
            .http
            .post(url)
            .timeout(limit)
            .body(sql.to_owned())
            .send()
            .map_err(|error| self.unanswered(error, limit))?;
        let status = answer.status();
        let header = answer.headers().get("X-ClickHouse-Exception-Code");
        let code = header.and_then(|code| code.to_str().ok()?.parse().ok());
        let body = answer.bytes();
        let body = body.map_err(|error| self.unanswered(error, limit))?;
        if status.is_success() && code.is_none() {
            return Ok(body.into());
        }
        let said = String::from_utf8_lossy(&body);
        Err(self.refused(status.as_u16(), code, &said))
    }

    fn unanswered(&self, error: reqwest::Error, limit: Duration) -> ServerError {
        let error = error.without_url();
        let cause = describe_error(&error);
        let url = &self.url;
        let message = if error.is_connect() {
            format!("no ClickHouse server answers at {url}: {cause}; start it or give its address")
        } else if error.is_timeout() {
            format!(
                "ClickHouse at {url} has not answered within {} s: it is overloaded or stuck",
                limit.as_secs()
            )
        } else {
            format!("the connection to ClickHouse at {url} broke: {cause}")
        };
        ServerError {
            code: None,
            remedy: Remedy::Retry,
            message,
        }
    }

    fn unreadable(&self, why: &dyn fmt::Display) -> ServerError {
        let url = &self.url;
        ServerError {
            code: None,
            remedy: Remedy::Request,
            message: format!("{url} answers as no ClickHouse server does: {why}"),
        }
    }

    fn refused(&self, status: u16, code: Option<u32>, said: &str) -> ServerError {
        let code = code.or_else(|| code_in(said));
        let remedy = match code {
            Some(code) => remedy_of(code),
            // Of something in between, which has lost the server.
            None if status >= 500 => Remedy::Retry,
            None => Remedy::Request,
        };
        let url = &self.url;
        let message = match code {
            Some(192..=194 | 516) => format!(
                "ClickHouse at {url} refuses the user {:?}: {}; give another user or password",
                self.user,
                essence(said)
            ),
            Some(code) => format!("ClickHouse says: {} (code {code})", essence(said)),
            None => format!("{url} answers with HTTP status {status}: {}", essence(said)),
        };
        ServerError {
            code,
            remedy,
            message,
        }
    }
}

/// Why a query has no result.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(super) struct ServerError {
    code: Option<u32>,
    remedy: Remedy,
    message: String,
}

impl ServerError {
    /// The server's code for what is wrong, if it answered.
    pub(super) fn code(&self) -> Option<u32> {
        self.code
    }

    /// Whether the user may not do or see it.
    pub(super) fn is_denied(&self) -> bool {
        self.code == Some(ACCESS_DENIED)
    }

    /// Whether the table or its database is not there.
    pub(super) fn is_missing_table(&self) -> bool {
        matches!(self.code, Some(UNKNOWN_TABLE | UNKNOWN_DATABASE))
    }

    /// Whether it is what the keeper of replicas says, or that it says nothing.
    pub(super) fn is_of_keeper(&self) -> bool {
        self.code == Some(KEEPER_EXCEPTION)
    }

    /// Whether the keeper does not have what was asked for.
    pub(super) fn is_missing_node(&self) -> bool {
        self.is_of_keeper() && self.message.contains("No node")
    }

    /// Whether the user may not change settings, or one of them.
    pub(super) fn is_of_a_setting(&self) -> bool {
        matches!(
            self.code,
            Some(READONLY | SETTING_CONSTRAINT | ACCESS_DENIED)
        )
    }

    /// Whether a listing failed over a table that was dropped meanwhile: the server looked for the table, or
    /// for the file that describes it.
    fn is_of_a_table_that_went(&self) -> bool {
        let table = self.is_missing_table() && !self.message.contains("system.");
        table || (self.code == Some(MISSING_FILE) && self.message.contains(".sql,"))
    }

    /// As an error of the engine that says what was being done: `freeze d.t`.
    pub(super) fn during(self, what: impl fmt::Display) -> EngineError {
        EngineError::new(self.remedy, format!("cannot {what}: {}", self.message))
    }
}

impl From<ServerError> for EngineError {
    fn from(error: ServerError) -> Self {
        Self::new(error.remedy, error.message)
    }
}

/// What to do about an error, by the server's code for it.
fn remedy_of(code: u32) -> Remedy {
    match code {
        // It is overloaded, shutting down, out of reach of its keeper, has no replica at work (yet), or was interrupted.
        159 | 202 | 203 | 209 | 210 | 225 | 236 | 241 | 242 | 252 | 254 | 319 | 394 | 473 | 999 => {
            Remedy::Retry
        }
        // Files are damaged, missing or unreadable, or the disk is full.
        23 | 32 | 33 | 40 | 74..=76 | 79 | 107 | 226 | 228 | 243 | 246 | 271 => Remedy::Repair,
        _ => Remedy::Request,
    }
}

/// The code in an answer of a server that sends no header for it: `Code: 60, e.displayText() = …`.
fn code_in(said: &str) -> Option<u32> {
    let digits = said.split_once("Code: ")?.1;
    let end = digits.find(|c: char| !c.is_ascii_digit());
    digits[..end.unwrap_or(digits.len())].parse().ok()
}

/// What the server said, without its code, version and stack trace.
fn essence(said: &str) -> String {
    #[derive(Deserialize)]
    struct Reply {
        exception: String,
    }
    // Some versions put it into the format of the result.
    let reply: Option<Reply> = serde_json::from_str(said).ok();
    let said = reply.as_ref().map_or(said, |reply| &reply.exception);
    let said = said.split("Stack trace").next().unwrap_or(said).trim();
    let said = said.split(", e.what() = ").next().unwrap_or(said);
    let said = said.split(" (version ").next().unwrap_or(said);
    let said = match said.split_once("DB::Exception: ") {
        Some((before, after)) if before.contains("Code: ") => after,
        _ => said,
    };
    match said.char_indices().nth(MESSAGE_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &said[..end]),
        None => said.to_owned(),
    }
}

/// A string in SQL.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// Reads an integer that the server prints as a number or, of 64 bits, as text.
pub(super) fn integer<'de, D, T>(deserializer: D) -> std::result::Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr + Deserialize<'de>,
{
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Printed<T> {
        Number(T),
        Text(String),
    }
    match Printed::deserialize(deserializer)? {
        Printed::Number(number) => Ok(number),
        Printed::Text(text) => text
            .parse()
            .map_err(|_| D::Error::custom(format!("{text:?} is no integer"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_servers_of_either_age_say_is_told_in_one_line() {
        let old = "Code: 60, e.displayText() = DB::Exception: Table d.t doesn't exist., e.what() = DB::Exception\n";
        let new = "Code: 60. DB::Exception: Unknown table expression identifier 'd.t'. (UNKNOWN_TABLE) (version 26.9.2.1)\n";
        assert_eq!(code_in(old), Some(60));
        assert_eq!(essence(old), "Table d.t doesn't exist.");
        assert_eq!(code_in(new), Some(60));
        assert_eq!(
            essence(new),
            "Unknown table expression identifier 'd.t'. (UNKNOWN_TABLE)"
        );
        let json = r#"{"exception": "Code: 60. DB::Exception: No table. (UNKNOWN_TABLE)"}"#;
        assert_eq!(essence(json), "No table. (UNKNOWN_TABLE)");
        assert_eq!(code_in("502 Bad Gateway"), None);
    }

    #[test]
    fn integers_are_read_as_numbers_and_as_text() {
        #[derive(Deserialize)]
        struct Row {
            #[serde(deserialize_with = "integer")]
            rows: u64,
        }
        for text in [
            r#"{"rows":18446744073709551615}"#,
            r#"{"rows":"18446744073709551615"}"#,
        ] {
            let row: Row = serde_json::from_str(text).unwrap();
            assert_eq!(row.rows, u64::MAX);
        }
        assert!(serde_json::from_str::<Row>(r#"{"rows":"many"}"#).is_err());
    }

    #[test]
    fn an_address_that_is_none_is_refused_with_an_example() {
        for url in ["localhost:8123", "tcp://localhost:9000", ""] {
            let Err(error) = Client::new(url, "default", "") else {
                panic!("{url} is taken");
            };
            assert!(error.to_string().contains("http://localhost:8123"));
        }
        let Err(error) = Client::new("http://u:secret@localhost", "u", "") else {
            panic!("a password in an address is taken");
        };
        assert!(!error.to_string().contains("secret"));
    }

    #[test]
    fn literals_keep_quotes_and_backslashes() {
        assert_eq!(literal(r"it's \ here"), r"'it\'s \\ here'");
    }
}
