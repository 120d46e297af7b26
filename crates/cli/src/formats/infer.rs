//! The columns of a file that has no schema: the narrowest types that every one of its values fits.
//!
//! | values | type |
//! |---|---|
//! | `true`, `false` in any case | Bool |
//! | whole numbers without leading zeros or `+` | Int64 |
//! | the same and fractions, exponents, `NaN`, `inf` | Double |
//! | `2013-01-31` | Date |
//! | `2013-01-31T05:00:00Z`, also with a space or an offset | Datetime |
//! | the same with up to six digits of a second's fraction | Timestamp |
//! | JSON objects and arrays | Json |
//! | anything else, mixtures, nothing at all | Utf8 |
//!
//! Nothing is lost: what a type could not give back, such as `007` or a whole number that a Double
//! would round, makes a column Utf8.

use std::collections::HashMap;
use std::io::BufRead;

use mendb_model::{Column, ColumnType, text};

use super::ReadError;
use super::csv::CsvReader;
use super::json::{Token, is_number};
use super::jsonl::LineReader;

/// The largest whole number up to which a Double holds all of them.
const MAX_EXACT_DOUBLE: u64 = 1 << 53;

/// The types a column can still be, as a set of bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Types(u8);

impl Types {
    const NONE: Self = Self(0);
    const BOOL: Self = Self(1);
    const INT: Self = Self(1 << 1);
    const DOUBLE: Self = Self(1 << 2);
    const DATE: Self = Self(1 << 3);
    const DATETIME: Self = Self(1 << 4);
    const TIMESTAMP: Self = Self(1 << 5);
    const NUMBERS: Self = Self(Self::INT.0 | Self::DOUBLE.0);
    const TIMES: Self = Self(Self::DATETIME.0 | Self::TIMESTAMP.0);
    const CALENDAR: Self = Self(Self::DATE.0 | Self::TIMES.0);
    const ALL: Self = Self(Self::BOOL.0 | Self::NUMBERS.0 | Self::CALENDAR.0);

    fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// What is known of a column from the values seen so far.
#[derive(Debug, Clone, Copy)]
struct Guess {
    possible: Types,
    seen: bool,
    nested: bool,
}

impl Guess {
    const NEW: Self = Self {
        possible: Types::ALL,
        seen: false,
        nested: false,
    };

    fn narrow(&mut self, fits: Types) {
        self.seen = true;
        self.possible = self.possible.and(fits);
    }

    fn observe(&mut self, token: &Token<'_>) {
        match token {
            Token::Null => {}
            Token::Bool(_) => self.narrow(Types::BOOL),
            Token::Number(number) => self.narrow(number_types(number)),
            Token::Text(text) => self.observe_text(text, Types::CALENDAR),
            Token::Nested(_) => {
                self.seen = true;
                self.nested = true;
            }
        }
    }

    /// Narrows by text, among the types of `among`.
    fn observe_text(&mut self, text: &str, among: Types) {
        let candidates = self.possible.and(among);
        self.narrow(if candidates == Types::NONE {
            Types::NONE
        } else {
            text_types(text, candidates)
        });
    }

    fn column_type(self) -> ColumnType {
        if self.nested {
            return ColumnType::Json;
        }
        if !self.seen {
            return ColumnType::Utf8;
        }
        let narrowest_first = [
            (Types::BOOL, ColumnType::Bool),
            (Types::INT, ColumnType::Int64),
            (Types::DOUBLE, ColumnType::Double),
            (Types::DATE, ColumnType::Date),
            (Types::DATETIME, ColumnType::Datetime),
            (Types::TIMESTAMP, ColumnType::Timestamp),
        ];
        narrowest_first
            .iter()
            .find(|(types, _)| self.possible.has(*types))
            .map_or(ColumnType::Utf8, |(_, column_type)| *column_type)
    }
}

/// Which of `candidates` the text fits.
fn text_types(text: &str, candidates: Types) -> Types {
    if candidates.has(Types::NUMBERS) {
        if matches!(text, "NaN" | "inf" | "-inf") {
            return Types::DOUBLE;
        }
        if is_number(text) {
            return number_types(text);
        }
    }
    if candidates.has(Types::BOOL)
        && (text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false"))
    {
        return Types::BOOL;
    }
    if candidates.has(Types::CALENDAR) {
        return calendar_types(text);
    }
    Types::NONE
}

/// Which types a number of JSON's grammar fits.
fn number_types(number: &str) -> Types {
    let is_whole = number
        .bytes()
        .all(|byte| byte == b'-' || byte.is_ascii_digit());
    if !is_whole {
        // Beyond the range of a Double it would read as infinite.
        let finite = number.parse::<f64>().is_ok_and(f64::is_finite);
        return if finite { Types::DOUBLE } else { Types::NONE };
    }
    match number.parse::<i64>() {
        Ok(_) if number == "-0" => Types::DOUBLE,
        Ok(int) if int.unsigned_abs() <= MAX_EXACT_DOUBLE => Types::NUMBERS,
        Ok(_) => Types::INT,
        Err(_) => Types::NONE,
    }
}

fn calendar_types(text: &str) -> Types {
    let bytes = text.as_bytes();
    let shaped = |pattern: &str, bytes: &[u8]| {
        bytes.len() == pattern.len()
            && bytes.iter().zip(pattern.bytes()).all(|(byte, p)| {
                if p == b'0' {
                    byte.is_ascii_digit()
                } else {
                    *byte == p
                }
            })
    };
    let Some((date, rest)) = bytes.split_at_checked(10) else {
        return Types::NONE;
    };
    if !shaped("0000-00-00", date) {
        return Types::NONE;
    }
    let fits = |column_type| text::parse(text, column_type).is_ok();
    if rest.is_empty() {
        return if fits(ColumnType::Date) {
            Types::DATE
        } else {
            Types::NONE
        };
    }
    let Some((time, fraction)) = rest.split_at_checked(9) else {
        return Types::NONE;
    };
    let separated = matches!(time[0], b'T' | b't' | b' ');
    if !separated || !shaped("00:00:00", &time[1..]) || !fits(ColumnType::Timestamp) {
        return Types::NONE;
    }
    let digits = match fraction.strip_prefix(b".") {
        Some(digits) => digits.iter().take_while(|b| b.is_ascii_digit()).count(),
        None => 0,
    };
    match digits {
        0 => Types::TIMES,
        1..=6 => Types::TIMESTAMP,
        _ => Types::NONE,
    }
}

/// Guesses by column, in the order the columns were first seen.
#[derive(Default)]
struct Guesses {
    names: Vec<String>,
    guesses: Vec<Guess>,
    positions: HashMap<String, usize>,
}

impl Guesses {
    fn at(&mut self, name: &str) -> &mut Guess {
        let position = match self.positions.get(name) {
            Some(position) => *position,
            None => {
                self.positions.insert(name.to_owned(), self.names.len());
                self.names.push(name.to_owned());
                self.guesses.push(Guess::NEW);
                self.guesses.len() - 1
            }
        };
        &mut self.guesses[position]
    }

    fn columns(self) -> Vec<Column> {
        let named = self.names.into_iter().zip(self.guesses);
        named
            .map(|(name, guess)| Column {
                name,
                column_type: guess.column_type(),
                not_null: false,
            })
            .collect()
    }
}

/// The columns of a CSV file, from all of its rows.
///
/// # Errors
/// The file is malformed.
pub fn csv(reader: impl BufRead, null: &str) -> Result<Vec<Column>, ReadError> {
    let mut reader = CsvReader::new(reader);
    let mut guesses = Guesses::default();
    for name in reader.header()? {
        guesses.at(&name);
    }
    while reader.advance()? {
        for (at, guess) in guesses.guesses.iter_mut().enumerate().take(reader.len()) {
            if guess.seen && guess.possible == Types::NONE {
                continue;
            }
            let field = reader.field(at)?;
            if !field.is_null(null, false) {
                guess.observe_text(field.text, Types::ALL);
            }
        }
    }
    Ok(guesses.columns())
}

/// The columns of a JSON lines file, from all of its rows.
///
/// # Errors
/// The file is malformed.
pub fn jsonl(reader: impl BufRead) -> Result<Vec<Column>, ReadError> {
    let mut lines = LineReader::new(reader);
    let mut guesses = Guesses::default();
    while lines.advance()? {
        lines.members(|name, token| {
            guesses.at(name).observe(&token);
            Ok(())
        })?;
    }
    Ok(guesses.columns())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn csv_type(values: &[&str]) -> ColumnType {
        let file = format!("id,a\n1,{}\n", values.join("\n1,"));
        csv(file.as_bytes(), "").unwrap()[1].column_type
    }

    fn json_type(values: &[&str]) -> ColumnType {
        let file = format!("{{\"a\":{}}}\n", values.join("}\n{\"a\":"));
        jsonl(file.as_bytes()).unwrap()[0].column_type
    }

    #[test]
    fn the_narrowest_type_of_all_rows_is_taken() {
        use ColumnType as T;
        for (values, expected) in [
            (&["1", "-20", ""][..], T::Int64),
            (&["1", "2.5"], T::Double),
            (&["1", "NaN"], T::Double),
            (&["1e3"], T::Double),
            (&["true", "FALSE"], T::Bool),
            (&["true", "1"], T::Utf8),
            (&["2013-01-31", ""], T::Date),
            (&["2013-01-31", "2013-02-30"], T::Utf8),
            (
                &["2013-01-31T05:00:00Z", "2013-01-31 05:00:00"],
                T::Datetime,
            ),
            (
                &["2013-01-31T05:00:00Z", "2013-01-31T05:00:00.25+02:00"],
                T::Timestamp,
            ),
            (&["2013-01-31T05:00:00.1234567Z"], T::Utf8),
            (&["2013-01-31", "2013-01-31T05:00:00Z"], T::Utf8),
            (&["", ""], T::Utf8),
            (&["1", "x"], T::Utf8),
        ] {
            assert_eq!(csv_type(values), expected, "{values:?}");
        }
    }

    #[test]
    fn what_a_number_could_not_give_back_stays_text() {
        for value in [
            "007",
            "+49123",
            "12345678901234567890",
            "1e999",
            "0x10",
            "5.",
        ] {
            assert_eq!(csv_type(&[value]), ColumnType::Utf8, "{value}");
        }
        assert_eq!(csv_type(&["9007199254740993"]), ColumnType::Int64);
        assert_eq!(csv_type(&["9007199254740993", "0.5"]), ColumnType::Utf8);
    }

    #[test]
    fn json_values_bring_their_types() {
        use ColumnType as T;
        for (values, expected) in [
            (&["1", "null"][..], T::Int64),
            (&["1", "1.0"], T::Double),
            (&["\"1\""], T::Utf8),
            (&["\"2013-01-31\""], T::Date),
            (&["true"], T::Bool),
            (&["true", "\"true\""], T::Utf8),
            (&["{\"b\":1}", "null"], T::Json),
            (&["null"], T::Utf8),
        ] {
            assert_eq!(json_type(values), expected, "{values:?}");
        }
    }

    #[test]
    fn json_columns_come_in_the_order_they_are_first_seen() {
        let columns = jsonl(&b"{\"b\":1}\n{\"a\":1,\"b\":2}\n"[..]).unwrap();
        let names: Vec<_> = columns.into_iter().map(|column| column.name).collect();
        assert_eq!(names, ["b", "a"]);
    }
}
