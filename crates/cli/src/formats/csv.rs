//! CSV: a header line, then one record a line; fields may be quoted and then hold commas, quotes
//! (doubled) and line ends. Read with LF or CRLF ends and with or without a byte order mark; written
//! with LF.
//!
//! Quotes carry meaning: an empty field is NULL, `""` is empty text. Where `--null NA` names another
//! marker, `NA` is NULL, `"NA"` is text and an empty field is empty text. In a column that is not
//! text the marker and an empty field are NULL with or without quotes.

use std::io::{self, BufRead};

use mendb_model::{ColumnType, Value, text};

use super::{Place, ReadError, Reading, Record, RecordSource};

/// The most bytes of one record: a quote that is never closed ends here and not with the memory.
const MAX_RECORD_BYTES: usize = 64 << 20;

/// Reads records of raw fields.
pub struct CsvReader<R> {
    reader: R,
    /// The line that is read next, from 1.
    next_line: u64,
    /// The line the current record began in.
    line: u64,
    bytes_done: u64,
    raw: Vec<u8>,
    data: Vec<u8>,
    fields: Vec<FieldEnd>,
}

#[derive(Debug, Clone, Copy)]
struct FieldEnd {
    end: usize,
    quoted: bool,
}

/// A field as it stands in the file, without its quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// Its bytes.
    pub text: &'a str,
    /// Whether it was quoted.
    pub quoted: bool,
}

impl Field<'_> {
    /// Whether the field is NULL in a column that is text or is not.
    pub fn is_null(&self, null: &str, is_text: bool) -> bool {
        if is_text {
            !self.quoted && self.text == null
        } else {
            self.text == null || self.text.is_empty()
        }
    }
}

impl<R: BufRead> CsvReader<R> {
    /// Begins to read.
    pub fn new(reader: R) -> Self {
        Self {
            reader,
            next_line: 1,
            line: 1,
            bytes_done: 0,
            raw: Vec::new(),
            data: Vec::new(),
            fields: Vec::new(),
        }
    }

    /// Reads the header: the names of the fields.
    ///
    /// # Errors
    /// There is none, or it names a field twice.
    pub fn header(&mut self) -> Result<Vec<String>, ReadError> {
        let place = Place::Line(1);
        if !self.advance()? {
            return Err(ReadError::malformed(place, "the header line is missing"));
        }
        let mut names: Vec<String> = Vec::with_capacity(self.len());
        for at in 0..self.len() {
            let name = self.field(at)?.text;
            let name = if at == 0 {
                name.trim_start_matches('\u{feff}')
            } else {
                name
            };
            if names.iter().any(|other| other == name) {
                let detail = format!("the header names {name:?} twice");
                return Err(ReadError::malformed(place, detail));
            }
            names.push(name.to_owned());
        }
        Ok(names)
    }

    /// Reads the next record; `false` at the end of the file.
    ///
    /// # Errors
    /// A quoted field is not closed, or has text after its closing quote.
    pub fn advance(&mut self) -> Result<bool, ReadError> {
        self.raw.clear();
        self.data.clear();
        self.fields.clear();
        self.line = self.next_line;
        if !self.read_line()? {
            return Ok(false);
        }
        let mut at = 0;
        loop {
            at = match self.raw.get(at) {
                Some(b'"') => self.quoted(at + 1)?,
                _ => self.unquoted(at),
            };
            match self.raw.get(at) {
                Some(b',') => at += 1,
                _ => return Ok(true),
            }
        }
    }

    /// How many fields the current record has.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether the current record is an empty line.
    pub fn is_blank(&self) -> bool {
        self.fields.len() == 1 && self.data.is_empty() && !self.fields[0].quoted
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
        let start = at
            .checked_sub(1)
            .map_or(0, |before| self.fields[before].end);
        let FieldEnd { end, quoted } = self.fields[at];
        let text = std::str::from_utf8(&self.data[start..end]).map_err(|_| {
            ReadError::malformed(self.place(), format!("field {} is not UTF-8", at + 1))
        })?;
        Ok(Field { text, quoted })
    }

    /// Appends a line to the raw record, and makes its end a line feed whether or not it has one.
    fn read_line(&mut self) -> io::Result<bool> {
        let before = self.raw.len();
        let read = self.reader.read_until(b'\n', &mut self.raw)?;
        self.bytes_done += read as u64;
        self.next_line += 1;
        if read > 0 && self.raw.last() != Some(&b'\n') {
            self.raw.push(b'\n');
        }
        Ok(self.raw.len() > before)
    }

    /// Takes the field at `at` up to a comma or the line's end, and returns where that is.
    fn unquoted(&mut self, at: usize) -> usize {
        let rest = &self.raw[at..];
        let length = rest
            .iter()
            .position(|byte| matches!(byte, b',' | b'\n'))
            .unwrap_or(rest.len());
        let mut field = &rest[..length];
        if rest.get(length) == Some(&b'\n') {
            field = field.strip_suffix(b"\r").unwrap_or(field);
        }
        self.data.extend_from_slice(field);
        self.fields.push(FieldEnd {
            end: self.data.len(),
            quoted: false,
        });
        at + length
    }

    /// Takes the field whose opening quote is before `at`, reading on over line ends, and returns
    /// where the comma or line end behind it is.
    fn quoted(&mut self, mut at: usize) -> Result<usize, ReadError> {
        loop {
            match self.raw[at..].iter().position(|byte| *byte == b'"') {
                Some(length) => {
                    self.data.extend_from_slice(&self.raw[at..at + length]);
                    at += length + 1;
                    if self.raw.get(at) == Some(&b'"') {
                        self.data.push(b'"');
                        at += 1;
                        continue;
                    }
                    break;
                }
                None => {
                    self.data.extend_from_slice(&self.raw[at..]);
                    at = self.raw.len();
                    // The last line of a file was given a line feed; there is nothing behind it.
                    if self.raw.len() > MAX_RECORD_BYTES || !self.read_line()? {
                        let detail = "a quoted field that begins here is not closed";
                        return Err(ReadError::malformed(self.place(), detail));
                    }
                }
            }
        }
        self.fields.push(FieldEnd {
            end: self.data.len(),
            quoted: true,
        });
        let after = &self.raw[at..];
        let after = after.strip_prefix(b"\r").unwrap_or(after);
        match after.first() {
            Some(b',' | b'\n') | None => Ok(self.raw.len() - after.len()),
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

/// The records of a CSV file as values of a table.
pub struct CsvSource<R> {
    reader: CsvReader<R>,
    /// For each field of the file its column; `None` when it is passed over.
    columns: Vec<Option<Bound>>,
    null: String,
}

struct Bound {
    position: usize,
    name: String,
    column_type: ColumnType,
}

impl<R: BufRead> CsvSource<R> {
    /// Reads the header and finds each field's column.
    ///
    /// # Errors
    /// As [`CsvReader::header`], and a field that is no column of the table.
    pub fn new(reader: R, reading: &Reading<'_>) -> Result<Self, ReadError> {
        let mut reader = CsvReader::new(reader);
        let bind = |field: String| -> Result<Option<Bound>, ReadError> {
            let position = reading.column(&field)?;
            Ok(position.map(|position| Bound {
                position,
                column_type: reading.schema.columns[position].column_type,
                name: field,
            }))
        };
        let columns = reader.header()?.into_iter().map(bind);
        Ok(Self {
            columns: columns.collect::<Result<_, _>>()?,
            reader,
            null: reading.null.to_owned(),
        })
    }
}

impl<R: BufRead + Send> RecordSource for CsvSource<R> {
    fn next(&mut self) -> Result<Option<Record>, ReadError> {
        let reader = &mut self.reader;
        loop {
            if !reader.advance()? {
                return Ok(None);
            }
            // In a file of one field an empty line is a record.
            if self.columns.len() == 1 || !reader.is_blank() {
                break;
            }
        }
        if reader.len() != self.columns.len() {
            let (found, wanted) = (reader.len(), self.columns.len());
            let unit = if found == 1 { "field" } else { "fields" };
            let detail = format!("{found} {unit}, the header has {wanted}");
            return Err(ReadError::malformed(reader.place(), detail));
        }
        let mut values = Vec::with_capacity(self.columns.len());
        for (at, bound) in self.columns.iter().enumerate() {
            let Some(bound) = bound else { continue };
            let field = reader.field(at)?;
            let column_type = bound.column_type;
            let value = if field.is_null(&self.null, is_text(column_type)) {
                Value::Null
            } else {
                text::parse(field.text, column_type).map_err(|_| {
                    ReadError::value(reader.place(), &bound.name, field.text, column_type)
                })?
            };
            values.push((bound.position, value));
        }
        Ok(Some(Record {
            place: reader.place(),
            values,
        }))
    }

    fn bytes_done(&self) -> u64 {
        self.reader.bytes_done
    }
}

/// Whether empty text is a value of the type.
pub fn is_text(column_type: ColumnType) -> bool {
    matches!(
        column_type,
        ColumnType::Utf8 | ColumnType::Json | ColumnType::String
    )
}

/// Appends a field; NULL is the marker, and text that could be taken for something else is quoted.
pub fn write_field(out: &mut Vec<u8>, value: &Value, column_type: ColumnType, null: &str) {
    let Some(text) = text::format(value.as_ref(), column_type) else {
        return out.extend_from_slice(null.as_bytes());
    };
    let special = |byte: u8| matches!(byte, b',' | b'"' | b'\n' | b'\r');
    // A byte order mark at the start of a file would be taken off.
    if text == null || text.is_empty() || text.bytes().any(special) || text.starts_with('\u{feff}')
    {
        out.push(b'"');
        for byte in text.bytes() {
            if byte == b'"' {
                out.push(b'"');
            }
            out.push(byte);
        }
        out.push(b'"');
    } else {
        out.extend_from_slice(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Fields = Vec<(String, bool)>;

    fn read(text: &str) -> Result<Vec<(u64, Fields)>, String> {
        let mut reader = CsvReader::new(text.as_bytes());
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
    fn the_null_marker_is_text_when_quoted() {
        let field = |text, quoted| Field { text, quoted };
        assert!(field("", false).is_null("", true));
        assert!(!field("", true).is_null("", true));
        assert!(field("", true).is_null("", false));
        assert!(field("NA", false).is_null("NA", true));
        assert!(!field("NA", true).is_null("NA", true));
        assert!(!field("", false).is_null("NA", true));
        assert!(field("", false).is_null("NA", false));
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
            let mut reader = CsvReader::new(line.as_slice());
            prop_assert!(reader.advance().unwrap());
            let read: Vec<Option<String>> = (0..reader.len())
                .map(|at| reader.field(at).unwrap())
                .map(|field| (!field.is_null(null, true)).then(|| field.text.to_owned()))
                .collect();
            prop_assert_eq!(read, fields);
            prop_assert!(!reader.advance().unwrap());
        }

        #[test]
        fn any_bytes_are_records_or_an_error(bytes: Vec<u8>) {
            let mut reader = CsvReader::new(bytes.as_slice());
            while let Ok(true) = reader.advance() {
                for at in 0..reader.len() {
                    let _ = reader.field(at);
                }
            }
        }
    }
}
