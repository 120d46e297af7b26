//! Records of raw fields.

use std::collections::HashSet;
use std::io::{BufRead, ErrorKind};

use memchr::{memchr, memchr2};
use mendb_model::Column;

use super::dialect::Dialect;
use super::header::{FieldCount, Header};
use crate::formats::{Place, ReadError};

/// The most bytes of one record: a quote that is never closed, or a file of one endless line, ends
/// here and not with the memory.
const MAX_RECORD_BYTES: usize = 64 << 20;

/// Reads records of raw fields.
pub struct CsvReader<R> {
    reader: R,
    dialect: Dialect,
    /// The line that is read next, from 1.
    next_line: u64,
    /// The line the current record began in.
    line: u64,
    /// The lines of the current record.
    raw: Vec<u8>,
    /// The fields that have doubled quotes, without them.
    unescaped: Vec<u8>,
    fields: Vec<FieldPlace>,
    /// Whether the current record is the one that is next.
    is_ahead: bool,
}

/// Where a field is.
#[derive(Debug, Clone, Copy)]
struct FieldPlace {
    start: usize,
    end: usize,
    quoted: bool,
    /// Whether it is in the unescaped text and not in the lines.
    unescaped: bool,
}

/// A field as it stands in the file, without its quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// Its bytes.
    pub text: &'a str,
    /// Whether it was quoted.
    pub quoted: bool,
}

impl<R: BufRead> CsvReader<R> {
    /// Begins to read.
    pub fn new(reader: R, dialect: Dialect) -> Self {
        Self {
            reader,
            dialect,
            next_line: 1,
            line: 1,
            raw: Vec::new(),
            unescaped: Vec::new(),
            fields: Vec::new(),
            is_ahead: false,
        }
    }

    /// The names of the fields of a table of these columns, and what says how many there are.
    ///
    /// # Errors
    /// The header is missing or names a field twice; the file has no record to count the fields of.
    pub fn names(
        &mut self,
        header: &Header,
        columns: &[Column],
    ) -> Result<(Vec<String>, FieldCount), ReadError> {
        Ok(match header {
            Header::Present => {
                let names = self.header()?;
                let count = FieldCount::Header(names.len());
                (names, count)
            }
            Header::Absent => {
                let names = columns.iter().map(|column| column.name.clone());
                (names.collect(), FieldCount::Table(columns.len()))
            }
            Header::Numbered => {
                self.is_ahead = self.advance()?;
                if !self.is_ahead {
                    let detail = "there is no line to count fields in";
                    return Err(ReadError::malformed(self.place(), detail));
                }
                let names = (0..self.len()).map(Header::number);
                (names.collect(), FieldCount::First(self.len()))
            }
            Header::Said(names) => (names.clone(), FieldCount::Said(names.len())),
        })
    }

    fn header(&mut self) -> Result<Vec<String>, ReadError> {
        let place = Place::Line(1);
        if !self.advance()? {
            return Err(ReadError::malformed(place, "the header line is missing"));
        }
        let mut names: Vec<String> = Vec::with_capacity(self.len());
        let mut seen = HashSet::new();
        for at in 0..self.len() {
            let name = match self.field(at)?.text.trim() {
                "" => Header::number(at),
                name => name.to_owned(),
            };
            if !seen.insert(name.clone()) {
                let detail = format!("the header names {name:?} twice");
                return Err(ReadError::malformed(place, detail));
            }
            names.push(name);
        }
        Ok(names)
    }

    /// Reads the next record; `false` at the end of the file.
    ///
    /// # Errors
    /// A quoted field is not closed, or has text after its closing quote.
    fn advance(&mut self) -> Result<bool, ReadError> {
        let is_there = self.begin_record()?;
        if is_there {
            self.split()?;
        }
        Ok(is_there)
    }

    /// Reads the first line of the next record; `false` at the end of the file.
    fn begin_record(&mut self) -> Result<bool, ReadError> {
        self.raw.clear();
        self.unescaped.clear();
        self.fields.clear();
        self.line = self.next_line;
        self.read_line()
    }

    /// Finds the fields of the record, and reads the lines that it goes on in.
    fn split(&mut self) -> Result<(), ReadError> {
        let mut at = 0;
        loop {
            at = match self.raw.get(at) {
                Some(b'"') => self.quoted(at + 1)?,
                _ => self.unquoted(at),
            };
            match self.raw.get(at) {
                Some(byte) if *byte == self.dialect.delimiter => at += 1,
                _ => return Ok(()),
            }
        }
    }

    /// Goes behind the next record, or an empty line, without a look at its fields; `false` at the end of the
    /// file.
    ///
    /// # Errors
    /// As [`Self::advance`].
    pub fn pass_over(&mut self) -> Result<bool, ReadError> {
        if std::mem::take(&mut self.is_ahead) {
            return Ok(true);
        }
        let is_there = self.begin_record()?;
        // Without quotes it is one line.
        if is_there && memchr(b'"', &self.raw).is_some() {
            self.split()?;
        }
        Ok(is_there)
    }

    /// Goes to the next record, over empty lines unless one is a record of one field; `false` at the
    /// end of the file.
    ///
    /// # Errors
    /// As [`Self::advance`], and the record has another number of fields.
    pub fn next_record(&mut self, expected: FieldCount) -> Result<bool, ReadError> {
        loop {
            if !std::mem::take(&mut self.is_ahead) && !self.advance()? {
                return Ok(false);
            }
            if expected.get() == 1 || !self.is_blank() {
                break;
            }
        }
        let found = self.len();
        if found != expected.get() {
            return Err(ReadError::FieldCount {
                place: self.place(),
                found,
                expected,
            });
        }
        Ok(true)
    }

    /// What is read from.
    pub fn input(&self) -> &R {
        &self.reader
    }

    /// How many fields the current record has.
    fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether the current record is an empty line.
    fn is_blank(&self) -> bool {
        match self.fields.as_slice() {
            [only] => only.start == only.end && !only.quoted,
            _ => false,
        }
    }

    /// The line the current record began in.
    pub fn place(&self) -> Place {
        Place::Line(self.line)
    }

    /// A field of the current record.
    ///
    /// # Errors
    /// It is not UTF-8.
    pub fn field(&self, at: usize) -> Result<Field<'_>, ReadError> {
        let FieldPlace {
            start,
            end,
            quoted,
            unescaped,
        } = self.fields[at];
        let from = match unescaped {
            true => &self.unescaped,
            false => &self.raw,
        };
        let text = std::str::from_utf8(&from[start..end])
            .map_err(|_| ReadError::not_utf8(self.place(), format!("field {} is ", at + 1)))?;
        Ok(Field { text, quoted })
    }

    /// Appends a line to the raw record, and ends it as lines end whether or not it is ended.
    fn read_line(&mut self) -> Result<bool, ReadError> {
        let before = self.raw.len();
        let line_end = self.dialect.line_end;
        let mut read = 0;
        let mut is_whole = false;
        while !is_whole && read <= MAX_RECORD_BYTES {
            let ahead = match self.reader.fill_buf() {
                Ok([]) => break,
                Ok(ahead) => ahead,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            let end = memchr(line_end, ahead);
            is_whole = end.is_some();
            let part = end.map_or(ahead.len(), |end| end + 1);
            self.raw.extend_from_slice(&ahead[..part]);
            self.reader.consume(part);
            read += part;
        }
        if read > MAX_RECORD_BYTES {
            let detail = format!("a line of more than {} MiB", MAX_RECORD_BYTES >> 20);
            return Err(ReadError::malformed(self.place(), detail));
        }
        self.next_line += 1;
        if read > 0 && self.raw.last() != Some(&line_end) {
            self.raw.push(line_end);
        }
        Ok(self.raw.len() > before)
    }

    /// Takes the field at `at` up to a delimiter or the line's end, and returns where that is.
    fn unquoted(&mut self, at: usize) -> usize {
        let Dialect {
            delimiter,
            line_end,
        } = self.dialect;
        let rest = &self.raw[at..];
        let length = memchr2(delimiter, line_end, rest).unwrap_or(rest.len());
        let mut field = &rest[..length];
        if rest.get(length) == Some(&b'\n') {
            field = field.strip_suffix(b"\r").unwrap_or(field);
        }
        self.fields.push(FieldPlace {
            start: at,
            end: at + field.len(),
            quoted: false,
            unescaped: false,
        });
        at + length
    }

    /// Takes the field whose opening quote is before `at`, reading on over line ends, and returns
    /// where the delimiter or line end behind it is.
    fn quoted(&mut self, start: usize) -> Result<usize, ReadError> {
        let unescaped_start = self.unescaped.len();
        // Up to there the field is unescaped, if it has doubled quotes.
        let mut unescaped_to = None;
        let mut at = start;
        loop {
            match memchr(b'"', &self.raw[at..]) {
                Some(length) => {
                    at += length + 1;
                    if self.raw.get(at) == Some(&b'"') {
                        let from = unescaped_to.unwrap_or(start);
                        self.unescaped.extend_from_slice(&self.raw[from..at]);
                        at += 1;
                        unescaped_to = Some(at);
                        continue;
                    }
                    break;
                }
                None => {
                    at = self.raw.len();
                    // The last line of a file was given a line feed; there is nothing behind it.
                    if self.raw.len() > MAX_RECORD_BYTES || !self.read_line()? {
                        let detail = "a quoted field that begins here is not closed";
                        return Err(ReadError::malformed(self.place(), detail));
                    }
                }
            }
        }
        let end = at - 1;
        self.fields.push(match unescaped_to {
            Some(from) => {
                self.unescaped.extend_from_slice(&self.raw[from..end]);
                FieldPlace {
                    start: unescaped_start,
                    end: self.unescaped.len(),
                    quoted: true,
                    unescaped: true,
                }
            }
            None => FieldPlace {
                start,
                end,
                quoted: true,
                unescaped: false,
            },
        });
        let Dialect {
            delimiter,
            line_end,
        } = self.dialect;
        let after = &self.raw[at..];
        let after = match after {
            [b'\r', rest @ ..] if line_end == b'\n' => rest,
            _ => after,
        };
        match after.first() {
            None => Ok(self.raw.len()),
            Some(byte) if *byte == delimiter || *byte == line_end => {
                Ok(self.raw.len() - after.len())
            }
            Some(_) => Err(ReadError::malformed(
                self.place(),
                format!(
                    "field {} goes on after its closing quote",
                    self.fields.len()
                ),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::formats::FileOptions;
    use crate::formats::csv::write_field;
    use mendb_model::{ColumnType, Value};

    type Fields = Vec<(String, bool)>;

    fn read(text: &str) -> Result<Vec<(u64, Fields)>, String> {
        let mut reader = CsvReader::new(text.as_bytes(), Dialect::PLAIN);
        let mut records = Vec::new();
        while reader.advance().map_err(|error| error.to_string())? {
            let fields = (0..reader.len()).map(|at| {
                let field = reader.field(at).unwrap();
                (field.text.to_owned(), field.quoted)
            });
            records.push((reader.line, fields.collect()));
        }
        Ok(records)
    }

    fn plain(fields: &[&str]) -> Fields {
        fields
            .iter()
            .map(|text| ((*text).to_owned(), false))
            .collect()
    }

    #[test]
    fn lines_end_in_lf_or_crlf_and_the_last_need_not() {
        let expected = vec![(1, plain(&["a", "b"])), (2, plain(&["1", ""]))];
        for text in ["a,b\n1,\n", "a,b\r\n1,\r\n", "a,b\n1,", "a,b\r\n1,"] {
            assert_eq!(read(text).unwrap(), expected, "{text:?}");
        }
    }

    #[test]
    fn a_quoted_field_holds_commas_quotes_and_lines() {
        let records = read("\"a,\"\"b\"\"\r\nc\",\"\"\r\nnext,5\" pipe\n").unwrap();
        assert_eq!(
            records[0],
            (
                1,
                vec![("a,\"b\"\r\nc".into(), true), (String::new(), true)]
            )
        );
        assert_eq!(records[1], (3, plain(&["next", "5\" pipe"])));
    }

    #[test]
    fn a_broken_quote_is_named_by_its_line() {
        assert_eq!(
            read("a\nb,\"c\nd\n").unwrap_err(),
            "line 2: a quoted field that begins here is not closed"
        );
        assert_eq!(
            read("a,\"b\"c\n").unwrap_err(),
            "line 1: field 2 goes on after its closing quote"
        );
    }

    #[test]
    fn lines_may_end_with_cr_alone() {
        let dialect = Dialect::guess(b"a,b\r1,2\r", &FileOptions::default(), None);
        let mut reader = CsvReader::new(&b"a, b\r1,\"x\ry\"\r3,4"[..], dialect);
        assert_eq!(reader.header().unwrap(), ["a", "b"]);
        let mut fields = Vec::new();
        while reader.advance().unwrap() {
            fields.push(reader.field(1).unwrap().text.to_owned());
        }
        assert_eq!(fields, ["x\ry", "4"]);
        assert_eq!(reader.place(), Place::Line(5));
    }

    proptest! {
        #[test]
        fn text_comes_back_as_it_was(
            fields in proptest::collection::vec(proptest::option::of("[a-zA,\"\r\n\u{feff} ]{0,5}"), 2..5),
            null in prop_oneof![Just(""), Just("NA"), Just("a")],
        ) {
            let mut line = Vec::new();
            for (at, field) in fields.iter().enumerate() {
                if at > 0 {
                    line.push(b',');
                }
                let value = field.clone().map_or(Value::Null, Value::Text);
                write_field(&mut line, &value, ColumnType::Utf8, null);
            }
            line.push(b'\n');
            let mut reader = CsvReader::new(line.as_slice(), Dialect::PLAIN);
            prop_assert!(reader.advance().unwrap());
            let read: Vec<Option<String>> = (0..reader.len())
                .map(|at| reader.field(at).unwrap())
                .map(|field| (field.quoted || field.text != null).then(|| field.text.to_owned()))
                .collect();
            prop_assert_eq!(read, fields);
            prop_assert!(!reader.advance().unwrap());
        }

        #[test]
        fn a_record_that_is_passed_over_ends_where_it_does_when_it_is_read(
            text in "[ab,\"\r\n]{0,40}",
            passed in proptest::collection::vec(any::<bool>(), 0..40),
        ) {
            let mut reader = CsvReader::new(text.as_bytes(), Dialect::PLAIN);
            let mut passing = CsvReader::new(text.as_bytes(), Dialect::PLAIN);
            for passed in passed {
                let read = reader.advance().map_err(|error| error.to_string());
                let same = match passed {
                    true => passing.pass_over(),
                    false => passing.advance(),
                };
                prop_assert_eq!(same.map_err(|error| error.to_string()), read.clone());
                prop_assert_eq!(passing.place(), reader.place());
                if read != Ok(true) {
                    break;
                }
            }
        }

        #[test]
        fn any_bytes_are_records_or_an_error(bytes: Vec<u8>) {
            let mut reader = CsvReader::new(bytes.as_slice(), Dialect::guess(&bytes, &FileOptions::default(), None));
            while let Ok(true) = reader.advance() {
                for at in 0..reader.len() {
                    let _ = reader.field(at);
                }
            }
        }
    }
}
