//! What must not be shown: passwords, and URLs that have one in them.

use std::fmt;

/// What is shown in the place of a password.
const HIDDEN: &str = "****";

/// A password. It is printed by nothing.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes a password; empty for none.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The password itself, for those who send it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

/// The address of a webhook as it is shown: its path is often what lets in.
pub fn hide_path(address: &str) -> String {
    match url::Url::parse(address) {
        Ok(url) => format!("{}/{HIDDEN}", url.origin().ascii_serialization()),
        Err(_) => String::new(),
    }
}

/// A password as it is shown: that there is one.
pub fn hide(password: &str) -> String {
    if password.is_empty() {
        String::new()
    } else {
        HIDDEN.to_owned()
    }
}

/// A URL with what stands between `user:` and `@` hidden. Text that is no URL is shown as it is.
pub fn hide_in_url(url: &str) -> String {
    let Some(begin) = url.find("://").map(|at| at + 3) else {
        return url.to_owned();
    };
    let end = url[begin..]
        .find(['/', '?', '#'])
        .map_or(url.len(), |length| begin + length);
    // A password that should have been written with %2F or %3F ends later than the authority does.
    let at = match url[begin..end].rfind('@') {
        Some(at) => begin + at,
        None => match url[begin..].rfind('@') {
            Some(at) => begin + at,
            None => return url.to_owned(),
        },
    };
    match url[begin..at].find(':') {
        Some(colon) => format!("{}{HIDDEN}{}", &url[..=begin + colon], &url[at..]),
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_of_a_url_is_hidden() {
        for (url, shown) in [
            ("clickhouse://u:p@h:8123/", "clickhouse://u:****@h:8123/"),
            (
                "clickhouse://u:p@q@h/?secure=1",
                "clickhouse://u:****@h/?secure=1",
            ),
            ("clickhouse://u:a/b@h/", "clickhouse://u:****@h/"),
            ("clickhouse://:p@h", "clickhouse://:****@h"),
            ("clickhouse://u@h:8123/", "clickhouse://u@h:8123/"),
            ("clickhouse://h:8123/", "clickhouse://h:8123/"),
            ("mendb:///data/x", "mendb:///data/x"),
            ("data/x:y@z", "data/x:y@z"),
        ] {
            assert_eq!(hide_in_url(url), shown);
        }
    }

    #[test]
    fn a_secret_is_not_printed() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret:?}"), "****");
        assert_eq!(secret.reveal(), "hunter2");
        assert_eq!((hide("hunter2"), hide("")), ("****".into(), String::new()));
    }
}
