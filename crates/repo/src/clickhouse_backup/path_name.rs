//! Names of databases, tables and parts as they stand in paths: every byte that is no letter, digit or
//! underscore of ASCII becomes `%` and two hex digits.

use std::fmt::Write;

/// A name as paths have it.
pub fn encode(name: &str) -> String {
    let mut encoded = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'_' {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String does not fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// The name that a path has; `None` for what no name encodes to. More is accepted than is written:
/// digits in either case, and characters that need not have been encoded.
pub fn decode(encoded: &str) -> Option<String> {
    let mut name = Vec::with_capacity(encoded.len());
    let mut bytes = encoded.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            name.push(byte);
            continue;
        }
        let high = char::from(bytes.next()?).to_digit(16)?;
        let low = char::from(bytes.next()?).to_digit(16)?;
        name.push(u8::try_from(high << 4 | low).ok()?);
    }
    String::from_utf8(name).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_letters_digits_and_underscores_stay() {
        assert_eq!(encode("hits_2024"), "hits_2024");
        assert_eq!(encode("a.b-c ~/д"), "a%2Eb%2Dc%20%7E%2F%D0%B4");
        assert_eq!(decode("a%2eb-c"), Some("a.b-c".to_owned()));
    }

    #[test]
    fn what_no_name_encodes_to_has_none() {
        for bad in ["%", "%2", "%2G", "%+1", "%FF", "a%"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_name_is_read_as_it_was_written(name in "\\PC{0,20}|.{0,20}") {
            let encoded = encode(&name);
            prop_assert!(!encoded.contains(['/', '.', '\\', '-']));
            prop_assert_eq!(decode(&encoded), Some(name));
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,20}|[%0-9A-Fa-f]{0,12}") {
            drop(decode(&text));
        }
    }
}
