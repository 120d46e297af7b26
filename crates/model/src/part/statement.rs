//! The words of an SQL statement, as far as they are needed to find names and clauses in it.

use std::ops::Range;

/// A piece of a statement. Comments and blanks are none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token<'a> {
    /// A keyword, a name without quotes or a number.
    Word(&'a str),
    /// A name in quotes, without them.
    Quoted(String),
    /// A string, without its quotes.
    Text(String),
    /// Any other character.
    Sign(char),
}

impl Token<'_> {
    /// What it would be as a name.
    pub fn as_name(&self) -> Option<&str> {
        match self {
            Self::Word(word) => Some(word),
            Self::Quoted(name) => Some(name),
            Self::Text(_) | Self::Sign(_) => None,
        }
    }

    /// What it would be as a name or as the text of one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => self.as_name(),
        }
    }
}

/// The tokens of a statement. One that is cut short ends where it ends.
pub fn tokens(sql: &str) -> Vec<Token<'_>> {
    let located = located(sql).into_iter();
    located.map(|(token, _)| token).collect()
}

/// The tokens of a statement, with the bytes of it that each takes.
pub fn located(sql: &str) -> Vec<(Token<'_>, Range<usize>)> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(first) = sql[at..].chars().next() {
        let rest = &sql[at..];
        let (token, taken) = match first {
            '\'' => {
                let (content, length) = quoted(rest, first);
                (Some(Token::Text(content)), length)
            }
            '`' | '"' => {
                let (content, length) = quoted(rest, first);
                (Some(Token::Quoted(content)), length)
            }
            '-' if rest.starts_with("--") => (None, rest.find('\n').unwrap_or(rest.len())),
            '/' if rest.starts_with("/*") => {
                (None, rest.find("*/").map_or(rest.len(), |end| end + 2))
            }
            c if is_of_word(c) => {
                let length = rest.find(|c| !is_of_word(c)).unwrap_or(rest.len());
                (Some(Token::Word(&rest[..length])), length)
            }
            c if c.is_whitespace() => (None, c.len_utf8()),
            c => (Some(Token::Sign(c)), c.len_utf8()),
        };
        tokens.extend(token.map(|token| (token, at..at + taken)));
        at += taken;
    }
    tokens
}

fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// What is in the quotes at the beginning of a text, and how many bytes it takes with them.
fn quoted(text: &str, quote: char) -> (String, usize) {
    let mut content = String::new();
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c == '\\' {
            content.extend(chars.next().map(|(_, c)| unescaped(c)));
        } else if c != quote {
            content.push(c);
        } else if chars.next_if(|(_, next)| *next == quote).is_some() {
            content.push(quote);
        } else {
            return (content, at + c.len_utf8());
        }
    }
    (content, text.len())
}

fn unescaped(c: char) -> char {
    match c {
        'n' => '\n',
        't' => '\t',
        'r' => '\r',
        '0' => '\0',
        'b' => '\x08',
        'f' => '\x0c',
        c => c,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::part::table_name::quote;

    #[test]
    fn names_strings_and_signs_are_told_apart() {
        let sql = "SELECT `a \\` b`.\"c\"\"d\" /* TTL */, 'it\\'s ''x' -- TTL\nFROM ü_1(2)";
        let expected = [
            Token::Word("SELECT"),
            Token::Quoted("a ` b".to_owned()),
            Token::Sign('.'),
            Token::Quoted("c\"d".to_owned()),
            Token::Sign(','),
            Token::Text("it's 'x".to_owned()),
            Token::Word("FROM"),
            Token::Word("ü_1"),
            Token::Sign('('),
            Token::Word("2"),
            Token::Sign(')'),
        ];
        assert_eq!(tokens(sql), expected);
    }

    #[test]
    fn a_statement_that_is_cut_anywhere_ends_there() {
        let sql = "CREATE `a \\` ü` (\"x\" String DEFAULT 'it\\'s', y Ü) /* é */ -- TTL\n";
        for (cut, _) in sql.char_indices() {
            let cut = tokens(&sql[..cut]);
            let whole = cut.len().saturating_sub(1);
            assert_eq!(cut[..whole], tokens(sql)[..whole]);
        }
    }

    fn content() -> impl Strategy<Value = String> {
        prop_oneof!["[a`'\"\\\\ (/*\\-.ü\n\t]{0,12}", any::<String>()]
    }

    proptest! {
        #[test]
        fn what_is_quoted_is_read_as_it_was(name in content(), text in content()) {
            let escaped = text.replace('\\', "\\\\").replace('\'', "\\'");
            let doubled = name.replace('\\', "\\\\").replace('"', "\"\"");
            let sql = format!("{}'{escaped}'/*'*/\"{doubled}\"--`", quote(&name));
            let expected = [
                Token::Quoted(name.clone()),
                Token::Text(text),
                Token::Quoted(name),
            ];
            prop_assert_eq!(tokens(&sql), expected);
        }

        #[test]
        fn every_token_is_where_it_says(sql in content()) {
            let located = located(&sql);
            let mut end = 0;
            for (token, range) in &located {
                prop_assert!(end <= range.start && range.start < range.end);
                end = range.end;
                let here = &sql[range.clone()];
                match token {
                    Token::Word(word) => prop_assert_eq!(*word, here),
                    Token::Sign(sign) => prop_assert_eq!(sign.to_string(), here),
                    Token::Quoted(_) => prop_assert!(here.starts_with(['`', '"'])),
                    Token::Text(_) => prop_assert!(here.starts_with('\'')),
                }
                prop_assert_eq!(&tokens(here), std::slice::from_ref(token));
            }
        }

        #[test]
        fn between_tokens_are_blanks_and_comments_only(sql in content()) {
            let mut end = 0;
            for (_, range) in located(&sql) {
                prop_assert!(tokens(&sql[end..range.start]).is_empty());
                end = range.end;
            }
            prop_assert!(tokens(&sql[end..]).is_empty());
        }
    }
}
