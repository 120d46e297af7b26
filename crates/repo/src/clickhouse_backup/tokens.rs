//! The words of an SQL statement, with their places in it.

use std::borrow::Cow;
use std::ops::Range;

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A keyword, a number, or a name without quotes.
    Word,
    /// A name in quotes.
    Name,
    /// A string.
    Text,
    /// Any other character.
    Sign,
}

/// A piece of a statement. Blanks and comments are none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token<'q> {
    pub(super) kind: Kind,
    /// Without quotes.
    pub(super) content: Cow<'q, str>,
    /// Where it is, with its quotes.
    pub(super) range: Range<usize>,
}

impl Token<'_> {
    pub(super) fn is_sign(&self, sign: char) -> bool {
        self.kind == Kind::Sign && self.content.starts_with(sign)
    }
}

/// Takes a statement apart. One that is cut short ends where it ends.
pub(super) fn tokens(query: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(first) = query[at..].chars().next() {
        let rest = &query[at..];
        let (length, kind) = match first {
            '\'' => (quoted(rest, first), Some(Kind::Text)),
            '`' | '"' => (quoted(rest, first), Some(Kind::Name)),
            '-' if rest.starts_with("--") => (rest.find('\n').unwrap_or(rest.len()), None),
            '/' if rest.starts_with("/*") => {
                (rest.find("*/").map_or(rest.len(), |end| end + 2), None)
            }
            c if is_of_word(c) => {
                let end = rest.find(|c| !is_of_word(c));
                (end.unwrap_or(rest.len()), Some(Kind::Word))
            }
            c if c.is_whitespace() => (c.len_utf8(), None),
            c => (c.len_utf8(), Some(Kind::Sign)),
        };
        if let Some(kind) = kind {
            let content = match kind {
                Kind::Text | Kind::Name => Cow::Owned(content(&rest[..length], first)),
                Kind::Word | Kind::Sign => Cow::Borrowed(&rest[..length]),
            };
            let range = at..at + length;
            tokens.push(Token {
                kind,
                content,
                range,
            });
        }
        at += length;
    }
    tokens
}

fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Bytes from a quote to the one that ends it, both included. Doubled and escaped ones end nothing.
fn quoted(text: &str, quote: char) -> usize {
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c == '\\' {
            chars.next();
        } else if c == quote && chars.next_if(|(_, next)| *next == quote).is_none() {
            return at + c.len_utf8();
        }
    }
    text.len()
}

/// What is between quotes.
fn content(text: &str, quote: char) -> String {
    let inner = &text[quote.len_utf8()..];
    let inner = inner.strip_suffix(quote).unwrap_or(inner);
    let mut content = String::with_capacity(inner.len());
    let mut chars = inner.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => content.extend(chars.next().map(unescaped)),
            c => {
                content.push(c);
                if c == quote {
                    chars.next_if_eq(&quote);
                }
            }
        }
    }
    content
}

fn unescaped(c: char) -> char {
    match c {
        'n' => '\n',
        't' => '\t',
        'r' => '\r',
        '0' => '\0',
        c => c,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_strings_and_signs_are_told_apart() {
        let sql = "a.`b \\` c` /* 'x */ \"d\"\"e\", 'it\\'s ''x''' -- 'y\n(ü_1)";
        let found: Vec<_> = tokens(sql)
            .into_iter()
            .map(|token| (token.kind, token.content.into_owned()))
            .collect();
        let expected = [
            (Kind::Word, "a"),
            (Kind::Sign, "."),
            (Kind::Name, "b ` c"),
            (Kind::Name, "d\"e"),
            (Kind::Sign, ","),
            (Kind::Text, "it's 'x'"),
            (Kind::Sign, "("),
            (Kind::Word, "ü_1"),
            (Kind::Sign, ")"),
        ];
        assert_eq!(
            found,
            expected.map(|(kind, content)| (kind, content.to_owned()))
        );
    }

    proptest! {
        #[test]
        fn every_token_is_where_it_says(sql in "[a`'\"\\\\ (/*\\-ü\n]{0,30}|.{0,40}") {
            for token in tokens(&sql) {
                prop_assert!(!sql[token.range].is_empty());
            }
        }
    }
}
