//! The JSON objects of a file, one after the other: one a line, over several lines, or the members of
//! one array. One object is held at a time.

use std::io::BufRead;

use super::json::{self, NotAnObject, Token};
use super::{Place, ReadError};

/// The most bytes of one object: one that is never closed ends here and not with the memory.
const MAX_OBJECT_BYTES: usize = 64 << 20;

/// Reads the objects of a file.
pub struct ObjectReader<R> {
    reader: R,
    /// The text of the current object.
    raw: Vec<u8>,
    /// Where it begins, from 1 both.
    line: u64,
    column: usize,
    /// Where the next byte is.
    next_line: u64,
    next_column: usize,
    within: Within,
}

/// What the objects stand in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Within {
    /// Nothing was read yet.
    Unknown,
    /// Nothing but white space between them.
    File,
    /// An array of which nothing was read yet.
    NewArray,
    /// An array of which an object was read.
    Array,
    /// Behind the end of the array.
    AfterArray,
}

impl<R: BufRead> ObjectReader<R> {
    /// Begins to read.
    pub fn new(reader: R) -> Self {
        Self {
            reader,
            raw: Vec::new(),
            line: 1,
            column: 1,
            next_line: 1,
            next_column: 1,
            within: Within::Unknown,
        }
    }

    /// What is read from.
    pub fn input(&self) -> &R {
        &self.reader
    }

    /// The line that the current object begins in.
    pub fn place(&self) -> Place {
        Place::Line(self.line)
    }

    /// Goes to the next object; `false` at the end of the file.
    ///
    /// # Errors
    /// The file cannot be read, or its array is malformed.
    pub fn advance(&mut self) -> Result<bool, ReadError> {
        self.raw.clear();
        let mut next = self.skip_space()?;
        if self.within == Within::Unknown {
            self.within = Within::File;
            if next == Some(b'[') {
                self.take();
                self.within = Within::NewArray;
                next = self.skip_space()?;
            }
        }
        match (self.within, next) {
            (Within::Unknown | Within::File | Within::AfterArray, None) => return Ok(false),
            (Within::NewArray | Within::Array, Some(b']')) => {
                self.take();
                self.within = Within::AfterArray;
                return match self.skip_space()? {
                    None => Ok(false),
                    Some(_) => Err(self.wrong("text after the array")),
                };
            }
            (Within::NewArray | Within::Array, None) => {
                return Err(self.wrong("the array does not end"));
            }
            (Within::Array, Some(b',')) => {
                self.take();
                self.skip_space()?;
            }
            (Within::Array, Some(_)) => return Err(self.wrong("`,` or `]` is missing")),
            (Within::NewArray, Some(_)) => self.within = Within::Array,
            (Within::Unknown | Within::File | Within::AfterArray, Some(_)) => {}
        }
        self.line = self.next_line;
        self.column = self.next_column;
        self.take_object()?;
        Ok(true)
    }

    /// The members of the current object, in their order; an error of `each` is placed in the file.
    ///
    /// # Errors
    /// The text is not UTF-8 or not one JSON object, or the error of `each`.
    pub fn members(
        &self,
        mut each: impl FnMut(&str, Token<'_>) -> Result<(), MemberError>,
    ) -> Result<(), ReadError> {
        let text =
            std::str::from_utf8(&self.raw).map_err(|_| ReadError::not_utf8(self.place(), ""))?;
        json::members(text, |name, token| each(&name, token)).map_err(|error| match error {
            MemberError::NotAnObject(mut error) => {
                if error.line == 0 {
                    error.column += self.column - 1;
                }
                ReadError::malformed(Place::Line(self.line + error.line), error.to_string())
            }
            MemberError::Duplicate(name) => {
                ReadError::malformed(self.place(), format!("{name:?} is given twice"))
            }
            MemberError::Read(error) => error,
        })
    }

    fn wrong(&self, detail: &str) -> ReadError {
        let detail = format!("{detail} at column {}", self.next_column);
        ReadError::malformed(Place::Line(self.next_line), detail)
    }

    /// The next byte that is not white space; it is not taken yet.
    fn skip_space(&mut self) -> Result<Option<u8>, ReadError> {
        loop {
            match self.reader.fill_buf()?.first() {
                Some(b' ' | b'\t' | b'\r' | b'\n') => self.take(),
                other => return Ok(other.copied()),
            }
        }
    }

    /// Takes the byte that was last looked at.
    fn take(&mut self) {
        // It is in the buffer.
        if let Some(byte) = self
            .reader
            .fill_buf()
            .ok()
            .and_then(|bytes| bytes.first().copied())
        {
            self.reader.consume(1);
            self.count(byte);
        }
    }

    fn count(&mut self, byte: u8) {
        if byte == b'\n' {
            self.next_line += 1;
            self.next_column = 1;
        } else if byte & 0xc0 != 0x80 {
            self.next_column += 1;
        }
    }

    /// Takes the text of an object up to where it ends or is seen to be none; [`json::members`] says
    /// what is wrong with it.
    fn take_object(&mut self) -> Result<(), ReadError> {
        let mut scan = Scan::default();
        loop {
            let buffer = self.reader.fill_buf()?;
            if buffer.is_empty() {
                return Ok(());
            }
            let end = buffer.iter().position(|byte| scan.ends_with(*byte));
            let taken = end.map_or(buffer.len(), |at| at + 1);
            self.raw.extend_from_slice(&buffer[..taken]);
            self.reader.consume(taken);
            let from = self.raw.len() - taken;
            for at in from..self.raw.len() {
                self.count(self.raw[at]);
            }
            if end.is_some() {
                return Ok(());
            }
            if self.raw.len() > MAX_OBJECT_BYTES {
                let detail = "an object that begins here does not end";
                return Err(ReadError::malformed(self.place(), detail));
            }
        }
    }
}

/// How far into an object its bytes have led.
#[derive(Debug, Default)]
struct Scan {
    depth: usize,
    in_string: bool,
    escaped: bool,
    /// The last byte that was no white space.
    before: Option<u8>,
}

impl Scan {
    /// Whether the object ends with this byte: it is closed, or it can be none.
    fn ends_with(&mut self, byte: u8) -> bool {
        if self.in_string {
            match byte {
                // No string goes over a line end: what is left open stays in its line.
                b'\n' => return true,
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return false;
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => {
                // An object that was not closed ends where the next begins.
                let is_value = matches!(self.before, None | Some(b':' | b',' | b'['));
                if !is_value {
                    return true;
                }
                self.depth += 1;
            }
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                if self.depth == 0 {
                    return true;
                }
            }
            b'\n' if self.depth == 0 => return true,
            _ => {}
        }
        if !byte.is_ascii_whitespace() {
            self.before = Some(byte);
        }
        false
    }
}

/// Why an object is no record.
pub enum MemberError {
    /// It is not an object.
    NotAnObject(NotAnObject),
    /// It has a member twice.
    Duplicate(String),
    /// An error that has its place, or needs none.
    Read(ReadError),
}

impl From<NotAnObject> for MemberError {
    fn from(error: NotAnObject) -> Self {
        Self::NotAnObject(error)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Vec<(u64, String)>, String> {
        let mut reader = ObjectReader::new(text.as_bytes());
        let mut objects = Vec::new();
        while reader.advance().map_err(|error| error.to_string())? {
            let mut members = Vec::new();
            reader
                .members(|name, token| {
                    members.push(format!("{name}={}", token.written()));
                    Ok(())
                })
                .map_err(|error| error.to_string())?;
            objects.push((reader.line, members.join(" ")));
        }
        Ok(objects)
    }

    #[test]
    fn objects_stand_in_lines_over_lines_and_in_an_array() {
        let expected = |lines: [u64; 2]| {
            Ok(vec![
                (lines[0], "a=1 b={\"c\":[]}".to_owned()),
                (lines[1], "a=\"}\"".to_owned()),
            ])
        };
        let lines = "{\"a\":1,\"b\":{\"c\":[]}}\r\n\n{\"a\":\"}\"}";
        assert_eq!(read(lines), expected([1, 3]));
        let pretty = "\n{\n  \"a\": 1,\n  \"b\": {\"c\":[]}\n}\n{\n  \"a\": \"}\"\n}\n";
        assert_eq!(read(pretty), expected([2, 6]));
        let array = "[\n{\"a\":1, \"b\":{\"c\":[]}},\n{\"a\":\"}\"}\n]\n";
        assert_eq!(read(array), expected([2, 3]));
        assert_eq!(
            read("[{\"a\":1,\"b\":{\"c\":[]}},{\"a\":\"}\"}]"),
            expected([1, 1])
        );
        assert_eq!(read("[]"), Ok(vec![]));
        assert_eq!(read(" \n"), Ok(vec![]));
    }

    #[test]
    fn what_is_wrong_is_placed() {
        for (text, expected) in [
            (
                "\n7",
                "line 2: not a JSON object: `{` is missing at column 1",
            ),
            (
                "{\"a\":1} x\n",
                "line 1: not a JSON object: `{` is missing at column 9",
            ),
            (
                "[{\"a\":1} {\"a\":2}]",
                "line 1: `,` or `]` is missing at column 10",
            ),
            (
                "[{\"a\":1},\n",
                "line 2: not a JSON object: `{` is missing at column 1",
            ),
            ("[{\"a\":1}", "line 1: the array does not end at column 9"),
            ("[{\"a\":1}] {", "line 1: text after the array at column 11"),
            (
                "{\"a\":1\n{\"a\":2}\n",
                "line 2: not a JSON object: `,` or `}` is missing at column 1",
            ),
            (
                "{\"a\":\"x}\n{\"a\":2}\n",
                "line 1: not a JSON object: a string that does not end at column 6",
            ),
            (
                "{\n  \"a\": tru\n}",
                "line 2: not a JSON object: no value at column 8",
            ),
            (
                "{\"a\":{",
                "line 1: not a JSON object: a value that does not end at column 7",
            ),
        ] {
            assert_eq!(read(text).unwrap_err(), expected, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_objects_or_an_error(text in r#"[{}\[\]",:0-9a\\ \n]{0,24}"#) {
            let _ = read(&text);
        }
    }
}
