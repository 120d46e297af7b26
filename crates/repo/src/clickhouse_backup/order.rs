//! The order in which the tables of a backup can be created: each after those that its statement names.
//!
//! The backup lists them in any order. A name in a statement that means something else only orders more
//! than it must; what names each other in a circle comes in the order of kinds and names.

use std::collections::{HashMap, HashSet};

use mendb_model::part::statement::{Token, tokens};
use mendb_model::part::{TableDefinition, TableName, inner};

/// The definitions in that order.
pub(super) fn in_creation_order(mut tables: Vec<TableDefinition>) -> Vec<TableDefinition> {
    tables.sort_by(|a, b| (rank(a), &a.name).cmp(&(rank(b), &b.name)));
    let places: HashMap<&TableName, usize> = tables
        .iter()
        .enumerate()
        .map(|(place, table)| (&table.name, place))
        .collect();
    let needs: Vec<Vec<usize>> = tables
        .iter()
        .map(|table| {
            let named = named(table).into_iter();
            let mut needs: Vec<_> = named
                .filter_map(|name| places.get(&name).copied())
                .collect();
            needs.sort_unstable();
            needs
        })
        .collect();
    let mut order = Vec::with_capacity(tables.len());
    let mut seen = HashSet::new();
    for root in 0..tables.len() {
        // Each table with how many of its needs were gone into.
        let mut path = vec![(root, 0)];
        while let Some((table, gone)) = path.last_mut() {
            let table = *table;
            if *gone == 0 && !seen.insert(table) {
                path.pop();
                continue;
            }
            match needs[table].get(*gone) {
                Some(need) => {
                    *gone += 1;
                    if !seen.contains(need) {
                        path.push((*need, 0));
                    }
                }
                None => {
                    order.push(table);
                    path.pop();
                }
            }
        }
    }
    let mut tables: Vec<Option<TableDefinition>> = tables.into_iter().map(Some).collect();
    let taken = order.into_iter().filter_map(|place| tables[place].take());
    taken.collect()
}

/// What looks into other tables comes after those that hold data.
fn rank(table: &TableDefinition) -> u8 {
    match table.engine.as_str() {
        "Distributed" | "Merge" | "Buffer" => 2,
        "Dictionary" => 1,
        engine if engine.ends_with("View") => 1,
        _ => 0,
    }
}

/// Everything in the statement that may name a table: `db.t`, `'db', 't'`, `'db.t'`, and single names in
/// views and strings, which mean tables of the same database.
fn named(table: &TableDefinition) -> HashSet<TableName> {
    let own = &table.name.database;
    let selects = table.engine.ends_with("View");
    let tokens = tokens(&table.create_query);
    let mut names = HashSet::new();
    for (at, token) in tokens.iter().enumerate() {
        let Some(name) = token.as_text() else {
            continue;
        };
        // A single name in a table is that of a column.
        if selects || matches!(token, Token::Text(_)) {
            names.insert(TableName::new(own, name));
        }
        if let Some([Token::Sign('.' | ','), second]) = tokens.get(at + 1..at + 3) {
            names.extend(second.as_text().map(|second| TableName::new(name, second)));
        }
        if let Some((database, table)) = name.split_once('.') {
            names.insert(TableName::new(database, table));
        }
    }
    // A dictionary names its source as `TABLE 't' DB 'd'`, in either order.
    let texts = |word: &str| -> Vec<&str> {
        let pairs = tokens.windows(2);
        let texts = pairs.filter_map(|pair| match pair {
            [Token::Word(before), Token::Text(text)] if before.eq_ignore_ascii_case(word) => {
                Some(text.as_str())
            }
            _ => None,
        });
        texts.collect()
    };
    for database in texts("DB") {
        names.extend(
            texts("TABLE")
                .into_iter()
                .map(|table| TableName::new(database, table)),
        );
    }
    // A view makes the table of its rows itself.
    names.extend(inner::view_of_table(&table.name));
    names.remove(&table.name);
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clickhouse_backup::ddl::definition;

    fn ordered(queries: &[&str]) -> Vec<String> {
        let tables = queries.iter().map(|query| {
            let name = query
                .split([' ', '('])
                .find_map(|word| word.strip_prefix("d."));
            definition(&TableName::new("d", name.unwrap()), query).unwrap()
        });
        let ordered = in_creation_order(tables.collect()).into_iter();
        ordered.map(|table| table.name.table).collect()
    }

    #[test]
    fn each_comes_after_what_its_statement_names() {
        let order = ordered(&[
            "CREATE TABLE d.all (x Int8) ENGINE = Distributed('c', 'd', 'src', x)",
            "CREATE VIEW d.a_view AS SELECT * FROM d.z_view",
            "CREATE VIEW d.z_view AS SELECT * FROM `src`",
            "CREATE DICTIONARY d.dict (k Int8) PRIMARY KEY k SOURCE(CLICKHOUSE(TABLE 'target' DB 'd'))",
            "CREATE TABLE d.src (x Int8 DEFAULT dictGet('d.dict', 'k', 1)) ENGINE = MergeTree ORDER BY x",
            "CREATE MATERIALIZED VIEW d.mv TO d.target (x Int8) AS SELECT x FROM d.src",
            "CREATE TABLE d.target (mv Int8) ENGINE = MergeTree ORDER BY mv",
        ]);
        assert_eq!(
            order,
            ["target", "dict", "src", "z_view", "a_view", "mv", "all"]
        );
    }

    #[test]
    fn the_table_of_a_view_comes_after_the_view() {
        let table = "CREATE TABLE d.`.inner.v` (x Int8) ENGINE = MergeTree ORDER BY x";
        let view = "CREATE MATERIALIZED VIEW d.v (x Int8) ENGINE = MergeTree ORDER BY x AS SELECT x FROM d.t";
        let tables = [(".inner.v", table), ("v", view)]
            .map(|(name, query)| definition(&TableName::new("d", name), query).unwrap());
        let ordered = in_creation_order(tables.to_vec()).into_iter();
        let ordered: Vec<String> = ordered.map(|table| table.name.table).collect();
        assert_eq!(ordered, ["v", ".inner.v"]);
    }

    #[test]
    fn a_circle_holds_nothing_up() {
        let order = ordered(&[
            "CREATE VIEW d.x AS SELECT * FROM d.y",
            "CREATE VIEW d.y AS SELECT * FROM d.x",
            "CREATE TABLE d.t (x Int8) ENGINE = MergeTree ORDER BY x",
        ]);
        assert_eq!(order, ["t", "y", "x"]);
    }
}
