//! One JSON object taken apart without losing its text: numbers keep their digits, nested values
//! their spelling. A general JSON value would round the former and reorder the latter.

use std::borrow::Cow;

use serde::de::IgnoredAny;

/// A value of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token<'a> {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number, as it is written.
    Number(&'a str),
    /// A string.
    Text {
        /// What it says.
        text: Cow<'a, str>,
        /// As it is written, with its quotes.
        written: &'a str,
    },
    /// An object or array, as it is written.
    Nested(&'a str),
}

impl Token<'_> {
    /// The token as it is written.
    pub fn written(&self) -> &str {
        match self {
            Self::Null => "null",
            Self::Bool(true) => "true",
            Self::Bool(false) => "false",
            Self::Number(written) | Self::Nested(written) | Self::Text { written, .. } => written,
        }
    }
}

/// Calls `each` with the members of the object in `text`, in their order.
///
/// # Errors
/// `text` is not one JSON object, or the error of `each`.
pub fn members<'a, E: From<NotAnObject>>(
    text: &'a str,
    mut each: impl FnMut(Cow<'a, str>, Token<'a>) -> Result<(), E>,
) -> Result<(), E> {
    let mut scanner = Scanner { text, at: 0 };
    scanner.expect(b'{')?;
    if scanner.peek() == Some(b'}') {
        scanner.at += 1;
        return Ok(scanner.end()?);
    }
    loop {
        let (name, _) = scanner.string()?;
        scanner.expect(b':')?;
        let value = scanner.value()?;
        each(name, value)?;
        match scanner.peek() {
            Some(b',') => scanner.at += 1,
            Some(b'}') => {
                scanner.at += 1;
                return Ok(scanner.end()?);
            }
            _ => return Err(scanner.wrong("`,` or `}` is missing").into()),
        }
    }
}

/// Text that is not a JSON object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a JSON object: {detail} at column {column}")]
pub struct NotAnObject {
    detail: &'static str,
    /// The line within the text, from 0.
    pub line: u64,
    /// The column within the line, in characters from 1.
    pub column: usize,
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    fn wrong(&self, detail: &'static str) -> NotAnObject {
        let before = &self.text.as_bytes()[..self.at.min(self.text.len())];
        let line_begin = before.iter().rposition(|byte| *byte == b'\n');
        let in_line = &before[line_begin.map_or(0, |at| at + 1)..];
        NotAnObject {
            detail,
            line: before.iter().filter(|byte| **byte == b'\n').count() as u64,
            // Counts characters: every byte but those that continue one.
            column: in_line.iter().filter(|byte| **byte & 0xc0 != 0x80).count() + 1,
        }
    }

    /// The next byte that is not white space.
    fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = bytes.get(self.at) {
            self.at += 1;
        }
        bytes.get(self.at).copied()
    }

    fn expect(&mut self, wanted: u8) -> Result<(), NotAnObject> {
        if self.peek() == Some(wanted) {
            self.at += 1;
            return Ok(());
        }
        Err(self.wrong(match wanted {
            b'{' => "`{` is missing",
            _ => "`:` is missing",
        }))
    }

    fn end(&mut self) -> Result<(), NotAnObject> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.wrong("text after the object")),
        }
    }

    fn value(&mut self) -> Result<Token<'a>, NotAnObject> {
        match self.peek() {
            Some(b'"') => {
                let (text, written) = self.string()?;
                Ok(Token::Text { text, written })
            }
            Some(b'{' | b'[') => self.nested(),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => self.word(),
        }
    }

    fn word(&mut self) -> Result<Token<'a>, NotAnObject> {
        let rest = &self.text[self.at..];
        let words = [
            ("null", Token::Null),
            ("true", Token::Bool(true)),
            ("false", Token::Bool(false)),
        ];
        for (word, token) in words {
            if rest.starts_with(word) {
                self.at += word.len();
                return Ok(token);
            }
        }
        Err(self.wrong("no value"))
    }

    fn number(&mut self) -> Result<Token<'a>, NotAnObject> {
        let rest = &self.text[self.at..];
        let part = |byte: u8| matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9');
        let length = rest.bytes().take_while(|byte| part(*byte)).count();
        let number = &rest[..length];
        if !is_number(number) {
            return Err(self.wrong("no number"));
        }
        self.at += length;
        Ok(Token::Number(number))
    }

    /// A string, decoded and as it is written.
    fn string(&mut self) -> Result<(Cow<'a, str>, &'a str), NotAnObject> {
        if self.peek() != Some(b'"') {
            return Err(self.wrong("`\"` is missing"));
        }
        let start = self.at;
        let end = self.string_end()?;
        self.at = end;
        let raw = &self.text[start..end];
        let inner = &raw[1..raw.len() - 1];
        if inner.bytes().all(|byte| byte >= b' ' && byte != b'\\') {
            return Ok((Cow::Borrowed(inner), raw));
        }
        match serde_json::from_str(raw) {
            Ok(text) => Ok((Cow::Owned(text), raw)),
            Err(_) => {
                self.at = start;
                Err(self.wrong("a string that cannot be decoded"))
            }
        }
    }

    /// Where the string that begins here ends, behind its closing quote.
    fn string_end(&self) -> Result<usize, NotAnObject> {
        let bytes = self.text.as_bytes();
        let mut at = self.at + 1;
        loop {
            match bytes.get(at) {
                Some(b'"') => return Ok(at + 1),
                Some(b'\\') => at += 2,
                Some(_) => at += 1,
                None => return Err(self.wrong("a string that does not end")),
            }
        }
    }

    fn nested(&mut self) -> Result<Token<'a>, NotAnObject> {
        let start = self.at;
        let mut depth = 0usize;
        loop {
            match self.text.as_bytes().get(self.at) {
                Some(b'{' | b'[') => depth += 1,
                Some(b'}' | b']') => depth -= 1,
                Some(b'"') => {
                    self.at = self.string_end()?;
                    continue;
                }
                Some(_) => {}
                None => return Err(self.wrong("a value that does not end")),
            }
            self.at += 1;
            if depth == 0 {
                break;
            }
        }
        let raw = &self.text[start..self.at];
        if serde_json::from_str::<IgnoredAny>(raw).is_err() {
            self.at = start;
            return Err(self.wrong("a malformed value"));
        }
        Ok(Token::Nested(raw))
    }
}

/// Whether text is a number of JSON's grammar.
pub fn is_number(text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    digits(whole)
        && (whole.len() == 1 || !whole.starts_with('0'))
        && fraction.is_none_or(digits)
        && exponent
            .is_none_or(|exponent| digits(exponent.strip_prefix(['+', '-']).unwrap_or(exponent)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Vec<(String, String)>, NotAnObject> {
        let mut found = Vec::new();
        members(text, |name, token| {
            found.push((name.into_owned(), format!("{token:?}")));
            Ok::<_, NotAnObject>(())
        })?;
        Ok(found)
    }

    #[test]
    fn values_keep_their_text() {
        let line = r#" {"a": 10000000000000000000001.50, "b\u0041":"x\ny", "c":{"k" : [1, "}"]},"d":null} "#;
        let mut found = Vec::new();
        members(line, |name, token| {
            found.push((name.into_owned(), token));
            Ok::<_, NotAnObject>(())
        })
        .unwrap();
        let expected = [
            ("a", Token::Number("10000000000000000000001.50")),
            (
                "bA",
                Token::Text {
                    text: "x\ny".into(),
                    written: r#""x\ny""#,
                },
            ),
            ("c", Token::Nested(r#"{"k" : [1, "}"]}"#)),
            ("d", Token::Null),
        ];
        assert_eq!(
            found,
            expected.map(|(name, token)| (name.to_owned(), token))
        );
    }

    #[test]
    fn what_is_wrong_is_placed() {
        for (line, expected) in [
            ("[1]", "not a JSON object: `{` is missing at column 1"),
            (r#"{"é":tru}"#, "not a JSON object: no value at column 6"),
            (r#"{"a":01}"#, "not a JSON object: no number at column 6"),
            (
                r#"{"a":[1,]}"#,
                "not a JSON object: a malformed value at column 6",
            ),
            (
                r#"{"a":1} x"#,
                "not a JSON object: text after the object at column 9",
            ),
            (
                r#"{"a":1 "b":2}"#,
                "not a JSON object: `,` or `}` is missing at column 8",
            ),
        ] {
            assert_eq!(read(line).unwrap_err().to_string(), expected, "{line}");
        }
    }

    proptest! {
        #[test]
        fn agrees_with_a_json_parser_on_what_an_object_is(text in r#"[{}\[\]",:0-9.eE+\-a\\ nul tr]{0,16}"#) {
            let text = format!("{{\"a\":{text}}}");
            let parsed: Result<serde_json::Map<String, serde_json::Value>, _> = serde_json::from_str(&text);
            // A general parser refuses numbers that no float can hold; here their column decides.
            let too_large = parsed.as_ref().is_err_and(|error| error.to_string().contains("out of range"));
            prop_assert_eq!(read(&text).is_ok(), parsed.is_ok() || too_large, "{}", text);
        }

        #[test]
        fn any_text_is_members_or_an_error(text: String) {
            let _ = read(&text);
            let _ = read(&format!("{{{text}}}"));
        }
    }
}
