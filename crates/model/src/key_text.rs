//! Keys and ranges of them as people write them: on a command line, in a plan, in a message.
//!
//! A key is one value per key column with commas between them; fewer name the first key that begins
//! with them. A range is `FROM..TO`: the keys from FROM on and before TO. Either may be left out.
//!
//! | written | means |
//! |---|---|
//! | `1234,abc` | two values, as [`text`] reads them |
//! | `"a,b"` | the text `a,b`; a quote within is doubled, as in CSV |
//! | `""` | the empty text |
//! | `NULL` | NULL; the text is `"NULL"` |
//! | `"a..b".."c"` | a range of texts, one of which holds two dots |
//! | `NaN(0x7fc00001)` | the Float or Double of these bits, which is not a number |
//!
//! Values are read by the caller's [`TextRules`]; what is printed needs only [`TextRules::EXACT`].
//! Outside quotes a comma ends a value and two dots end a key, so each text has one meaning or none.
//! [`display`] quotes what needs it, and [`parse`] reads that back as the same key.

use crate::key::{KeyRange, decode, encode, to_hex};
use crate::text::{self, NotAValue, TextRules};
use crate::value::{ColumnType, Value};

const NULL: &str = "NULL";
const DOTS: &str = "..";

/// Text that is no key, or no range of keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    /// A value is not of the type of its column.
    #[error("{source}")]
    Value {
        /// The place of the column in the key.
        at: usize,
        /// What was written.
        source: NotAValue,
    },
    /// It is not written as keys are.
    #[error("{0}")]
    Form(&'static str),
}

/// A key as [`parse`] reads it. Bytes that are no key are shown as hex digits after `0x`.
pub fn display(bytes: &[u8], types: &[ColumnType]) -> String {
    let Ok(values) = decode(bytes, types) else {
        return format!("0x{}", to_hex(bytes));
    };
    let columns = values.iter().zip(types);
    let written: Vec<String> = columns
        .map(|(value, column_type)| column(value, *column_type))
        .collect();
    written.join(",")
}

fn column(value: &Value, column_type: ColumnType) -> String {
    match value {
        // Those that text has no other word for.
        Value::Float(v) if v.is_nan() && v.to_bits() != f32::NAN.to_bits() => {
            format!("NaN({:#x})", v.to_bits())
        }
        Value::Double(v) if v.is_nan() && v.to_bits() != f64::NAN.to_bits() => {
            format!("NaN({:#x})", v.to_bits())
        }
        value => match text::format(value.as_ref(), column_type) {
            None => NULL.to_owned(),
            Some(text) if needs_quotes(&text) => format!("\"{}\"", text.replace('"', "\"\"")),
            Some(text) => text,
        },
    }
}

fn needs_quotes(text: &str) -> bool {
    let special = |c: char| matches!(c, ',' | '"') || c.is_whitespace() || c.is_control();
    text.is_empty()
        || text == NULL
        || text.contains(special)
        || text.contains(DOTS)
        || text.starts_with('.')
        || text.ends_with('.')
}

/// A range as [`parse_range`] reads it.
pub fn display_range(range: &KeyRange, types: &[ColumnType]) -> String {
    let end = range.end.as_deref();
    format!(
        "{}{DOTS}{}",
        display(&range.start, types),
        end.map(|end| display(end, types)).unwrap_or_default()
    )
}

/// A range in words.
pub fn describe_range(range: &KeyRange, types: &[ColumnType]) -> String {
    let text = |bytes: &[u8]| display(bytes, types);
    let is_key = |bytes: &[u8]| decode(bytes, types).is_ok_and(|key| key.len() == types.len());
    match (range.start.as_slice(), range.end.as_deref()) {
        ([], None) => "all".to_owned(),
        ([], Some(end)) => format!("before {}", text(end)),
        (start, None) => format!("from {}", text(start)),
        // One key has only itself before the next. Behind fewer columns a zero is NULL.
        (start, Some(end)) if end.strip_prefix(start) == Some(&[0]) && is_key(start) => text(start),
        (start, Some(end)) => match end.strip_suffix(&[0]) {
            Some(last) if is_key(last) => {
                format!("{} to {}", text(start), text(last))
            }
            _ => format!("from {} before {}", text(start), text(end)),
        },
    }
}

/// Reads a key: one value per key column, or fewer for the first key that begins with them.
///
/// # Errors
/// It is not written as a key is, has more values than the key has columns, or one that is not of its
/// type.
pub fn parse(written: &str, types: &[ColumnType], rules: &TextRules) -> Result<Vec<u8>, BadKey> {
    let (key, rest) = take_key(written, types, rules)?;
    if rest.is_empty() {
        return Ok(key);
    }
    Err(BadKey::Form(
        "two dots end a key: put text that holds them in quotes",
    ))
}

/// Reads a range of keys.
///
/// # Errors
/// It is not `FROM..TO`, or one of them is no key.
pub fn parse_range(
    written: &str,
    types: &[ColumnType],
    rules: &TextRules,
) -> Result<KeyRange, BadKey> {
    let (start, rest) = if written.starts_with(DOTS) {
        (Vec::new(), written)
    } else {
        take_key(written, types, rules)?
    };
    let Some(end) = rest.strip_prefix(DOTS) else {
        return Err(BadKey::Form("a range is FROM..TO, FROM.. or ..TO"));
    };
    if end.starts_with('.') {
        return Err(BadKey::Form(
            "of three dots it is not clear which belong to a key: put that in quotes",
        ));
    }
    Ok(KeyRange {
        start,
        end: match end {
            "" => None,
            end => Some(parse(end, types, rules)?),
        },
    })
}

/// Takes a key off the front; the rest is empty or begins with two dots.
fn take_key<'t>(
    written: &'t str,
    types: &[ColumnType],
    rules: &TextRules,
) -> Result<(Vec<u8>, &'t str), BadKey> {
    let mut values = Vec::with_capacity(types.len());
    let mut rest = written;
    loop {
        let at = values.len();
        let Some(column_type) = types.get(at) else {
            return Err(BadKey::Form(
                "it has more values than the key has columns: put text that holds commas in quotes",
            ));
        };
        let (value, behind) = take_value(rest, *column_type, at, rules)?;
        values.push(value);
        match behind.strip_prefix(',') {
            Some(next) => rest = next,
            None => {
                let key = encode(types, values.iter().map(Value::as_ref));
                return Ok((key, behind));
            }
        }
    }
}

/// Takes a value off the front; the rest is empty or begins with a comma or two dots.
fn take_value<'t>(
    written: &'t str,
    column_type: ColumnType,
    at: usize,
    rules: &TextRules,
) -> Result<(Value, &'t str), BadKey> {
    let parse = |text: &str| {
        text::parse_by(text, column_type, rules).map_err(|source| BadKey::Value { at, source })
    };
    if let Some(quoted) = written.strip_prefix('"') {
        let (text, rest) = take_quoted(quoted)?;
        return Ok((parse(&text)?, rest));
    }
    let ends = [written.find(','), written.find(DOTS)];
    let end = ends.into_iter().flatten().min().unwrap_or(written.len());
    let (text, rest) = written.split_at(end);
    let value = match text {
        NULL => Value::Null,
        "" => {
            return Err(BadKey::Form(
                "a value is missing: \"\" is the empty text, NULL is no value",
            ));
        }
        text => match not_a_number(text, column_type) {
            Some(value) => value,
            None => parse(text)?,
        },
    };
    Ok((value, rest))
}

/// Takes what is left of a text in quotes off the front.
fn take_quoted(written: &str) -> Result<(String, &str), BadKey> {
    let mut text = String::new();
    let mut rest = written;
    loop {
        let Some((part, behind)) = rest.split_once('"') else {
            return Err(BadKey::Form("a quote is not closed"));
        };
        text.push_str(part);
        match behind.strip_prefix('"') {
            Some(next) => {
                text.push('"');
                rest = next;
            }
            None if behind.is_empty() || behind.starts_with(',') || behind.starts_with(DOTS) => {
                return Ok((text, behind));
            }
            None => return Err(BadKey::Form("a value goes on behind its closing quote")),
        }
    }
}

/// `NaN(0x7fc00001)`.
fn not_a_number(text: &str, column_type: ColumnType) -> Option<Value> {
    let bits = text.strip_prefix("NaN(0x")?.strip_suffix(')')?;
    match column_type {
        ColumnType::Float => {
            let value = f32::from_bits(u32::from_str_radix(bits, 16).ok()?);
            value.is_nan().then_some(Value::Float(value))
        }
        ColumnType::Double => {
            let value = f64::from_bits(u64::from_str_radix(bits, 16).ok()?);
            value.is_nan().then_some(Value::Double(value))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;
    use proptest::prelude::*;

    use super::*;
    use crate::key::tests::column as any_column;

    const TEXTS: [ColumnType; 2] = [ColumnType::Utf8, ColumnType::Utf8];

    fn parse(written: &str, types: &[ColumnType]) -> Result<Vec<u8>, BadKey> {
        super::parse(written, types, &TextRules::EXACT)
    }

    fn parse_range(written: &str, types: &[ColumnType]) -> Result<KeyRange, BadKey> {
        super::parse_range(written, types, &TextRules::EXACT)
    }

    /// Keys of every type, and texts made of what has a meaning in the notation.
    fn key() -> impl Strategy<Value = (Vec<ColumnType>, Vec<Value>)> {
        let text = "[a.,\"N \\n]{0,5}|NULL|\\.\\.|NaN\\(0x1\\)";
        let text = (Just(ColumnType::Utf8), text.prop_map(Value::Text));
        let nan = prop_oneof![
            any::<u32>().prop_map(|bits| {
                let value = f32::from_bits(bits | 0x7f80_0001);
                (ColumnType::Float, Value::Float(value))
            }),
            any::<u64>().prop_map(|bits| {
                let value = f64::from_bits(bits | 0x7ff0_0000_0000_0001);
                (ColumnType::Double, Value::Double(value))
            }),
        ];
        // Decimals of more digits than the type has are none of its values.
        let other = any_column()
            .prop_map(|(column_type, value, _)| (column_type, value))
            .prop_filter("a value", |(column_type, value)| {
                column_type.accepts(value.as_ref())
            });
        let column = prop_oneof![3 => other, 3 => text, 1 => nan];
        proptest::collection::vec(column, 1..4).prop_map(|columns| columns.into_iter().unzip())
    }

    proptest! {
        #[test]
        fn a_bound_that_is_printed_reads_back_as_the_bound(
            (types, values) in key(),
            columns in 1usize..4,
            more in "[a.,\"N ]{0,5}",
        ) {
            // Of fewer columns too.
            let values = &values[..columns.min(values.len())];
            let bound = encode(&types, values.iter().map(Value::as_ref));
            let written = display(&bound, &types);
            prop_assert_eq!(parse(&written, &types), Ok(bound.clone()), "{}", written);

            for range in [
                KeyRange { start: bound.clone(), end: None },
                KeyRange { start: Vec::new(), end: Some(bound.clone()) },
                KeyRange { start: bound.clone(), end: Some(bound.clone()) },
                KeyRange::all(),
            ] {
                let written = display_range(&range, &types);
                prop_assert_eq!(parse_range(&written, &types), Ok(range), "{}", written);
            }

            let other = encode(&[ColumnType::Utf8], [Value::Text(more).as_ref()]);
            let range = KeyRange { start: Vec::new(), end: Some(other) };
            let written = display_range(&range, &TEXTS);
            prop_assert_eq!(parse_range(&written, &TEXTS), Ok(range), "{}", written);
        }

        /// What reads as a key has one meaning: printed, it reads as the same.
        #[test]
        fn any_text_is_one_key_or_an_error(written in "[a.,\"NUL0-9x()\\\\]{0,12}") {
            for types in [&TEXTS[..], &[ColumnType::Int64, ColumnType::Utf8], &[ColumnType::Double]] {
                if let Ok(key) = parse(&written, types) {
                    prop_assert_eq!(parse(&display(&key, types), types), Ok(key));
                }
                if let Ok(range) = parse_range(&written, types) {
                    prop_assert_eq!(parse_range(&display_range(&range, types), types), Ok(range));
                }
            }
        }

        #[test]
        fn damaged_keys_are_shown_all_the_same(bytes: Vec<u8>) {
            display(&bytes, &TEXTS);
            describe_range(&KeyRange::only(&bytes), &TEXTS);
        }
    }

    fn key_of(values: [&str; 2]) -> Vec<u8> {
        let values = values.map(|value| Value::Text(value.to_owned()));
        encode(&TEXTS, values.iter().map(Value::as_ref))
    }

    #[test]
    fn quotes_keep_commas_and_dots_in_a_value() {
        assert_eq!(parse("\"a,b\",c", &TEXTS), Ok(key_of(["a,b", "c"])));
        assert_eq!(parse("\"a..b\",\"\"", &TEXTS), Ok(key_of(["a..b", ""])));
        let range = parse_range("\"a..b\",c..\"\"\"\",NULL", &TEXTS).unwrap();
        assert_eq!(range.start, key_of(["a..b", "c"]));
        assert_eq!(display(&range.end.unwrap(), &TEXTS), "\"\"\"\",NULL");
        assert_eq!(
            display(&key_of(["NULL", "a b"]), &TEXTS),
            "\"NULL\",\"a b\""
        );
    }

    #[test]
    fn a_bound_that_ends_with_null_is_no_last_key() {
        let words = |written| describe_range(&parse_range(written, &TEXTS).unwrap(), &TEXTS);
        assert_eq!(words("x..x,NULL"), "from x before x,NULL");
        assert_eq!(words("a..x,NULL"), "from a before x,NULL");
        assert_eq!(
            describe_range(&KeyRange::only(&key_of(["a", "b"])), &TEXTS),
            "a,b"
        );
        assert_eq!(words(".."), "all");
    }

    #[test]
    fn bounds_are_rounded_and_in_a_time_zone_by_the_rules_of_their_reader() {
        let types = [ColumnType::Datetime];
        let written = "2020-07-01 12:00:00.4..2020-07-01 13:00:00.6";
        let error = parse_range(written, &types).unwrap_err();
        assert!(matches!(error, BadKey::Value { at: 0, .. }), "{error}");
        let rules = TextRules {
            round: true,
            zone: Some(TimeZone::fixed(jiff::tz::offset(2))),
            ..TextRules::EXACT
        };
        let range = super::parse_range(written, &types, &rules).unwrap();
        assert_eq!(
            display_range(&range, &types),
            "2020-07-01T10:00:00Z..2020-07-01T11:00:01Z"
        );
        let at = super::parse("2020-07-01 12:00:00.4", &types, &rules);
        assert_eq!(at, Ok(range.start));
    }

    #[test]
    fn what_could_mean_two_things_is_refused() {
        for (written, why) in [
            ("a..b..c", "two dots end a key"),
            ("a...b", "three dots"),
            ("a,b,c..", "more values than the key has columns"),
            ("a,..b", "a value is missing"),
            ("\"a..b", "a quote is not closed"),
            ("\"a\"b..", "behind its closing quote"),
            ("a", "a range is FROM..TO"),
            ("", "a value is missing"),
        ] {
            let error = parse_range(written, &TEXTS).unwrap_err().to_string();
            assert!(error.contains(why), "{written}: {error}");
        }
        let error = parse("5,x", &[ColumnType::Int64, ColumnType::Bool]).unwrap_err();
        assert!(matches!(error, BadKey::Value { at: 1, .. }), "{error}");
    }
}
