//! The messages of `pgoutput`, the plugin of the server that tells what a change stream holds: its protocol 1, with
//! values in binary.
//!
//! *Trust*: nothing of a message is believed. What is cut off or unknown is said, and nothing panics.

/// From 1970 to 2000, which moments of the server are counted from.
pub(super) const MICROSECONDS: i64 = 946_684_800_000_000;

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Message<'a> {
    /// The changes of a transaction that committed follow, in the order of commits.
    Begin {
        /// The place in the log of its commit.
        commit: u64,
        /// When it committed, in microseconds since 2000.
        committed: i64,
        /// The low half of its number; parts of it (savepoints) are told under this one.
        transaction: u32,
    },
    /// What a relation is from here on.
    Relation {
        /// Its number.
        number: u32,
        /// The names of its columns, and whether they are in what old rows are told by.
        columns: Vec<(&'a str, bool)>,
    },
    Insert {
        relation: u32,
        new: Vec<Value<'a>>,
    },
    Update {
        relation: u32,
        /// Where the columns that old rows are told by have changed, or all are told.
        old: Option<Vec<Value<'a>>>,
        new: Vec<Value<'a>>,
    },
    Delete {
        relation: u32,
        old: Vec<Value<'a>>,
    },
    Truncate {
        relations: Vec<u32>,
    },
    /// What names no row: the end of a transaction, a type, an origin.
    Other,
}

/// A value of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Null,
    /// It is stored beside the row, was not changed, and is not told.
    Unchanged,
    /// As text, where the type has no binary form.
    Text,
    /// As the server sends it in binary.
    Binary(&'a [u8]),
}

impl<'a> Message<'a> {
    /// Reads one.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, String> {
        let mut rest = Rest(bytes);
        let message = match rest.byte()? {
            b'B' => {
                let commit = rest.u64()?;
                let committed = rest.u64()?.cast_signed();
                Self::Begin {
                    commit,
                    committed,
                    transaction: rest.u32()?,
                }
            }
            b'R' => {
                let number = rest.u32()?;
                let (_schema, _name, _identity) = (rest.text()?, rest.text()?, rest.byte()?);
                let mut columns = Vec::new();
                for _ in 0..rest.u16()? {
                    let is_told = rest.byte()? & 1 == 1;
                    columns.push((rest.text()?, is_told));
                    let (_type, _modifier) = (rest.u32()?, rest.u32()?);
                }
                Self::Relation { number, columns }
            }
            b'I' => {
                let relation = rest.u32()?;
                rest.expect(b"N")?;
                Self::Insert {
                    relation,
                    new: rest.tuple()?,
                }
            }
            b'U' => {
                let relation = rest.u32()?;
                let old = match rest.expect(b"KON")? {
                    b'N' => None,
                    _ => {
                        let old = rest.tuple()?;
                        rest.expect(b"N")?;
                        Some(old)
                    }
                };
                Self::Update {
                    relation,
                    old,
                    new: rest.tuple()?,
                }
            }
            b'D' => {
                let relation = rest.u32()?;
                rest.expect(b"KO")?;
                Self::Delete {
                    relation,
                    old: rest.tuple()?,
                }
            }
            b'T' => {
                let count = rest.u32()?;
                let _options = rest.byte()?;
                let relations = (0..count).map(|_| rest.u32());
                Self::Truncate {
                    relations: relations.collect::<Result<_, _>>()?,
                }
            }
            b'C' | b'O' | b'Y' | b'M' => return Ok(Self::Other),
            kind => return Err(format!("a message of the kind {:?}", char::from(kind))),
        };
        match rest.0 {
            [] => Ok(message),
            more => Err(format!("{} bytes behind a message", more.len())),
        }
    }
}

/// What of a message was not read yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, bytes: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self
            .0
            .split_at_checked(bytes)
            .ok_or("a message that is cut off")?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let taken = self.take(N)?;
        taken.try_into().map_err(|_| "a short number".to_owned())
    }

    fn byte(&mut self) -> Result<u8, String> {
        Ok(self.array::<1>()?[0])
    }

    fn u16(&mut self) -> Result<u16, String> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, String> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, String> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// A text that ends with a zero.
    fn text(&mut self) -> Result<&'a str, String> {
        let end = self.0.iter().position(|byte| *byte == 0);
        let text = self.take(end.ok_or("a name without an end")?)?;
        self.take(1)?;
        std::str::from_utf8(text).map_err(|_| "a name that is not UTF-8".to_owned())
    }

    /// One of some bytes.
    fn expect(&mut self, kinds: &[u8]) -> Result<u8, String> {
        let kind = self.byte()?;
        match kinds.contains(&kind) {
            true => Ok(kind),
            false => Err(format!("a row of the kind {:?}", char::from(kind))),
        }
    }

    fn tuple(&mut self) -> Result<Vec<Value<'a>>, String> {
        let count = self.u16()?;
        let mut values = Vec::with_capacity(usize::from(count).min(self.0.len()));
        for _ in 0..count {
            values.push(match self.byte()? {
                b'n' => Value::Null,
                b'u' => Value::Unchanged,
                kind @ (b't' | b'b') => {
                    let length = usize::try_from(self.u32()?).map_err(|_| "a long value")?;
                    let bytes = self.take(length)?;
                    match kind {
                        b't' => Value::Text,
                        _ => Value::Binary(bytes),
                    }
                }
                kind => return Err(format!("a value of the kind {:?}", char::from(kind))),
            });
        }
        Ok(values)
    }
}

/// Messages as the server writes them.
#[cfg(test)]
pub(super) mod written {
    use super::Value;

    pub(in crate::postgres) fn begin(commit: u64, transaction: u32) -> Vec<u8> {
        let parts = [&b"B"[..], &commit.to_be_bytes(), &[0; 8]];
        [&parts.concat(), &transaction.to_be_bytes()[..]].concat()
    }

    pub(in crate::postgres) fn relation(number: u32, columns: &[(&str, bool)]) -> Vec<u8> {
        let mut out = [&b"R"[..], &number.to_be_bytes(), b"public\0t\0d"].concat();
        out.extend((columns.len() as u16).to_be_bytes());
        for (name, is_told) in columns {
            out.push(u8::from(*is_told));
            out.extend(name.as_bytes());
            out.extend([0; 9]);
        }
        out
    }

    fn tuple(values: &[Value<'_>]) -> Vec<u8> {
        let mut out = (values.len() as u16).to_be_bytes().to_vec();
        for value in values {
            match value {
                Value::Null => out.push(b'n'),
                Value::Unchanged => out.push(b'u'),
                Value::Text => out.extend(b"t\0\0\0\x01x"),
                Value::Binary(bytes) => {
                    out.push(b'b');
                    out.extend((bytes.len() as u32).to_be_bytes());
                    out.extend(*bytes);
                }
            }
        }
        out
    }

    pub(in crate::postgres) fn insert(relation: u32, new: &[Value<'_>]) -> Vec<u8> {
        [&b"I"[..], &relation.to_be_bytes(), b"N", &tuple(new)].concat()
    }

    pub(in crate::postgres) fn update(
        relation: u32,
        old: Option<&[Value<'_>]>,
        new: &[Value<'_>],
    ) -> Vec<u8> {
        let old = old.map_or(Vec::new(), |old| [&b"K"[..], &tuple(old)].concat());
        let head = [&b"U"[..], &relation.to_be_bytes(), &old].concat();
        [&head[..], b"N", &tuple(new)].concat()
    }

    pub(in crate::postgres) fn delete(relation: u32, old: &[Value<'_>]) -> Vec<u8> {
        [&b"D"[..], &relation.to_be_bytes(), b"K", &tuple(old)].concat()
    }

    pub(in crate::postgres) fn truncate(relations: &[u32]) -> Vec<u8> {
        let mut out = [&b"T"[..], &(relations.len() as u32).to_be_bytes(), b"\0"].concat();
        for relation in relations {
            out.extend(relation.to_be_bytes());
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ROW: [Value<'static>; 3] = [Value::Binary(b"abc"), Value::Unchanged, Value::Null];

    fn all() -> Vec<(Vec<u8>, Message<'static>)> {
        let columns = vec![("id", true), ("note", false)];
        vec![
            (
                written::begin(7, 9),
                Message::Begin {
                    commit: 7,
                    committed: 0,
                    transaction: 9,
                },
            ),
            (
                written::relation(5, &columns),
                Message::Relation { number: 5, columns },
            ),
            (
                written::insert(5, &ROW),
                Message::Insert {
                    relation: 5,
                    new: ROW.to_vec(),
                },
            ),
            (
                written::update(5, None, &ROW),
                Message::Update {
                    relation: 5,
                    old: None,
                    new: ROW.to_vec(),
                },
            ),
            (
                written::update(5, Some(&[Value::Text]), &ROW),
                Message::Update {
                    relation: 5,
                    old: Some(vec![Value::Text]),
                    new: ROW.to_vec(),
                },
            ),
            (
                written::delete(5, &ROW),
                Message::Delete {
                    relation: 5,
                    old: ROW.to_vec(),
                },
            ),
            (
                written::truncate(&[5, 6]),
                Message::Truncate {
                    relations: vec![5, 6],
                },
            ),
        ]
    }

    #[test]
    fn each_message_is_read_as_it_was_written_and_none_that_is_cut_off_or_longer() {
        for (mut bytes, message) in all() {
            assert_eq!(Message::parse(&bytes), Ok(message));
            for end in 0..bytes.len() {
                assert!(Message::parse(&bytes[..end]).is_err(), "{bytes:?} {end}");
            }
            bytes.push(0);
            assert!(Message::parse(&bytes).is_err());
        }
        assert_eq!(Message::parse(b"C whatever"), Ok(Message::Other));
    }

    proptest! {
        #[test]
        fn no_bytes_are_a_panic(
            which in 0..7_usize, at: proptest::sample::Index, byte: u8, more: Vec<u8>,
        ) {
            let mut bytes = all()[which].0.clone();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = Message::parse(&bytes);
            let _ = Message::parse(&more);
        }
    }
}
