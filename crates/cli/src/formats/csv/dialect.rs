//! How a CSV file is written: guessed from its header, or from its first records where it has none.

use serde::Serialize;

use super::header::Header;
use crate::formats::FileOptions;

/// What may stand between fields, in the order in which a guess prefers them.
const DELIMITERS: [u8; 4] = [b',', b';', b'\t', b'|'];
/// The most records that are looked at.
const MAX_RECORDS: usize = 1000;

/// How many of each delimiter a record has outside of quotes.
type Counts = [usize; DELIMITERS.len()];

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

    /// The dialect of a file that begins with `head`: the first line end outside of quotes, and what
    /// the header has most of, or without a header what makes `fields` of each record, or equally many.
    pub fn guess(head: &[u8], options: &FileOptions, fields: Option<usize>) -> Self {
        let (records, line_end) = first_records(head);
        let guessed = || {
            // Commas are rare between numbers that have them within.
            let mut preferred = [0, 1, 2, 3];
            preferred.rotate_left(usize::from(options.rules.decimal_comma));
            let of_rows = match options.header {
                Header::Present => None,
                _ => between_rows(&records, fields, preferred),
            };
            let of_first = || most(records.first()?, preferred.into_iter());
            DELIMITERS[of_rows.or_else(of_first).unwrap_or(0)]
        };
        Self {
            delimiter: options.delimiter.unwrap_or_else(guessed),
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

/// The delimiters of the first records that are not empty, and the first line end.
fn first_records(head: &[u8]) -> (Vec<Counts>, u8) {
    let mut records = Vec::new();
    let mut line_end = None;
    let mut record = Counts::default();
    let mut is_blank = true;
    let mut quoted = false;
    // Whether a quote here begins a field, or goes on with one as the second of two.
    let mut opens = true;
    for (at, byte) in head.iter().enumerate() {
        if quoted {
            quoted = *byte != b'"';
            opens = true;
            continue;
        }
        let ends = match (byte, line_end) {
            (b'\n' | b'\r', Some(end)) => *byte == end,
            (b'\n', None) => true,
            (b'\r', None) => head.get(at + 1).is_some_and(|next| *next != b'\n'),
            _ => false,
        };
        if ends {
            line_end = Some(*byte);
            if !is_blank {
                records.push(record);
            }
            if records.len() == MAX_RECORDS {
                break;
            }
            (record, is_blank, opens) = (Counts::default(), true, true);
            continue;
        }
        quoted = opens && *byte == b'"';
        let delimiter = DELIMITERS.iter().position(|known| known == byte);
        opens = delimiter.is_some();
        if let Some(which) = delimiter {
            record[which] += 1;
        }
        is_blank &= *byte == b'\r';
    }
    // The last record may be cut off.
    if records.is_empty() {
        records.push(record);
    }
    (records, line_end.unwrap_or(b'\n'))
}

/// The delimiter that cuts each record into `fields`; where none does, or it is not known how many there
/// are, one that cuts all into equally many, and more than one.
fn between_rows(
    records: &[Counts],
    fields: Option<usize>,
    preferred: [usize; DELIMITERS.len()],
) -> Option<usize> {
    let first = records.first()?;
    let all_have = |which: usize, count: usize| records.iter().all(|has| has[which] == count);
    let fitting = fields.and_then(|fields| {
        let between = fields.checked_sub(1)?;
        if between == 0 {
            // Nothing tells one of them; a comma is what we write.
            return Some(0);
        }
        let mut preferred = preferred.into_iter();
        preferred.find(|which| all_have(*which, between))
    });
    let even = preferred.into_iter();
    let even = even.filter(|which| first[*which] > 0 && all_have(*which, first[*which]));
    fitting.or_else(|| most(first, even))
}

/// The delimiter that a record has most of; of several the first.
fn most(record: &Counts, among: impl DoubleEndedIterator<Item = usize>) -> Option<usize> {
    among.rev().max_by_key(|which| record[*which])
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
    use mendb_model::text::TextRules;

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
            let dialect = Dialect::guess(head.as_bytes(), &FileOptions::default(), None);
            assert_eq!(dialect.delimiter, delimiter, "{head:?}");
        }
        let said = FileOptions {
            delimiter: Some(b','),
            ..FileOptions::default()
        };
        assert_eq!(Dialect::guess(b"a;b\n", &said, None).delimiter, b',');
        assert_eq!(parse_delimiter("tab"), Ok(b'\t'));
        assert!(parse_delimiter("::").is_err());
        assert!(parse_delimiter("\"").is_err());
    }

    #[test]
    fn without_a_header_the_rows_tell_what_stands_between_fields() {
        for (head, fields, decimal_comma, delimiter) in [
            ("1;a, b, c\n2;d\n", None, false, b';'),
            ("1;a, b\n2;c, d\n", None, false, b','),
            ("1;a, b\n2;c, d\n", Some(2), false, b','),
            ("1;a, b, c\n2;d, e, f\n", Some(2), false, b';'),
            ("1;3,5\n2;4,5\n", None, true, b';'),
            ("1,3\n2,4\n", None, true, b','),
            ("a;b\nc;d\n", Some(1), false, b','),
            ("a, b\nc, d\n", Some(1), false, b','),
            ("\n1|2\n3|4\n", None, false, b'|'),
            ("\"1;2\"\"\"\t3\n5\" pipe\t\"\n\"", None, false, b'\t'),
            ("1;2\n3;4;5\n", None, false, b';'),
            ("1;2;3", Some(2), false, b';'),
            ("", Some(2), false, b','),
            ("1\n2\n", None, false, b','),
        ] {
            let options = FileOptions {
                header: Header::Absent,
                rules: TextRules {
                    decimal_comma,
                    ..TextRules::EXACT
                },
                ..FileOptions::default()
            };
            let dialect = Dialect::guess(head.as_bytes(), &options, fields);
            assert_eq!(dialect.delimiter, delimiter, "{head:?}");
        }
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
                Dialect::guess(head.as_bytes(), &FileOptions::default(), None).line_end,
                line_end,
                "{head:?}"
            );
        }
    }
}
