//! What the values of one column have in common.

use mendb_model::ColumnType;
use mendb_model::text::{Number, Offset, TextRules, TimeText};

use crate::formats::Place;
use crate::formats::json::Token;

/// Digits of a Decimal.
const DECIMAL_DIGITS: u8 = 38;
/// Digits of a second's fraction that a Timestamp holds.
const MICROS_DIGITS: usize = 6;
/// The most characters of a value that an explanation shows.
const SHOWN_CHARS: usize = 40;

/// What is known of a column from the values seen so far.
#[derive(Debug, Clone, Default)]
pub struct Guess {
    /// The kind of all values; `None` before the first.
    kind: Option<Kind>,
    /// Why the column is text whatever comes.
    text: Option<String>,
    numbers: Numbers,
    /// The first time with a fraction of a second.
    fine: Option<String>,
    tokens: Tokens,
}

/// A kind of values that no other mixes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Bool,
    Number,
    Date,
    Time,
}

/// Which kinds of JSON values there were.
#[derive(Debug, Clone, Copy, Default)]
struct Tokens {
    texts: bool,
    numbers: bool,
    bools: bool,
    nested: bool,
}

/// What the numbers of a column need of a type. Values are those that first needed it.
#[derive(Debug, Clone, Default)]
struct Numbers {
    /// One with a fraction, an exponent, or none at all.
    fraction: Option<String>,
    beyond_int: Option<String>,
    beyond_uint: Option<String>,
    /// A whole number with an exponent, which may as well be a code.
    exponent: Option<String>,
    /// Whether one can be of nothing but a floating point column.
    floating: bool,
    beyond_double: Option<String>,
    /// One that a Decimal cannot hold whatever its scale: an exponent, NaN, a negative zero.
    beyond_decimal: Option<String>,
    /// The most digits before and after the point.
    whole_digits: usize,
    fraction_digits: usize,
}

impl Guess {
    /// Whether no further text can change the guess.
    pub fn is_text(&self) -> bool {
        self.text.is_some()
    }

    /// Takes a value of CSV into account.
    pub fn observe(&mut self, text: &str, place: Place, rules: &TextRules) {
        if self.is_text() {
            return;
        }
        if self.kind == Some(Kind::Number) && is_short_whole(text) {
            self.numbers.whole_digits = self.numbers.whole_digits.max(text.len());
            return;
        }
        let point = if rules.decimal_comma { ',' } else { '.' };
        let seen = if matches!(text, "NaN" | "inf" | "-inf") {
            self.numbers.observe_special(text, place);
            Ok(Kind::Number)
        } else if let Some(number) = Number::read(text, point) {
            is_plain(text, &number, point).map(|()| {
                self.numbers.observe(text, &number, place);
                Kind::Number
            })
        } else if text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false") {
            Ok(Kind::Bool)
        } else {
            self.time(text, place, rules)
        };
        self.narrow(seen, text, place);
    }

    /// Takes a value of JSON into account.
    pub fn observe_token(&mut self, token: &Token<'_>, place: Place, rules: &TextRules) {
        match token {
            Token::Null => {}
            Token::Nested(_) => self.tokens.nested = true,
            Token::Bool(_) => {
                self.tokens.bools = true;
                self.narrow(Ok(Kind::Bool), token.written(), place);
            }
            Token::Number(text) => {
                self.tokens.numbers = true;
                if let Some(number) = Number::read(text, '.') {
                    // It is a number by its form, and no code.
                    self.numbers.floating |= number.exponent.is_some();
                    self.numbers.observe(text, &number, place);
                }
                self.narrow(Ok(Kind::Number), text, place);
            }
            Token::Text { text, .. } => {
                self.tokens.texts = true;
                if !self.is_text() {
                    let seen = self.time(text, place, rules);
                    self.narrow(seen, text, place);
                }
            }
        }
    }

    fn narrow(&mut self, seen: Result<Kind, &'static str>, text: &str, place: Place) {
        match (seen, self.kind) {
            (Ok(kind), None) => self.kind = Some(kind),
            (Ok(kind), Some(before)) if kind == before => {}
            (Ok(_), Some(_)) => {
                self.text = Some(format!(
                    "{} is of another kind than the values before it",
                    shown(text, place)
                ));
            }
            (Err(why), _) => self.text = Some(format!("{} {why}", shown(text, place))),
        }
    }

    /// The kind of a date or time; as an error why it is text.
    fn time(&mut self, text: &str, place: Place, rules: &TextRules) -> Result<Kind, &'static str> {
        let time = TimeText::read(text).ok_or("is text")?;
        if time.time.is_none() {
            return Ok(Kind::Date);
        }
        // A zone that was asked for says that points in time are meant, and not their spelling.
        if !matches!(time.offset, Offset::Absent | Offset::Utc) && rules.zone.is_none() {
            return Err("has an offset, which a time would lose");
        }
        let fraction = time.fraction.trim_end_matches('0');
        if fraction.len() > MICROS_DIGITS {
            return Err("has more digits than a Timestamp holds");
        }
        if !fraction.is_empty() {
            first(&mut self.fine, text, place);
        }
        Ok(Kind::Time)
    }

    /// The narrowest type that keeps every value, and why it is that one.
    pub fn conclude(self) -> (ColumnType, String) {
        let Tokens {
            texts,
            numbers,
            bools,
            nested,
        } = self.tokens;
        if nested {
            return (ColumnType::Json, "objects or arrays".to_owned());
        }
        if [texts, numbers, bools]
            .iter()
            .filter(|there| **there)
            .count()
            > 1
        {
            return (
                ColumnType::Json,
                "JSON values of different kinds".to_owned(),
            );
        }
        if let Some(why) = self.text {
            return (ColumnType::Utf8, why);
        }
        match self.kind {
            None => (ColumnType::Utf8, "no values".to_owned()),
            Some(Kind::Bool) => (ColumnType::Bool, "true and false".to_owned()),
            Some(Kind::Number) => self.numbers.conclude(),
            Some(Kind::Date) => (ColumnType::Date, "dates".to_owned()),
            Some(Kind::Time) => match self.fine {
                None => (ColumnType::Datetime, "times in whole seconds".to_owned()),
                Some(fine) => (
                    ColumnType::Timestamp,
                    format!("{fine} has a fraction of a second"),
                ),
            },
        }
    }
}

impl Numbers {
    fn observe_special(&mut self, text: &str, place: Place) {
        self.floating = true;
        first(&mut self.fraction, text, place);
        first(&mut self.beyond_decimal, text, place);
    }

    fn observe(&mut self, text: &str, number: &Number<'_>, place: Place) {
        let is_negative_zero = number.negative && number.is_zero();
        let is_whole = number.fraction.is_empty() && number.exponent.is_none();
        if is_whole {
            let int = text.parse::<i64>();
            if int.is_err() || is_negative_zero {
                first(&mut self.beyond_int, text, place);
            }
            if !int.is_ok_and(|int| int > 0) && text.parse::<u64>().is_err() {
                first(&mut self.beyond_uint, text, place);
            }
        } else {
            first(&mut self.fraction, text, place);
        }
        if number.exponent.is_some() && number.fraction.is_empty() {
            first(&mut self.exponent, text, place);
        }
        self.floating |= !number.fraction.is_empty();
        if is_negative_zero || number.exponent.is_some() {
            first(&mut self.beyond_decimal, text, place);
        }
        self.whole_digits = self.whole_digits.max(number.whole.len());
        self.fraction_digits = self.fraction_digits.max(number.fraction.len());
        if self.beyond_double.is_none() && !double_keeps(text, number) {
            first(&mut self.beyond_double, text, place);
        }
    }

    fn conclude(self) -> (ColumnType, String) {
        if let Some(code) = self.exponent.filter(|_| !self.floating) {
            let why = format!("{code} may be a code: no value has a fraction");
            return (ColumnType::Utf8, why);
        }
        let digits = self.whole_digits + self.fraction_digits;
        let fits_decimal = self.beyond_decimal.is_none() && digits <= usize::from(DECIMAL_DIGITS);
        let decimal = ColumnType::Decimal {
            precision: DECIMAL_DIGITS,
            scale: u8::try_from(self.fraction_digits).unwrap_or(DECIMAL_DIGITS),
        };
        match (self.fraction, self.beyond_int, self.beyond_uint) {
            (None, None, _) => return (ColumnType::Int64, "whole numbers".to_owned()),
            (None, Some(beyond), None) => {
                return (ColumnType::Uint64, format!("{beyond} is beyond an Int64"));
            }
            (None, Some(beyond), Some(_)) if fits_decimal => {
                return (decimal, format!("{beyond} is beyond an Int64"));
            }
            (Some(fraction), ..) if self.beyond_double.is_none() => {
                return (ColumnType::Double, format!("{fraction} is no whole number"));
            }
            _ => {}
        }
        match (self.beyond_double, self.beyond_decimal) {
            (None, _) => (
                ColumnType::Double,
                "whole numbers that only a Double keeps".to_owned(),
            ),
            (Some(beyond), _) if fits_decimal => (
                decimal,
                format!("{beyond} has more digits than a Double keeps"),
            ),
            (Some(beyond), None) => {
                let why =
                    format!("{beyond} and others together have more digits than any number type");
                (ColumnType::Utf8, why)
            }
            (Some(beyond), Some(other)) => {
                let why = format!("no number type keeps both {beyond} and {other}");
                (ColumnType::Utf8, why)
            }
        }
    }
}

/// Whether it is a whole number that every type of numbers holds, without a sign: nothing is to be learned of it
/// but its length.
fn is_short_whole(text: &str) -> bool {
    let digits = text.as_bytes();
    let is_plain = digits.len() == 1 || digits.first() != Some(&b'0');
    is_plain
        && (1..=f64::DIGITS as usize).contains(&digits.len())
        && digits.iter().all(u8::is_ascii_digit)
}

/// Whether a number is written as numbers are; as an error why it is text.
fn is_plain(text: &str, number: &Number<'_>, point: char) -> Result<(), &'static str> {
    if text.starts_with('+') {
        Err("has a plus sign")
    } else if number.whole.len() > 1 && number.whole.starts_with('0') {
        Err("has a leading zero")
    } else if number.whole.is_empty() || (number.fraction.is_empty() && text.contains(point)) {
        Err("has no digit beside its point")
    } else {
        Ok(())
    }
}

/// Whether the nearest Double is written with the same digits.
fn double_keeps(text: &str, number: &Number<'_>) -> bool {
    let digits = number.whole.len() + number.fraction.len();
    if digits <= f64::DIGITS as usize && number.exponent.is_none() {
        return true;
    }
    let Ok(double) = text.replace(',', ".").parse::<f64>() else {
        return false;
    };
    if !double.is_finite() {
        return false;
    }
    let back = format!("{double:e}");
    Number::read(&back, '.').is_some_and(|back| back.is_same(number))
}

fn first(slot: &mut Option<String>, text: &str, place: Place) {
    if slot.is_none() {
        *slot = Some(shown(text, place));
    }
}

/// A value and its place in an explanation.
fn shown(text: &str, place: Place) -> String {
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((at, _)) => format!("{:?} ({place})", format!("{}…", &text[..at])),
        None => format!("{text:?} ({place})"),
    }
}
