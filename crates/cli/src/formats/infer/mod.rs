//! The columns of a file that has no schema: the narrowest types that keep every one of its values.
//!
//! | values | type |
//! |---|---|
//! | `true`, `false` in any case | Bool |
//! | whole numbers | Int64, beyond it Uint64, beyond that Decimal(38,0) |
//! | the same and fractions, exponents, `NaN`, `inf` | Double where it keeps all digits, else Decimal(38,s) |
//! | `2013-01-31` | Date |
//! | `2013-01-31T05:00:00Z`, also with a space or without `Z` | Datetime |
//! | the same with up to six digits of a second's fraction | Timestamp |
//! | JSON objects and arrays, or JSON values of different kinds | Json |
//! | anything else, mixtures, nothing at all | Utf8 |
//!
//! Nothing is lost. What a type could not give back makes a column Utf8: leading zeros as in `007`,
//! plus signs, offsets of times, and exponents as in `1E5` where no value has a fraction, since that
//! may be a code. Each column comes with the value that decided.

mod guess;

use std::collections::HashMap;

use mendb_model::Column;
use serde::Serialize;

use super::csv::{CsvReader, Dialect, Header};
use super::encoding::TextReader;
use super::object_reader::ObjectReader;
use super::{FileOptions, ReadError};
use guess::Guess;

/// A column that was found in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Learned {
    /// The column.
    #[serde(flatten)]
    pub column: Column,
    /// Why it has its type.
    pub because: String,
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
                self.guesses.push(Guess::default());
                self.guesses.len() - 1
            }
        };
        &mut self.guesses[position]
    }

    /// The columns of the fields that are not passed over.
    fn columns(self, options: &FileOptions) -> Result<Vec<Learned>, ReadError> {
        options
            .fields
            .check(self.names.iter().map(String::as_str))?;
        let named = self.names.iter().zip(self.guesses);
        Ok(named
            .filter_map(|(field, guess)| {
                let name = options.fields.column(field)?.to_owned();
                let (column_type, because) = guess.conclude();
                let column = Column {
                    name,
                    column_type,
                    not_null: false,
                };
                Some(Learned { column, because })
            })
            .collect())
    }
}

/// The columns of a CSV file, from all of its rows.
///
/// # Errors
/// The file is malformed.
pub fn csv(
    reader: TextReader,
    dialect: Dialect,
    options: &FileOptions,
) -> Result<Vec<Learned>, ReadError> {
    let mut reader = CsvReader::new(reader, dialect);
    let header = match &options.header {
        Header::Absent => &Header::Numbered,
        header => header,
    };
    let (names, field_count) = reader.names(header, &[])?;
    let mut guesses = Guesses::default();
    for name in names {
        guesses.at(&name);
    }
    while reader.next_record(field_count)? {
        let place = reader.place();
        for (at, guess) in guesses.guesses.iter_mut().enumerate() {
            if guess.is_text() {
                continue;
            }
            let text = reader.field(at)?.text;
            if !text.is_empty() && text != options.null {
                guess.observe(text, place, &options.rules);
            }
        }
    }
    guesses.columns(options)
}

/// The columns of a file of JSON objects, from all of them.
///
/// # Errors
/// The file is malformed.
pub fn jsonl(reader: TextReader, options: &FileOptions) -> Result<Vec<Learned>, ReadError> {
    let mut objects = ObjectReader::new(reader);
    let mut guesses = Guesses::default();
    while objects.advance()? {
        let place = objects.place();
        objects.members(|name, token| {
            let guess = guesses.at(name);
            guess.observe_token(&token, place, &options.rules);
            Ok(())
        })?;
    }
    guesses.columns(options)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use mendb_model::ColumnType as T;
    use mendb_model::text::{self, Number, Offset, TextRules, TimeText};
    use proptest::prelude::*;

    use super::*;

    const MONEY: fn(u8) -> T = |scale| T::Decimal {
        precision: 38,
        scale,
    };

    fn csv_columns(text: &str, options: &FileOptions) -> Vec<Learned> {
        let reader = TextReader::new(Cursor::new(text.to_owned()), None).unwrap();
        let dialect = Dialect::guess(reader.head(), options, None);
        csv(reader, dialect, options).unwrap()
    }

    fn csv_learned(values: &[&str]) -> Learned {
        let file = format!("id,a\n1,{}\n", values.join("\n1,"));
        csv_columns(&file, &FileOptions::default()).pop().unwrap()
    }

    fn csv_type(values: &[&str]) -> T {
        csv_learned(values).column.column_type
    }

    fn json_columns(text: &str) -> Vec<Learned> {
        let reader = TextReader::new(Cursor::new(text.to_owned()), None).unwrap();
        jsonl(reader, &FileOptions::default()).unwrap()
    }

    fn json_type(values: &[&str]) -> T {
        let file = format!("{{\"a\":{}}}\n", values.join("}\n{\"a\":"));
        json_columns(&file)[0].column.column_type
    }

    #[test]
    fn the_narrowest_type_of_all_rows_is_taken() {
        for (values, expected) in [
            (&["1", "-20", ""][..], T::Int64),
            (&["1", "2.5"], T::Double),
            (&["1", "NaN"], T::Double),
            (&["1e3", "0.5"], T::Double),
            (&["1.5e3"], T::Double),
            (&["true", "FALSE"], T::Bool),
            (&["true", "1"], T::Utf8),
            (&["2013-01-31", ""], T::Date),
            (&["2013-01-31", "2013-02-30"], T::Utf8),
            (
                &["2013-01-31T05:00:00Z", "2013-01-31 05:00:00"],
                T::Datetime,
            ),
            (
                &["2013-01-31T05:00:00Z", "2013-01-31T05:00:00.25"],
                T::Timestamp,
            ),
            (&["2013-01-31T05:00:00.1234567Z"], T::Utf8),
            (&["2013-01-31T05:00:00.1234560Z"], T::Timestamp),
            (&["2013-01-31T05:00:00+02:00"], T::Utf8),
            (&["2013-01-31", "2013-01-31T05:00:00Z"], T::Utf8),
            (&["", ""], T::Utf8),
            (&["1", "x"], T::Utf8),
        ] {
            assert_eq!(csv_type(values), expected, "{values:?}");
        }
    }

    #[test]
    fn a_number_type_is_taken_only_where_it_keeps_every_value() {
        for (values, expected) in [
            (&["007"][..], T::Utf8),
            (&["007", "1.5"], T::Utf8),
            (&["+49123"], T::Utf8),
            (&["1E5", "12E3"], T::Utf8),
            (&["1e-5"], T::Utf8),
            (&["0x10"], T::Utf8),
            (&["5."], T::Utf8),
            (&["9007199254740993"], T::Int64),
            (&["12345678901234567890"], T::Uint64),
            (&["12345678901234567890", "-1"], MONEY(0)),
            (&["123456789012345678901234567890"], MONEY(0)),
            (&["9007199254740993", "0.5"], MONEY(1)),
            (
                &["0.1234567890123456789", "3.14159265358979323846"],
                MONEY(20),
            ),
            (&["999999999999999999.99", "0.10"], MONEY(2)),
            (&["0.12345678901234567891", "1234567890123456789"], T::Utf8),
            (&["0.1234567890123456789", "NaN"], T::Utf8),
            (&["1e999", "0.5"], T::Utf8),
            (&["-0", "1"], T::Double),
        ] {
            assert_eq!(csv_type(values), expected, "{values:?}");
        }
    }

    #[test]
    fn the_value_that_decided_is_told() {
        for (values, expected) in [
            (&["1"][..], "whole numbers"),
            (&["1", "007"], "\"007\" (line 3) has a leading zero"),
            (&["1", "2.5"], "\"2.5\" (line 3) is no whole number"),
            (
                &["1E5"],
                "\"1E5\" (line 2) may be a code: no value has a fraction",
            ),
            (&["1", "x"], "\"x\" (line 3) is text"),
            (
                &["1", "true"],
                "\"true\" (line 3) is of another kind than the values before it",
            ),
            (
                &["0.12345678901234567"],
                "\"0.12345678901234567\" (line 2) has more digits than a Double keeps",
            ),
        ] {
            assert_eq!(csv_learned(values).because, expected);
        }
    }

    #[test]
    fn options_say_how_numbers_and_times_are_written() {
        let rules = TextRules {
            decimal_comma: true,
            zone: Some(jiff::tz::TimeZone::UTC),
            round: false,
        };
        let options = FileOptions {
            rules,
            ..FileOptions::default()
        };
        let file = "a;at;point\n1,5;2013-01-31T05:00:00+02:00;1.5\n";
        let types: Vec<T> = csv_columns(file, &options)
            .iter()
            .map(|learned| learned.column.column_type)
            .collect();
        assert_eq!(types, [T::Double, T::Datetime, T::Utf8]);
    }

    #[test]
    fn json_values_bring_their_types() {
        for (values, expected) in [
            (&["1", "null"][..], T::Int64),
            (&["1", "1.0"], T::Double),
            (&["1E5"], T::Double),
            (&["\"1\""], T::Utf8),
            (&["\"2013-01-31\""], T::Date),
            (&["true"], T::Bool),
            (&["true", "\"true\""], T::Json),
            (&["1", "\"x\""], T::Json),
            (&["\"x\"", "1"], T::Json),
            (&["{\"b\":1}", "null", "\"5\""], T::Json),
            (&["null"], T::Utf8),
        ] {
            assert_eq!(json_type(values), expected, "{values:?}");
        }
    }

    #[test]
    fn json_columns_come_in_the_order_they_are_first_seen() {
        let columns = json_columns("{\"b\":1}\n{\"a\":1,\"b\":2}\n");
        let names: Vec<_> = columns
            .into_iter()
            .map(|learned| learned.column.name)
            .collect();
        assert_eq!(names, ["b", "a"]);
    }

    /// A value of the kinds that files have.
    fn written() -> impl Strategy<Value = String> {
        prop_oneof![
            8 => "-?[0-9]{1,3}",
            4 => "-?[0-9]{1,22}",
            8 => "-?[0-9]{1,3}[.][0-9]{1,3}",
            4 => "-?[0-9]{1,22}[.][0-9]{1,22}",
            2 => "[+-]?[0-9]{0,3}[.]?[0-9]{0,3}([eE][+-]?[0-9]{1,3})?",
            2 => "20[0-9]{2}-0[1-9]-[0-3][0-9]",
            4 => "20[0-9]{2}-0[1-9]-[0-2][0-9][T ][01][0-9]:[0-5][0-9]:[0-6][0-9]([.][0-9]{1,8})?(Z|[+-]0[0-9]:00)?",
            1 => "NaN|inf|-inf|true|FALSE|x|",
        ]
    }

    /// Values that are alike, and now and then not.
    fn column() -> impl Strategy<Value = Vec<String>> {
        prop_oneof![
            proptest::collection::vec(written(), 1..4),
            proptest::collection::vec("-?[0-9]{1,6}([.][0-9]{1,14})?", 1..6),
            proptest::collection::vec("[0-9]{15,21}", 1..6),
            proptest::collection::vec(
                "20[0-9]{2}-0[1-9]-[0-2][0-9]T05:00:00([.][0-9]{1,6})?Z?",
                1..4
            ),
        ]
    }

    fn is_same(written: &str, shown: &str, column_type: T) -> bool {
        match column_type {
            T::Utf8 => written == shown,
            T::Bool => written.eq_ignore_ascii_case(shown),
            T::Date => written == shown,
            T::Datetime | T::Timestamp => {
                let (written, shown) = (TimeText::read(written), TimeText::read(shown));
                written.zip(shown).is_some_and(|(written, shown)| {
                    let kept = matches!(written.offset, Offset::Absent | Offset::Utc);
                    let fraction = |time: &TimeText<'_>| time.fraction.trim_end_matches('0').len();
                    kept && written.date == shown.date
                        && written.time == shown.time
                        && fraction(&written) == fraction(&shown)
                })
            }
            _ => match (Number::read(written, '.'), Number::read(shown, '.')) {
                (Some(written), Some(shown)) => written.is_same(&shown),
                (written_number, shown_number) => {
                    written_number.is_none() && shown_number.is_none() && written == shown
                }
            },
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn an_inferred_column_takes_every_value_and_shows_it_again(values in column()) {
            let column_type = csv_type(&values.iter().map(String::as_str).collect::<Vec<_>>());
            for written in values.iter().filter(|written| !written.is_empty()) {
                let value = text::parse(written, column_type);
                prop_assert!(value.is_ok(), "{written} as {column_type} of {values:?}");
                let shown = text::format(value.unwrap().as_ref(), column_type).unwrap();
                let same = is_same(written, &shown, column_type);
                prop_assert!(same, "{written} as {column_type} is {shown} in {values:?}");
            }
        }
    }
}
