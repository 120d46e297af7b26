//! Types inside of values: elements of arrays, attributes of composites, bounds of ranges.
//!
//! The server sends an array with the number of the type of its elements, and a composite with those of its attributes.
//! Types that users made have other numbers in each database, so that a backup has none of them: what it says of the
//! column tells their names, and the number is put back when the value is written.

use std::collections::BTreeMap;
use std::fmt;

use postgres::Client;
use serde::{Deserialize, Serialize};

use super::error::{failed, refused};
use crate::error::EngineError;

/// Types have the same numbers below this in all databases of all versions.
const FIRST_OWN_NUMBER: u32 = 10_000;
/// So deep types are within types.
const MOST_DEEP: usize = 64;

/// How values of a type are made of values of others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Form {
    /// Of none.
    Plain,
    /// Of elements.
    Array(Box<Inner>),
    /// Of attributes.
    Composite(Vec<Attribute>),
    /// Of bounds, which have no numbers themselves.
    Range(Box<Form>),
    /// Of ranges.
    Multirange(Box<Form>),
}

/// A type within another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Inner {
    /// As the server writes it: `public.mood`.
    #[serde(rename = "type")]
    pub(super) name: String,
    #[serde(default = "plain", skip_serializing_if = "Form::is_plain")]
    pub(super) form: Form,
}

/// An attribute of a composite.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Attribute {
    pub(super) name: String,
    #[serde(flatten)]
    pub(super) of: Inner,
}

fn plain() -> Form {
    Form::Plain
}

/// What a type is made of, for people: nothing of one that is made of nothing else.
impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain => Ok(()),
            Self::Array(inner) => inner.form.fmt(f),
            Self::Range(form) | Self::Multirange(form) => form.fmt(f),
            Self::Composite(attributes) => {
                for (at, attribute) in attributes.iter().enumerate() {
                    let Attribute { name, of } = attribute;
                    let before = if at == 0 { " (" } else { ", " };
                    write!(f, "{before}{name} {}{}", of.name, of.form)?;
                }
                f.write_str(if attributes.is_empty() { " ()" } else { ")" })
            }
        }
    }
}

impl Form {
    pub(super) fn is_plain(&self) -> bool {
        *self == Self::Plain
    }

    /// The names of the types within.
    fn names<'a>(&'a self, names: &mut Vec<&'a str>) {
        let mut inner = |inner: &'a Inner| {
            names.push(&inner.name);
            inner.form.names(names);
        };
        match self {
            Self::Plain => {}
            Self::Array(of) => inner(of),
            Self::Composite(attributes) => attributes.iter().for_each(|a| inner(&a.of)),
            Self::Range(form) | Self::Multirange(form) => form.names(names),
        }
    }
}

/// The numbers that types of a database have, by their names.
#[derive(Debug, Clone, Default)]
pub(super) struct Numbers(BTreeMap<String, u32>);

impl Numbers {
    /// Asks for those of the types within some forms.
    ///
    /// # Errors
    /// There is no such type.
    pub(super) fn of<'a>(
        client: &mut Client,
        forms: impl Iterator<Item = &'a Form>,
    ) -> Result<Self, EngineError> {
        let mut names = Vec::new();
        forms.for_each(|form| form.names(&mut names));
        names.sort_unstable();
        names.dedup();
        if names.is_empty() {
            return Ok(Self::default());
        }
        let rows = client.query(
            "SELECT name, coalesce(to_regtype(name)::oid, 0::oid) FROM unnest($1::text[]) AS name",
            &[&names],
        );
        let rows = rows.map_err(|error| failed("look for types", &error))?;
        let mut numbers = BTreeMap::new();
        for row in rows {
            let (name, number): (String, u32) = (row.get(0), row.get(1));
            if number == 0 {
                return Err(refused(format!(
                    "there is no type {name}, which values of the backup are made of: create it first, as it was"
                )));
            }
            numbers.insert(name, number);
        }
        Ok(Self(numbers))
    }

    /// Takes the numbers of this database out of a value.
    ///
    /// # Errors
    /// What the value is instead of one of the form.
    pub(super) fn take_out(&self, form: &Form, value: &mut [u8]) -> Result<(), String> {
        self.walk(form, value, &mut |field, number| {
            if *field != number.to_be_bytes() {
                return Err(format!(
                    "a value with a type of number {} in it, where {number} was expected",
                    u32::from_be_bytes(*field)
                ));
            }
            if number >= FIRST_OWN_NUMBER {
                *field = [0; 4];
            }
            Ok(())
        })
    }

    /// Puts them into a value that has none.
    ///
    /// # Errors
    /// As [`Self::take_out`].
    pub(super) fn put_in(&self, form: &Form, value: &mut [u8]) -> Result<(), String> {
        self.walk(form, value, &mut |field, number| {
            *field = number.to_be_bytes();
            Ok(())
        })
    }

    /// Visits each place of a value in which the number of a type is, with that number.
    fn walk(&self, form: &Form, value: &mut [u8], visit: Visit<'_>) -> Result<(), String> {
        let mut rest = Rest(value);
        self.walk_rest(form, &mut rest, visit)?;
        match rest.0.len() {
            0 => Ok(()),
            bytes => Err(format!("a value of {bytes} bytes more than its type has")),
        }
    }

    fn walk_rest(&self, form: &Form, rest: &mut Rest<'_>, visit: Visit<'_>) -> Result<(), String> {
        match form {
            Form::Plain => rest.0 = &mut [],
            Form::Array(inner) => {
                let dimensions = rest.number()?;
                rest.take(4)?;
                self.visit(inner, rest, visit)?;
                let mut elements: u64 = u64::from(dimensions > 0);
                for _ in 0..dimensions {
                    elements = elements.saturating_mul(u64::from(rest.number()?));
                    rest.take(4)?;
                }
                for _ in 0..elements {
                    self.walk_sized(&inner.form, rest, visit)?;
                }
            }
            Form::Composite(attributes) => {
                let count = rest.number()?;
                if usize::try_from(count) != Ok(attributes.len()) {
                    return Err(format!(
                        "a value of {count} attributes, where its type has {}",
                        attributes.len()
                    ));
                }
                for attribute in attributes {
                    self.visit(&attribute.of, rest, visit)?;
                    self.walk_sized(&attribute.of.form, rest, visit)?;
                }
            }
            Form::Range(bound) => {
                let flags = rest.take(1)?[0];
                for missing in [EMPTY | LOWER_INFINITE, EMPTY | UPPER_INFINITE] {
                    if flags & missing == 0 {
                        self.walk_sized(bound, rest, visit)?;
                    }
                }
            }
            Form::Multirange(range) => {
                for _ in 0..rest.number()? {
                    self.walk_sized(range, rest, visit)?;
                }
            }
        }
        Ok(())
    }

    /// A value with its length in front, which may be NULL.
    fn walk_sized(&self, form: &Form, rest: &mut Rest<'_>, visit: Visit<'_>) -> Result<(), String> {
        let length = rest.number()?;
        if length == NULL {
            return Ok(());
        }
        let length = usize::try_from(length).map_err(|_| cut_off())?;
        let value = rest.take(length)?;
        self.walk(form, value, visit)
    }

    fn visit(&self, inner: &Inner, rest: &mut Rest<'_>, visit: Visit<'_>) -> Result<(), String> {
        let number = self.0.get(&inner.name);
        let number = number.ok_or_else(|| format!("a value with a type {} in it", inner.name))?;
        let field = rest.take(4)?;
        visit(field.try_into().map_err(|_| cut_off())?, *number)
    }
}

/// Takes the place of a number and the number that belongs there.
type Visit<'a> = &'a mut dyn FnMut(&mut [u8; 4], u32) -> Result<(), String>;

/// A length that says that there is no value.
const NULL: u32 = u32::MAX;
/// Bits of the first byte of a range.
const EMPTY: u8 = 0x01;
const LOWER_INFINITE: u8 = 0x08;
const UPPER_INFINITE: u8 = 0x10;

/// What of a value was not walked over yet.
struct Rest<'a>(&'a mut [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, bytes: usize) -> Result<&'a mut [u8], String> {
        let all = std::mem::take(&mut self.0);
        let (taken, rest) = all.split_at_mut_checked(bytes).ok_or_else(cut_off)?;
        self.0 = rest;
        Ok(taken)
    }

    fn number(&mut self) -> Result<u32, String> {
        let bytes = self.take(4)?;
        let bytes: &mut [u8; 4] = bytes.try_into().map_err(|_| cut_off())?;
        Ok(u32::from_be_bytes(*bytes))
    }
}

fn cut_off() -> String {
    "a value that ends before its end".to_owned()
}

/// What the catalogues say of types by their numbers.
pub(super) struct Types(BTreeMap<u32, TypeEntry>);

/// A type.
struct TypeEntry {
    name: String,
    /// The function that sends its values: it tells what they are made of.
    sent_by: String,
    /// Of a domain.
    base: Option<u32>,
    /// Of an array, range or multirange.
    element: Option<u32>,
    /// Of a composite, with the name and the type as the server writes it.
    attributes: Vec<(String, u32, String)>,
}

impl Types {
    /// Reads some types, and those within them.
    pub(super) fn read(client: &mut Client, numbers: &[u32]) -> Result<Self, EngineError> {
        let mut found = BTreeMap::new();
        let mut wanted = numbers.to_vec();
        while !wanted.is_empty() {
            let rows = client.query(
                "SELECT t.oid, format_type(t.oid, NULL),
                        CASE WHEN t.typsend::oid <> 0 THEN t.typsend::regproc::text ELSE '' END,
                        CASE WHEN t.typtype = 'd' THEN t.typbasetype END,
                        CASE t.typsend::regproc::text
                             WHEN 'array_send' THEN t.typelem
                             WHEN 'range_send' THEN (SELECT r.rngsubtype FROM pg_range r WHERE r.rngtypid = t.oid)
                             WHEN 'multirange_send' THEN (SELECT r.rngtypid FROM pg_range r WHERE r.rngmultitypid = t.oid)
                        END,
                        a.names, a.types, a.written
                 FROM pg_type t, LATERAL (
                     SELECT coalesce(array_agg(a.attname::text ORDER BY a.attnum), '{}') AS names,
                            coalesce(array_agg(a.atttypid ORDER BY a.attnum), '{}') AS types,
                            coalesce(array_agg(format_type(a.atttypid, a.atttypmod) ORDER BY a.attnum), '{}') AS written
                     FROM pg_attribute a
                     WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
                 ) a
                 WHERE t.oid = ANY ($1)",
                &[&wanted],
            );
            let mut next = Vec::new();
            for row in rows.map_err(|error| failed("read types", &error))? {
                let (names, types, written): (Vec<String>, Vec<u32>, Vec<String>) =
                    (row.get(5), row.get(6), row.get(7));
                let attributes = names.into_iter().zip(types).zip(written);
                let entry = TypeEntry {
                    name: row.get(1),
                    sent_by: row.get(2),
                    base: row.get(3),
                    element: row.get(4),
                    attributes: attributes.map(|((n, t), w)| (n, t, w)).collect(),
                };
                next.extend(entry.base.iter().chain(&entry.element).copied());
                next.extend(entry.attributes.iter().map(|(_, number, _)| *number));
                found.insert(row.get(0), entry);
            }
            next.retain(|number| !found.contains_key(number));
            next.sort_unstable();
            next.dedup();
            wanted = next;
        }
        Ok(Self(found))
    }

    /// What values of a type are made of.
    ///
    /// # Errors
    /// Why they cannot be carried.
    pub(super) fn form(&self, number: u32) -> Result<Form, String> {
        self.form_within(number, 0)
    }

    fn form_within(&self, number: u32, depth: usize) -> Result<Form, String> {
        let entry = self.0.get(&number);
        let entry = entry.filter(|_| depth < MOST_DEEP);
        let entry = entry.ok_or_else(|| "whose definition cannot be read".to_owned())?;
        if let Some(base) = entry.base {
            return self.form_within(base, depth + 1);
        }
        let inner = |number: u32, name: Option<&String>| {
            let own = self.0.get(&number).map(|entry| &entry.name);
            let name = name.or(own);
            Ok::<_, String>(Inner {
                name: name.cloned().unwrap_or_default(),
                form: self.form_within(number, depth + 1)?,
            })
        };
        Ok(match (entry.sent_by.as_str(), entry.element) {
            ("", _) => {
                return Err(format!(
                    "which has values of type {} in it, and the server does not send those in binary",
                    entry.name
                ));
            }
            ("array_send", Some(element)) => Form::Array(Box::new(inner(element, None)?)),
            ("range_send", Some(bound)) => match self.form_within(bound, depth + 1)? {
                Form::Plain => Form::Plain,
                form => Form::Range(Box::new(form)),
            },
            ("multirange_send", Some(range)) => match self.form_within(range, depth + 1)? {
                Form::Plain => Form::Plain,
                form => Form::Multirange(Box::new(form)),
            },
            ("record_send", _) => {
                let attributes = entry.attributes.iter().map(|(name, number, written)| {
                    Ok(Attribute {
                        name: name.clone(),
                        of: inner(*number, Some(written))?,
                    })
                });
                Form::Composite(attributes.collect::<Result<_, String>>()?)
            }
            _ => Form::Plain,
        })
    }

    /// Whether a form has numbers in it that differ between databases, or attributes.
    pub(super) fn has_own_numbers(&self, form: &Form) -> bool {
        let is_own = |name: &str| {
            let mut entries = self.0.iter();
            entries.any(|(number, entry)| *number >= FIRST_OWN_NUMBER && entry.name == name)
        };
        match form {
            Form::Plain => false,
            Form::Array(inner) => is_own(&inner.name) || self.has_own_numbers(&inner.form),
            Form::Composite(_) => true,
            Form::Range(form) | Form::Multirange(form) => self.has_own_numbers(form),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inner(name: &str, form: Form) -> Inner {
        Inner {
            name: name.to_owned(),
            form,
        }
    }

    fn attribute(name: &str, of: Inner) -> Attribute {
        Attribute {
            name: name.to_owned(),
            of,
        }
    }

    fn numbers(of: &[(&str, u32)]) -> Numbers {
        let of = of
            .iter()
            .map(|(name, number)| ((*name).to_owned(), *number));
        Numbers(of.collect())
    }

    /// A composite of an integer and an array of two moods, of which one is NULL.
    fn value(mood: u32) -> Vec<u8> {
        let mut array = Vec::new();
        for number in [1, 1, mood, 2, 1, 2] {
            array.extend(number.to_be_bytes());
        }
        array.extend(b"ok");
        array.extend(NULL.to_be_bytes());
        let mut value = Vec::new();
        for number in [2_u32, 23, 4, 7] {
            value.extend(number.to_be_bytes());
        }
        value.extend((mood + 1).to_be_bytes());
        value.extend((array.len() as u32).to_be_bytes());
        value.extend(array);
        value
    }

    fn form() -> Form {
        let moods = Form::Array(Box::new(inner("public.mood", Form::Plain)));
        Form::Composite(vec![
            attribute("n", inner("integer", Form::Plain)),
            attribute("moods", inner("public.mood[]", moods)),
        ])
    }

    #[test]
    fn values_have_the_numbers_of_the_database_that_they_are_in() {
        let of = |mood| {
            numbers(&[
                ("integer", 23),
                ("public.mood", mood),
                ("public.mood[]", mood + 1),
            ])
        };
        let mut here = value(20_000);
        of(20_000).take_out(&form(), &mut here).unwrap();
        let mut there = value(30_000);
        of(30_000).take_out(&form(), &mut there).unwrap();
        assert_eq!(here, there, "a backup has none of them");
        of(30_000).put_in(&form(), &mut here).unwrap();
        assert_eq!(here, value(30_000));
        assert_eq!(
            form().to_string(),
            " (n integer, moods public.mood[])",
            "people are told what it is made of"
        );
    }

    #[test]
    fn what_is_no_value_of_the_type_is_told() {
        let of = numbers(&[
            ("integer", 23),
            ("public.mood", 20_000),
            ("public.mood[]", 20_001),
        ]);
        let whole = value(20_000);
        for length in 0..whole.len() {
            let mut cut = whole[..length].to_vec();
            of.take_out(&form(), &mut cut).unwrap_err();
        }
        let mut longer = [whole.as_slice(), &[0]].concat();
        of.take_out(&form(), &mut longer).unwrap_err();
        let why = of.take_out(&form(), &mut value(20_004)).unwrap_err();
        assert!(why.contains("number 20005"), "{why}");
    }

    #[test]
    fn a_form_comes_back_from_what_a_backup_says_of_it() {
        let range = Form::Range(Box::new(form()));
        let array = Form::Array(Box::new(inner(
            "public.spans",
            Form::Multirange(Box::new(range)),
        )));
        let told = serde_json::to_string(&array).unwrap();
        assert_eq!(
            serde_json::from_str::<Form>(&told).unwrap(),
            array,
            "{told}"
        );
    }
}
