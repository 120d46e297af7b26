//! Credentials in statements: kept for the server, never shown to people.
//!
//! Newer servers print [`HIDDEN`] in place of a credential, older ones print the credential. What is
//! shown of a statement has [`HIDDEN`] either way; the whole statement is kept beside it as a
//! [`Secret`]. *Bound*: [`hide`] knows the places where servers take credentials. It hides rather too
//! much than too little, since nothing but what is shown depends on it.

use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::statement::{Token, located};

/// What stands in place of a credential, as servers print it.
pub const HIDDEN: &str = "[HIDDEN]";

/// Names of arguments whose value is a credential.
const KEYS: [&str; 16] = [
    "password",
    "secret_access_key",
    "access_key_secret",
    "session_token",
    "secret",
    "token",
    "account_key",
    "connection_string",
    "private_key",
    "api_key",
    "kafka_sasl_password",
    "nats_password",
    "nats_token",
    "rabbitmq_password",
    "bearer_token",
    "encryption_key",
];

/// A text with a credential in it. It is written to documents, and shows nothing of itself otherwise.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Keeps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for the server that it belongs to.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("****")
    }
}

/// A statement as it may be shown, and the whole one beside it if that differs and is known.
pub fn apart(told: &str) -> (String, Option<Secret>) {
    let shown = hide(told);
    let whole = shown.as_ref().filter(|_| !told.contains(HIDDEN));
    let whole = whole.map(|_| Secret::new(told));
    (shown.unwrap_or_else(|| told.to_owned()), whole)
}

/// The statement with its credentials hidden; `None` where there are none to hide.
pub fn hide(sql: &str) -> Option<String> {
    let tokens = located(sql);
    let mut calls = Calls::default();
    let mut hidden = String::with_capacity(sql.len());
    let mut from = 0;
    for (at, (token, range)) in tokens.iter().enumerate() {
        calls.enter(&tokens, at);
        let Token::Text(text) = token else {
            continue;
        };
        let is_secret = calls.is_value_of_key(&tokens, at) || calls.takes_secret(&tokens, at);
        let new = if is_secret {
            Some(HIDDEN.to_owned())
        } else {
            without_password(text)
        };
        if let Some(new) = new.filter(|new| new != text) {
            hidden.push_str(&sql[from..range.start]);
            hidden.push_str(&format!(
                "'{}'",
                new.replace('\\', "\\\\").replace('\'', "\\'")
            ));
            from = range.end;
        }
    }
    hidden.push_str(&sql[from..]);
    (from > 0).then_some(hidden)
}

/// A message in which the server may have repeated some of a statement, without the credentials of it.
pub fn scrub(message: &str, whole: &str) -> String {
    let Some(shown) = hide(whole) else {
        return message.to_owned();
    };
    let texts = |sql: &str| -> Vec<String> {
        let of_token = |(token, _)| match token {
            Token::Text(text) => Some(text),
            _ => None,
        };
        located(sql).into_iter().filter_map(of_token).collect()
    };
    let shown = texts(&shown);
    let mut scrubbed = message.to_owned();
    for secret in texts(whole) {
        if !secret.is_empty() && !shown.contains(&secret) {
            scrubbed = scrubbed.replace(&secret, HIDDEN);
        }
    }
    scrubbed
}

/// `scheme://user:password@host` without the password; `AccountKey=…` without the key.
fn without_password(text: &str) -> Option<String> {
    if let Some((before, after)) = text.split_once("AccountKey=") {
        let rest = after.find(';').map_or("", |end| &after[end..]);
        return Some(format!("{before}AccountKey={HIDDEN}{rest}"));
    }
    let (scheme, rest) = text.split_once("://")?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (user, _) = rest[..end].rsplit_once('@')?;
    let (user_name, password) = user.split_once(':')?;
    if password.is_empty() {
        return None;
    }
    let rest = &rest[user.len()..];
    Some(format!("{scheme}://{user_name}:{HIDDEN}{rest}"))
}

/// A token and its place.
type Located<'a> = (Token<'a>, Range<usize>);

/// The calls of functions and engines that a word is within.
#[derive(Default)]
struct Calls {
    stack: Vec<Call>,
}

struct Call {
    /// In small letters.
    function: String,
    argument: usize,
}

impl Calls {
    fn enter(&mut self, tokens: &[Located<'_>], at: usize) {
        match &tokens[at].0 {
            Token::Sign('(') => {
                let before = at.checked_sub(1).map(|at| &tokens[at].0);
                let function = before.and_then(Token::as_name).unwrap_or_default();
                self.stack.push(Call {
                    function: function.to_ascii_lowercase(),
                    argument: 0,
                });
            }
            Token::Sign(')') => drop(self.stack.pop()),
            Token::Sign(',') => {
                if let Some(call) = self.stack.last_mut() {
                    call.argument += 1;
                }
            }
            _ => {}
        }
    }

    /// `PASSWORD 'x'`, `f(password = 'x')`, and the value of a header, `NAME 'Authorization' VALUE 'x'`.
    fn is_value_of_key(&self, tokens: &[Located<'_>], at: usize) -> bool {
        const NO_FUNCTIONS: [&str; 8] =
            ["", "where", "prewhere", "having", "and", "or", "not", "in"];
        let token = |back: usize| Some(&tokens.get(at.checked_sub(back)?)?.0);
        let is = |back: usize, other: &str| {
            let name = token(back).and_then(Token::as_name);
            name.is_some_and(|name| name.eq_ignore_ascii_case(other))
        };
        let is_key = |back: usize| KEYS.iter().any(|key| is(back, key));
        if token(1) == Some(&Token::Sign('=')) {
            // Elsewhere it is a comparison.
            let function = self.stack.last().map_or("", |call| &call.function);
            let begins = matches!(token(3), Some(Token::Sign('(' | ',')));
            return is_key(2) && begins && !NO_FUNCTIONS.contains(&function);
        }
        is_key(1) || is(1, "value") && is(3, "name")
    }

    /// Whether a text is an argument by which a credential is given.
    fn takes_secret(&self, tokens: &[Located<'_>], at: usize) -> bool {
        let Some(Call { function, argument }) = self.stack.last() else {
            return false;
        };
        let is_last = matches!(tokens.get(at + 1), Some((Token::Sign(')'), _)));
        match function.as_str() {
            "mysql" | "postgresql" | "mongodb" | "materializedmysql" | "materializedpostgresql" => {
                *argument == 4
            }
            "remote" | "remotesecure" => *argument >= 3 && is_last,
            "redis" => *argument == 2,
            "azureblobstorage" | "azureblobstoragecluster" | "azurequeue" => *argument == 4,
            "encrypt" | "decrypt" | "trydecrypt" | "aes_encrypt_mysql" | "aes_decrypt_mysql" => {
                *argument >= 2
            }
            // (url, key, secret, format …): with fewer arguments there are no keys.
            "s3" | "s3queue" | "cosn" | "oss" | "gcs" | "deltalake" | "hudi" | "iceberg"
            | "icebergs3" | "deltalakes3" => *argument == 2 && !is_last,
            "s3cluster" | "deltalakecluster" | "icebergs3cluster" | "hudicluster" => {
                *argument == 3 && !is_last
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_hidden_wherever_servers_take_them() {
        for (whole, shown) in [
            (
                "SOURCE(CLICKHOUSE(USER 'u' PASSWORD 'pw' TABLE 't'))",
                "SOURCE(CLICKHOUSE(USER 'u' PASSWORD '[HIDDEN]' TABLE 't'))",
            ),
            (
                "ENGINE = MySQL('h:1', 'db', 't', 'user', 'it\\'s')",
                "ENGINE = MySQL('h:1', 'db', 't', 'user', '[HIDDEN]')",
            ),
            (
                "ENGINE = S3('http://h/f', 'KEY', 'pw', 'CSV')",
                "ENGINE = S3('http://h/f', 'KEY', '[HIDDEN]', 'CSV')",
            ),
            (
                "ENGINE = S3(conf, secret_access_key = 'pw', format = 'CSV')",
                "ENGINE = S3(conf, secret_access_key = '[HIDDEN]', format = 'CSV')",
            ),
            (
                "ENGINE = URL('https://u:pw@h/x?a=b@c', 'CSV')",
                "ENGINE = URL('https://u:[HIDDEN]@h/x?a=b@c', 'CSV')",
            ),
            (
                "SOURCE(HTTP(HEADERS(HEADER(NAME 'Authorization' VALUE 'pw'))))",
                "SOURCE(HTTP(HEADERS(HEADER(NAME 'Authorization' VALUE '[HIDDEN]'))))",
            ),
            (
                "AS SELECT encrypt('aes-256-gcm', a, 'pw') FROM remote('h', d.t, 'u', 'pw')",
                "AS SELECT encrypt('aes-256-gcm', a, '[HIDDEN]') FROM remote('h', d.t, 'u', '[HIDDEN]')",
            ),
            (
                "AzureBlobStorage('AccountName=a;AccountKey=pw;X=y', 'c', 'p')",
                "AzureBlobStorage('AccountName=a;AccountKey=[HIDDEN];X=y', 'c', 'p')",
            ),
        ] {
            assert_eq!(hide(whole).as_deref(), Some(shown));
            let (told, secret) = apart(whole);
            assert_eq!(told, shown);
            assert_eq!(secret.unwrap().reveal(), whole);
            // What is hidden stays so, and is not taken for a credential.
            assert_eq!(apart(shown), (shown.to_owned(), None));
        }
    }

    #[test]
    fn statements_without_credentials_are_shown_as_they_are() {
        for sql in [
            "CREATE TABLE d.t (`password` String COMMENT 'x', s String DEFAULT 'http://h/a@b')",
            "ENGINE = S3('http://h/f', 'CSV', 'a UInt8')",
            "ENGINE = Distributed('c', 'd', 't', rand())",
            "AS SELECT 1 FROM d.t WHERE token = 'a' AND (secret = 'b')",
            "",
        ] {
            assert_eq!(hide(sql), None, "{sql}");
        }
    }

    #[test]
    fn a_secret_shows_nothing_of_itself() {
        assert_eq!(format!("{:?}", Secret::new("pw")), "****");
        let whole = "ENGINE = MySQL('h:1', 'db', 't', 'user', 'pass word')";
        let said = "Syntax error near 'pass word' of user";
        assert_eq!(scrub(said, whole), "Syntax error near '[HIDDEN]' of user");
    }
}
