//! The flags that say what a new table is, and the schema they make.

use std::path::PathBuf;

use clap::Args;
use mendb_model::key_text::{self, BadKey};
use mendb_model::schema::SchemaError;
use mendb_model::text::TextRules;
use mendb_model::{Column, IndexSchema, KeyRange, TableSchema};

use crate::failure::Failure;
use crate::formats::table_file::TableFile;

/// What a new table is.
#[derive(Debug, Args, Default)]
pub struct DefinitionArgs {
    /// The schema, as YAML or JSON: columns (name, type, not_null), key, indexes (name, columns,
    /// cover, unique)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["key", "index", "unique_index"])]
    pub schema: Option<PathBuf>,
    /// The key columns, in key order
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    pub key: Vec<String>,
    /// A global index: NAME=COLUMN,...[+COVERED,...]
    #[arg(long, value_name = "NAME=X,Y+Z", value_parser = parse_index)]
    pub index: Vec<IndexSchema>,
    /// A global index whose columns no two rows may share: NAME=COLUMN,...[+COVERED,...]
    #[arg(long, value_name = "NAME=X,Y+Z", value_parser = parse_index)]
    pub unique_index: Vec<IndexSchema>,
    /// Begin a new shard at this key, one value per key column or fewer: 1234,"a,b",NULL; may be given many
    /// times
    #[arg(long, value_name = "KEY", allow_hyphen_values = true)]
    pub split_at: Vec<String>,
}

impl DefinitionArgs {
    /// Whether any flag was given.
    pub fn is_given(&self) -> bool {
        self.schema.is_some()
            || !self.key.is_empty()
            || !self.index.is_empty()
            || !self.unique_index.is_empty()
            || !self.split_at.is_empty()
    }

    /// Whether the key or an index is said, so that a schema that came with the rows is not enough.
    pub fn says_key(&self) -> bool {
        !self.key.is_empty() || !self.index.is_empty() || !self.unique_index.is_empty()
    }

    /// The schema file, if one was named.
    pub fn schema_file(&self) -> Result<Option<TableFile>, Failure> {
        self.schema.as_deref().map(TableFile::read).transpose()
    }

    /// The schema of a table with these columns and the key and indexes of the flags.
    ///
    /// # Errors
    /// There is no key, or a key or index names a column that is not there or cannot be in a key.
    pub fn schema_with(&self, columns: Vec<Column>) -> Result<TableSchema, Failure> {
        let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
        let hint = format!("its columns are {}", mendb_model::names(&names));
        if self.key.is_empty() {
            return Err(Failure::misuse("a new table needs a key: --key A,B").hint(hint));
        }
        let unique = self.unique_index.iter().map(|index| IndexSchema {
            unique: true,
            ..index.clone()
        });
        let schema = TableSchema {
            columns,
            key: self.key.clone(),
            indexes: self.index.iter().cloned().chain(unique).collect(),
        };
        schema.validate().map_err(|error| {
            let hint = match &error {
                SchemaError::ColumnName(_) => {
                    "call it otherwise; an import does with --rename-column OLD=NEW".to_owned()
                }
                _ => hint,
            };
            Failure::from(error).hint(hint)
        })?;
        Ok(schema)
    }

    /// The keys that shards begin at.
    ///
    /// # Errors
    /// One is not a key of the schema.
    pub fn splits(&self, schema: &TableSchema, rules: &TextRules) -> Result<Vec<Vec<u8>>, Failure> {
        self.split_at
            .iter()
            .map(|text| parse_key(text, schema, rules))
            .collect()
    }
}

/// Reads `by_x=x,y+cover1,cover2`.
fn parse_index(text: &str) -> Result<IndexSchema, String> {
    let (name, columns) = text
        .split_once('=')
        .ok_or("an index is NAME=COLUMN,...[+COVERED,...]")?;
    let (columns, cover) = columns.split_once('+').unwrap_or((columns, ""));
    let list = |text: &str| -> Vec<String> {
        let names = text.split(',').map(str::trim);
        names
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect()
    };
    Ok(IndexSchema {
        name: name.trim().to_owned(),
        columns: list(columns),
        cover: list(cover),
        unique: false,
    })
}

/// Reads `name:Type` and `name:Type:not_null`.
pub fn parse_column(text: &str) -> Result<Column, String> {
    const FORM: &str = "a column is NAME:TYPE or NAME:TYPE:not_null";
    let (name, rest) = text.split_once(':').ok_or(FORM)?;
    let (column_type, not_null) = match rest.split_once(':') {
        None => (rest, false),
        Some((column_type, "not_null")) => (column_type, true),
        Some(_) => return Err(FORM.to_owned()),
    };
    Ok(Column {
        name: name.to_owned(),
        column_type: column_type
            .parse()
            .map_err(|error: mendb_model::value::UnknownType| error.to_string())?,
        not_null,
    })
}

/// The bytes of a key as [`key_text`] reads it.
///
/// # Errors
/// It is not one of the schema.
pub fn parse_key(
    written: &str,
    schema: &TableSchema,
    rules: &TextRules,
) -> Result<Vec<u8>, Failure> {
    key_text::parse(written, &schema.key_types(), rules)
        .map_err(|error| not_a_key(&format!("{written:?} is not a key"), &error, schema))
}

/// A range of keys as [`key_text`] reads it.
///
/// # Errors
/// It is not one of the schema, or no key can be in it.
pub fn parse_key_range(
    written: &str,
    schema: &TableSchema,
    rules: &TextRules,
) -> Result<KeyRange, Failure> {
    let range = key_text::parse_range(written, &schema.key_types(), rules)
        .map_err(|error| not_a_key(&format!("{written:?} is not FROM..TO"), &error, schema))?;
    if range.is_empty() {
        return Err(Failure::misuse(format!(
            "{written:?} holds no key: FROM comes first"
        )));
    }
    Ok(range)
}

fn not_a_key(what: &str, error: &BadKey, schema: &TableSchema) -> Failure {
    let why = match error {
        BadKey::Value { at, .. } => {
            let name = schema.key.get(*at).map_or("", String::as_str);
            format!("column {name}: {error}")
        }
        BadKey::Form(_) => error.to_string(),
    };
    let form = key_form(schema);
    Failure::misuse(format!("{what}: {why}")).hint(match error {
        BadKey::Value { source, .. } if source.misfit.can_be_rounded() => {
            format!("a key is {form}; --round takes the nearest value")
        }
        BadKey::Value { .. } => format!("a key is {form}"),
        BadKey::Form(_) => format!(
            "a key is {form}; text with commas, dots or spaces stands in quotes, as in \"a,b\", and NULL is NULL"
        ),
    })
}

/// `o_orderkey Int64,l_linenumber Int32`
fn key_form(schema: &TableSchema) -> String {
    let columns = schema.key.iter().zip(schema.key_types());
    let shown: Vec<String> = columns
        .map(|(name, column_type)| format!("{name} {column_type}"))
        .collect();
    shown.join(",")
}

#[cfg(test)]
mod tests {
    use mendb_model::ColumnType;

    use super::*;

    #[test]
    fn an_index_is_its_columns_and_those_it_covers() {
        let index = parse_index("by_x=x,y+cover1,cover2").unwrap();
        assert_eq!(index.name, "by_x");
        assert_eq!(index.columns, ["x", "y"]);
        assert_eq!(index.cover, ["cover1", "cover2"]);
        assert!(parse_index("by_x").is_err());
    }

    #[test]
    fn a_column_is_a_name_and_a_type() {
        let column = parse_column("price:Decimal(15,2):not_null").unwrap();
        assert_eq!(column.name, "price");
        assert_eq!(
            column.column_type,
            ColumnType::Decimal {
                precision: 15,
                scale: 2
            }
        );
        assert!(column.not_null);
        for bad in ["price", "price:Money", "price:Int64:null"] {
            assert!(parse_column(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_key_has_one_value_per_column_or_fewer() {
        let args = DefinitionArgs {
            key: vec!["a".into(), "b".into()],
            ..DefinitionArgs::default()
        };
        let columns = ["a:Int64", "b:Utf8"].map(|text| parse_column(text).unwrap());
        let schema = args.schema_with(columns.to_vec()).unwrap();
        let shown = |written| {
            let key = parse_key(written, &schema, &TextRules::EXACT).unwrap();
            key_text::display(&key, &schema.key_types())
        };
        assert_eq!(shown("1234,abc"), "1234,abc");
        assert_eq!(shown("1234,\"a,b\""), "1234,\"a,b\"");
        assert!(parse_key("1234,a,b", &schema, &TextRules::EXACT).is_err());
        assert_eq!(shown("1234"), "1234");
        let failure = parse_key("x,abc", &schema, &TextRules::EXACT).unwrap_err();
        assert_eq!(
            failure.message,
            "\"x,abc\" is not a key: column a: \"x\" is not a value of type Int64"
        );
        let hint = failure.hint.unwrap();
        assert!(hint.starts_with("a key is a Int64,b Utf8"), "{hint}");
    }
}
