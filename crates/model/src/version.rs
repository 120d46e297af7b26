//! A moment in the life of a target.

use std::fmt;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The version of a target at a moment. Versions of one target order as their moments do, and equal ones are of one
/// moment. Only the engine knows what a version counts: commits, the bytes of a log, a file of a log and a place in
/// it, a step of a coordinator and a transaction in that. Versions of different targets do not compare.
///
/// Serialised as a number where 64 bits hold it, else as text: `"7:4711"`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    high: u64,
    low: u64,
}

impl Version {
    /// A version of two numbers, of which the first counts more.
    pub const fn of_two(high: u64, low: u64) -> Self {
        Self { high, low }
    }

    /// Its two numbers; the first is 0 of a version that is one number.
    pub const fn as_two(self) -> (u64, u64) {
        (self.high, self.low)
    }

    /// The number that it is, if it is one.
    pub const fn as_number(self) -> Option<u64> {
        match self.high {
            0 => Some(self.low),
            _ => None,
        }
    }
}

impl From<u64> for Version {
    fn from(number: u64) -> Self {
        Self::of_two(0, number)
    }
}

/// `4711`, or `7:4711` of two numbers.
impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.as_number() {
            Some(number) => number.fmt(f),
            None => write!(f, "{}:{}", self.high, self.low),
        }
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.as_number() {
            Some(number) => serializer.serialize_u64(number),
            None => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Version;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a version: a number, or two as 7:4711")
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Version, E> {
                Ok(number.into())
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Version, E> {
                let bad = || E::custom(format!("{text:?} is no version"));
                let (high, low) = text.split_once(':').ok_or_else(bad)?;
                let number = |digits: &str| digits.parse::<u64>().map_err(|_| bad());
                Ok(Version::of_two(number(high)?, number(low)?))
            }
        }

        deserializer.deserialize_any(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_order_by_their_first_number_and_then_by_the_other() {
        let ordered = [
            Version::default(),
            Version::from(7),
            Version::from(u64::MAX),
            Version::of_two(1, 0),
            Version::of_two(1, 9),
            Version::of_two(2, 3),
        ];
        assert!(ordered.is_sorted_by(|one, other| one < other));
    }

    #[test]
    fn one_number_is_written_as_before_and_two_come_back() {
        for (version, text) in [
            (Version::from(4711), "4711"),
            (Version::from(u64::MAX), "18446744073709551615"),
            (Version::of_two(7, 4711), "\"7:4711\""),
        ] {
            assert_eq!(serde_json::to_string(&version).unwrap(), text);
            assert_eq!(serde_json::from_str::<Version>(text).unwrap(), version);
            assert_eq!(version.to_string(), text.trim_matches('"'));
        }
        for text in ["-1", "1.5", "\"7\"", "\"7:\"", "\"a:b\"", "null"] {
            serde_json::from_str::<Version>(text).unwrap_err();
        }
    }
}
