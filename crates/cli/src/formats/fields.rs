//! Which fields of a file are read, and what their columns are called.

use super::ReadError;

/// The most fields of a file that are told.
const MOST_SHOWN: usize = 100;

/// The fields of a file as columns.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fields {
    /// Fields and the columns they are for; any other field is called like its column.
    pub renamed: Vec<(String, String)>,
    /// The only columns to read; `None` reads all.
    pub wanted: Option<Vec<String>>,
    /// Columns that are passed over.
    pub skipped: Vec<String>,
}

impl Fields {
    /// The column that a field is for; `None` when it is passed over.
    pub fn column<'a>(&'a self, field: &'a str) -> Option<&'a str> {
        let column = self.called(field);
        let is_wanted = match &self.wanted {
            Some(wanted) => wanted.iter().any(|name| name == column),
            None => true,
        };
        let is_skipped = self.skipped.iter().any(|name| name == column);
        (is_wanted && !is_skipped).then_some(column)
    }

    /// The name of a field's column.
    fn called<'a>(&'a self, field: &'a str) -> &'a str {
        let mut renamed = self.renamed.iter();
        renamed
            .find(|(from, _)| from == field)
            .map_or(field, |(_, to)| to)
    }

    /// Whether everything that is named is among the fields of a file.
    ///
    /// # Errors
    /// A field to rename, or a column to read or to pass over, is not there.
    pub fn check<'a>(&self, fields: impl Iterator<Item = &'a str>) -> Result<(), ReadError> {
        let mut unseen = Unseen::new(self);
        fields.for_each(|field| unseen.see(field));
        unseen.check()
    }
}

/// What is named of the fields of a file and was not seen yet, for files that tell their fields row by row.
///
/// *Memory*: what is named, and the first names that were seen.
pub struct Unseen<'a> {
    fields: &'a Fields,
    /// Fields to rename.
    renamed: Vec<&'a str>,
    /// Columns to read or to pass over.
    columns: Vec<&'a str>,
    /// Fields that were seen.
    seen: Vec<String>,
}

impl<'a> Unseen<'a> {
    /// Before the first field.
    pub fn new(fields: &'a Fields) -> Self {
        let renamed = fields.renamed.iter().map(|(from, _)| from.as_str());
        let columns = fields.wanted.iter().flatten().chain(&fields.skipped);
        Self {
            fields,
            renamed: renamed.collect(),
            columns: columns.map(String::as_str).collect(),
            seen: Vec::new(),
        }
    }

    /// Whether all that is named was seen.
    pub fn is_empty(&self) -> bool {
        self.renamed.is_empty() && self.columns.is_empty()
    }

    /// Takes a field into account.
    pub fn see(&mut self, field: &str) {
        if self.is_empty() {
            return;
        }
        let called = self.fields.called(field);
        self.renamed.retain(|from| *from != field);
        self.columns.retain(|column| *column != called);
        if self.seen.len() < MOST_SHOWN && !self.seen.iter().any(|seen| seen == field) {
            self.seen.push(field.to_owned());
        }
    }

    /// Whether all that is named was seen.
    ///
    /// # Errors
    /// It was not. Of a file of many fields the first are told.
    pub fn check(&self) -> Result<(), ReadError> {
        let seen = self.seen.iter();
        let (name, known) = match (self.renamed.first(), self.columns.first()) {
            (None, None) => return Ok(()),
            (Some(from), _) => (from, seen.cloned().collect()),
            (None, Some(column)) => {
                let called = seen.map(|field| self.fields.called(field).to_owned());
                (column, called.collect())
            }
        };
        Err(ReadError::MissingField {
            field: (*name).to_owned(),
            known,
        })
    }
}

/// Reads `OLD=NEW`; the last `=` stands between them.
pub fn parse_rename(text: &str) -> Result<(String, String), String> {
    match text.rsplit_once('=') {
        Some((from, to)) if !from.is_empty() && !to.is_empty() => Ok((from.into(), to.into())),
        _ => Err("a renamed column is OLD=NEW".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_renamed_before_it_is_wanted_or_skipped() {
        let fields = Fields {
            renamed: vec![parse_rename("Price (USD)=price").unwrap()],
            wanted: Some(vec!["id".into(), "price".into()]),
            skipped: Vec::new(),
        };
        assert_eq!(fields.column("Price (USD)"), Some("price"));
        assert_eq!(fields.column("id"), Some("id"));
        assert_eq!(fields.column("other"), None);
        fields.check(["id", "Price (USD)"].into_iter()).unwrap();
        let error = fields.check(["id", "Price"].into_iter()).unwrap_err();
        assert_eq!(error.to_string(), "the file has no column \"Price (USD)\"");
        let skipping = Fields {
            skipped: vec!["list".into()],
            ..Fields::default()
        };
        assert_eq!(skipping.column("list"), None);
        assert!(skipping.check(["id"].into_iter()).is_err());
        assert!(parse_rename("price").is_err());
    }
}
