//! How people write the name of a table: `database.table`, with backquotes where that is not clear.

use super::table_name::TableName;

impl TableName {
    /// The table that people name as `database.table`. The database ends at the first dot; where it has
    /// dots itself, or either name has other signs, backquotes tell: `` `a.b`.c ``, `` a.`b=c` ``. `None`
    /// for what names no table.
    pub fn parse(text: &str) -> Option<Self> {
        let at = match text.strip_prefix('`') {
            Some(quoted) => quoted.find("`.")? + 2,
            None => text.find('.')?,
        };
        let plain = |part: &str| -> Option<String> {
            let name = match part.strip_prefix('`') {
                Some(quoted) => quoted.strip_suffix('`')?,
                None => part,
            };
            (!name.is_empty()).then(|| name.to_owned())
        };
        Some(Self {
            database: plain(&text[..at])?,
            table: plain(&text[at + 1..])?,
        })
    }

    /// The name as [`Self::parse`] reads it, for people to write.
    pub fn spelled(&self) -> String {
        let spell = |name: &str, signs: &[char]| {
            if name.contains(signs) {
                format!("`{name}`")
            } else {
                name.to_owned()
            }
        };
        let database = spell(&self.database, &['.', '=', ',', ' ']);
        format!("{database}.{}", spell(&self.table, &['=', ',', ' ']))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn backquotes_tell_where_a_database_ends() {
        let named = |database: &str, table: &str| Some(TableName::new(database, table));
        for (text, table) in [
            ("d.t", named("d", "t")),
            ("d.a.b", named("d", "a.b")),
            ("d..inner.v", named("d", ".inner.v")),
            ("`a.b`.t", named("a.b", "t")),
            ("`a.b`.`c.d`", named("a.b", "c.d")),
            ("d.`t`", named("d", "t")),
            ("d.t`", named("d", "t`")),
            ("`a.b.t", None),
            ("`a`b.t", None),
            ("d.`t", None),
            ("t", None),
            (".t", None),
            ("d.", None),
            ("``.t", None),
        ] {
            assert_eq!(TableName::parse(text), table, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_name_is_read_as_it_is_spelled(
            database in "[a-z.= ,]{1,6}", table in "[a-z.= ,]{1,6}",
        ) {
            let name = TableName::new(database, table);
            prop_assert_eq!(TableName::parse(&name.spelled()), Some(name));
        }
    }
}
