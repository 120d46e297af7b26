//! Where in its keeper a replicated table is: a path that no two tables of different names can share.

use std::ops::Range;

use super::secret::Secret;
use super::statement::{Token, located};
use super::table::TableDefinition;
use super::table_name::TableName;

impl TableDefinition {
    /// The path in the keeper that a table of this definition gets under a name, where it must not be that
    /// of the definition: because the user says so by a template with `{database}` and `{table}`, or
    /// because it would be the path of the table that was backed up.
    pub fn replica_path(&self, target: &TableName, template: Option<&str>) -> Option<String> {
        let (path, _) = path_in(self.statement()?)?;
        let new = match template {
            Some(template) => template
                .replace("{database}", &target.database)
                .replace("{table}", &target.table),
            None => path_for(&path, &self.name, target),
        };
        (new != path).then_some(new)
    }

    /// The same at another path.
    #[must_use]
    pub fn at_replica_path(&self, path: &str) -> Self {
        let moved = |sql: &str| match path_in(sql) {
            Some((_, range)) => {
                let path = path.replace('\\', "\\\\").replace('\'', "\\'");
                format!("{}'{path}'{}", &sql[..range.start], &sql[range.end..])
            }
            None => sql.to_owned(),
        };
        Self {
            create_query: moved(&self.create_query),
            whole_query: self
                .whole_query
                .as_ref()
                .map(|whole| Secret::new(moved(whole.reveal()))),
            ..self.clone()
        }
    }
}

/// The path that the engine of a statement is given, and its place.
fn path_in(sql: &str) -> Option<(String, Range<usize>)> {
    let tokens = located(sql);
    tokens.windows(5).find_map(|tokens| match tokens {
        [
            (Token::Word("ENGINE"), _),
            (Token::Sign('='), _),
            (Token::Word(engine), _),
            (Token::Sign('('), _),
            (Token::Text(path), range),
        ] if engine.starts_with("Replicated") => Some((path.clone(), range.clone())),
        _ => None,
    })
}

/// A path for the target: the same where the server makes it another one by itself, else with the names of
/// the target in place of those of the source, else beside it.
fn path_for(path: &str, source: &TableName, target: &TableName) -> String {
    let has = |name: &str| path.contains(name);
    let differs = |name: &str, here: &str, there: &str| here != there && has(name);
    if source == target
        || has("{uuid}")
        || differs("{database}", &source.database, &target.database)
        || differs("{table}", &source.table, &target.table)
    {
        return path.to_owned();
    }
    let renamed = |segment: &str| {
        if segment == source.table {
            target.table.clone()
        } else if segment == source.database {
            target.database.clone()
        } else {
            segment.to_owned()
        }
    };
    let new: Vec<String> = path.split('/').map(renamed).collect();
    let new = new.join("/");
    if new == path {
        return format!("{path}__{}.{}", target.database, target.table);
    }
    new
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(told: &str, target: (&str, &str), template: Option<&str>) -> Option<String> {
        let definition = TableDefinition {
            name: TableName::new("d", "t"),
            engine: "ReplicatedMergeTree".to_owned(),
            create_query: format!(
                "CREATE TABLE d.t (`a` UInt8) ENGINE = ReplicatedMergeTree('{told}', '{{replica}}') ORDER BY a"
            ),
            whole_query: None,
            partition_key: String::new(),
            sorting_key: String::new(),
            primary_key: String::new(),
            columns: Vec::new(),
            storage_policy: String::new(),
            has_ttl: false,
            row_policies: None,
        };
        let path = definition.replica_path(&TableName::new(target.0, target.1), template)?;
        let moved = definition.at_replica_path(&path).create_query;
        assert_eq!(moved, definition.create_query.replace(told, &path));
        Some(path)
    }

    #[test]
    fn a_table_of_another_name_gets_another_path() {
        let told = |path_told, target| path(path_told, target, None);
        assert_eq!(told("/tables/1/d/t", ("d", "t")), None);
        assert_eq!(told("/tables/1/d/t", ("d", "u")).unwrap(), "/tables/1/d/u");
        assert_eq!(told("/tables/1/d/t", ("e", "t")).unwrap(), "/tables/1/e/t");
        assert_eq!(told("/tables/1/x", ("d", "u")).unwrap(), "/tables/1/x__d.u");
        // The database is not in the path, and another one has a table of that name.
        assert_eq!(told("/tables/1/t", ("e", "t")).unwrap(), "/tables/1/t__e.t");
    }

    #[test]
    fn a_path_that_the_server_fills_in_stays_where_that_makes_it_another_one() {
        let told = |path_told, target| path(path_told, target, None);
        assert_eq!(told("/tables/{shard}/{uuid}", ("d", "u")), None);
        assert_eq!(told("/tables/{database}/{table}", ("d", "u")), None);
        assert_eq!(told("/tables/{shard}/{table}", ("d", "u")), None);
        let moved = told("/tables/{shard}/{table}", ("e", "t")).unwrap();
        assert_eq!(moved, "/tables/{shard}/{table}__e.t");
    }

    #[test]
    fn a_template_of_the_user_wins() {
        let template = Some("/mine/{shard}/{database}/{table}");
        let path = |target| path("/tables/1/t", target, template).unwrap();
        assert_eq!(path(("d", "t")), "/mine/{shard}/d/t");
        assert_eq!(path(("e", "u")), "/mine/{shard}/e/u");
    }
}
