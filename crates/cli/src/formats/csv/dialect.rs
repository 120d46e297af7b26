//! How a CSV file is written: guessed from its first record.

use serde::Serialize;

/// What may stand between fields, in the order in which a guess prefers them.
const DELIMITERS: [u8; 4] = [b',', b';', b'\t', b'|'];

/// How a CSV file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Dialect {
    /// The byte between two fields.
    #[serde(serialize_with = "as_char")]
    pub delimiter: u8,
    /// The last byte of a line: LF also for CRLF, CR only where no LF follows.
    #[serde(serialize_with = "as_char")]
    pub line_end: u8,
}

fn as_char<S: serde::Serializer>(byte: &u8, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_char(char::from(*byte))
}

impl Dialect {
    /// Commas, and LF or CRLF.
    #[cfg(test)]
    pub const PLAIN: Self = Self {
        delimiter: b',',
        line_end: b'\n',
    };

    /// The dialect of a file that begins with `head`: the delimiter that its header has most of
    /// outside of quotes, and the first line end outside of quotes.
    pub fn guess(head: &[u8], delimiter: Option<u8>) -> Self {
        let mut counts = [0usize; DELIMITERS.len()];
        let mut quoted = false;
        let mut line_end = b'\n';
        for (at, byte) in head.iter().enumerate() {
            match byte {
                b'"' => quoted = !quoted,
                _ if quoted => {}
                b'\n' => break,
                b'\r' => {
                    if head.get(at + 1).is_some_and(|next| *next != b'\n') {
                        line_end = b'\r';
                    }
                    break;
                }
                byte => {
                    if let Some(which) = DELIMITERS.iter().position(|known| known == byte) {
                        counts[which] += 1;
                    }
                }
            }
        }
        let guessed = || {
            let counted = DELIMITERS.iter().zip(counts).rev();
            let most = counted.max_by_key(|(_, count)| *count);
            most.map_or(b',', |(delimiter, _)| *delimiter)
        };
        Self {
            delimiter: delimiter.unwrap_or_else(guessed),
            line_end,
        }
    }

    /// What is unusual about it, as a sentence without its end; `None` of a plain file.
    pub fn said(self) -> Option<String> {
        let between = match self.delimiter {
            b',' => None,
            b'\t' => Some("tabs".to_owned()),
            other => Some(format!("`{}`", char::from(other))),
        };
        let ends = (self.line_end == b'\r').then_some("lines end with CR");
        match (between, ends) {
            (None, None) => None,
            (None, Some(ends)) => Some(ends.to_owned()),
            (Some(between), None) => Some(format!("fields are separated by {between}")),
            (Some(between), Some(ends)) => {
                Some(format!("fields are separated by {between}, {ends}"))
            }
        }
    }
}

/// Reads the delimiter off the command line: one ASCII character, or `tab`.
pub fn parse_delimiter(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        _ if text == "tab" || text == "\\t" => Ok(b'\t'),
        [b'"' | b'\n' | b'\r'] => Err("quotes and line ends cannot stand between fields".into()),
        [byte] if byte.is_ascii() => Ok(*byte),
        _ => Err("one ASCII character, or tab".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_tells_what_stands_between_fields() {
        for (head, delimiter) in [
            ("id,name\n", b','),
            ("id;name\n", b';'),
            ("id;name, first;age\n", b';'),
            ("\"a;b;c\",name\n", b','),
            ("id\tname\n1;2;3\n", b'\t'),
            ("id|name", b'|'),
            ("id\n1;2\n", b','),
            ("a,b;c\n", b','),
            ("", b','),
        ] {
            let dialect = Dialect::guess(head.as_bytes(), None);
            assert_eq!(dialect.delimiter, delimiter, "{head:?}");
        }
        assert_eq!(Dialect::guess(b"a;b\n", Some(b',')).delimiter, b',');
        assert_eq!(parse_delimiter("tab"), Ok(b'\t'));
        assert!(parse_delimiter("::").is_err());
        assert!(parse_delimiter("\"").is_err());
    }

    #[test]
    fn lines_end_with_what_ends_the_first() {
        for (head, line_end) in [
            ("id\r1\r", b'\r'),
            ("id\r\n1\r\n", b'\n'),
            ("id\n1\r2", b'\n'),
            ("\"a\rb\"\nx\n", b'\n'),
            ("id\r", b'\n'),
        ] {
            assert_eq!(
                Dialect::guess(head.as_bytes(), None).line_end,
                line_end,
                "{head:?}"
            );
        }
    }
}
