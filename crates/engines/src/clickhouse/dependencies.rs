//! The order in which tables, views and dictionaries can be created: each after what it needs.
//!
//! What a table needs is what the server says it needs to be loaded, and every other table whose name
//! stands in its statement. A name that means something else there only orders more than it must. What
//! needs each other in a circle comes in the order of names.

use std::collections::HashMap;

use mendb_model::part::TableName;
use mendb_model::part::statement::{Token, tokens};

/// What the order of a table depends on.
pub(super) struct Member<'a> {
    pub(super) name: &'a TableName,
    pub(super) engine: &'a str,
    pub(super) create_query: &'a str,
    /// What the server says it needs, and what else is known.
    pub(super) needs: Vec<TableName>,
}

/// Places of the members in an order in which they can be created.
pub(super) fn creation_order(members: &[Member<'_>]) -> Vec<usize> {
    let places: HashMap<&TableName, usize> = members
        .iter()
        .enumerate()
        .map(|(place, member)| (member.name, place))
        .collect();
    let by_preference = |of: &mut Vec<usize>| {
        of.sort_unstable_by_key(|place| (rank(members[*place].engine), members[*place].name));
        of.dedup();
    };
    let mut roots: Vec<usize> = (0..members.len()).collect();
    by_preference(&mut roots);
    let mut order = Vec::with_capacity(members.len());
    let mut seen = vec![false; members.len()];
    for root in roots {
        // Each with what it needs and was not looked at yet, the next one last.
        let mut path: Vec<(usize, Vec<usize>)> = Vec::new();
        let mut next = Some(root);
        loop {
            if let Some(place) = next.filter(|place| !std::mem::replace(&mut seen[*place], true)) {
                let mut needed = needs(&members[place], &places);
                by_preference(&mut needed);
                needed.reverse();
                path.push((place, needed));
            }
            let Some((place, needed)) = path.last_mut() else {
                break;
            };
            next = needed.pop();
            if next.is_none() {
                order.push(*place);
                path.pop();
            }
        }
    }
    order
}

/// Places of the members that need one of the tables, directly or through others, and of the tables
/// themselves.
pub(super) fn dependents(members: &[Member<'_>], tables: &[TableName]) -> Vec<usize> {
    let places: HashMap<&TableName, usize> = members
        .iter()
        .enumerate()
        .map(|(place, member)| (member.name, place))
        .collect();
    let needed: Vec<Vec<usize>> = members.iter().map(|of| needs(of, &places)).collect();
    let mut touched: Vec<bool> = members
        .iter()
        .map(|member| tables.contains(member.name))
        .collect();
    loop {
        let is_new = |at: &usize| !touched[*at] && needed[*at].iter().any(|on| touched[*on]);
        let new: Vec<usize> = (0..members.len()).filter(is_new).collect();
        if new.is_empty() {
            return (0..members.len()).filter(|at| touched[*at]).collect();
        }
        for at in new {
            touched[at] = true;
        }
    }
}

/// What looks into other tables when it is created or at any time later comes last.
fn rank(engine: &str) -> u8 {
    match engine {
        "Distributed" | "Merge" | "Buffer" => 2,
        "Dictionary" => 1,
        engine if engine.ends_with("View") => 1,
        _ => 0,
    }
}

fn needs(member: &Member<'_>, places: &HashMap<&TableName, usize>) -> Vec<usize> {
    let told = member.needs.iter().cloned();
    told.chain(named(member))
        .filter_map(|name| places.get(&name).copied())
        .collect()
}

/// Everything in the statement that may be the name of a table.
fn named(member: &Member<'_>) -> Vec<TableName> {
    let tokens = tokens(member.create_query);
    let own = &member.name.database;
    let selects = member.engine.ends_with("View");
    let mut names = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let Some(text) = token.as_text() else {
            continue;
        };
        // `db.table`, and 'db', 'table' among the arguments of an engine.
        let after = (tokens.get(at + 1), tokens.get(at + 2));
        if let (Some(Token::Sign('.' | ',')), Some(table)) = after
            && let Some(table) = table.as_text()
        {
            names.push(TableName::new(text, table));
        }
        if matches!(token, Token::Text(_)) || selects {
            names.push(TableName::new(own, text));
        }
        // The text 'db.table', which functions that look up dictionaries take.
        if matches!(token, Token::Text(_)) {
            let dots = text.match_indices('.');
            names.extend(dots.map(|(dot, _)| TableName::new(&text[..dot], &text[dot + 1..])));
        }
    }
    names.extend(source_of_dictionary(&tokens));
    names
}

/// The table of `SOURCE(CLICKHOUSE(TABLE 't' DB 'd'))`.
fn source_of_dictionary(tokens: &[Token<'_>]) -> Option<TableName> {
    let text_after = |key: &str| {
        let mut pairs = tokens.windows(2);
        pairs.find_map(|pair| match pair {
            [Token::Word(word), Token::Text(text)] if word.eq_ignore_ascii_case(key) => Some(text),
            _ => None,
        })
    };
    Some(TableName::new(text_after("DB")?, text_after("TABLE")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names in creation order of tables in database `a`, given as (name, engine, rest of statement).
    fn ordered<'a>(tables: &[(&'a str, &str, &str)]) -> Vec<&'a str> {
        let names: Vec<TableName> = tables
            .iter()
            .map(|(name, ..)| TableName::new("a", *name))
            .collect();
        let members: Vec<Member<'_>> = tables
            .iter()
            .zip(&names)
            .map(|((_, engine, sql), name)| Member {
                name,
                engine,
                create_query: sql,
                needs: Vec::new(),
            })
            .collect();
        let order = creation_order(&members);
        order.into_iter().map(|place| tables[place].0).collect()
    }

    #[test]
    fn each_comes_after_what_its_statement_names() {
        let order = ordered(&[
            (
                "all",
                "Distributed",
                "ENGINE = Distributed('c', 'a', 'src')",
            ),
            ("aview", "View", "AS SELECT * FROM a.zview"),
            ("bview", "View", "AS SELECT * FROM `all`"),
            ("zview", "View", "AS SELECT * FROM a.src"),
            ("mv", "MaterializedView", "TO a.target AS SELECT 1 FROM src"),
            ("buffer", "Buffer", "ENGINE = Buffer('a', 'src', 1, 2)"),
            (
                "src",
                "MergeTree",
                "(x UInt8 DEFAULT dictGet('a.dict', 'x', 1))",
            ),
            (
                "dict",
                "Dictionary",
                "SOURCE(CLICKHOUSE(TABLE 'target' DB 'a'))",
            ),
            ("target", "MergeTree", "(x UInt8)"),
        ]);
        assert_eq!(
            order,
            [
                "target", "dict", "src", "zview", "aview", "all", "bview", "mv", "buffer"
            ]
        );
    }

    #[test]
    fn a_circle_comes_in_the_order_of_names_and_holds_nothing_else_up() {
        let order = ordered(&[
            ("x", "View", "AS SELECT * FROM a.y"),
            ("y", "View", "AS SELECT * FROM a.x"),
            ("after", "View", "AS SELECT * FROM a.y"),
            ("alone", "MergeTree", ""),
        ]);
        assert_eq!(order, ["alone", "x", "y", "after"]);
    }

    #[test]
    fn what_depends_on_a_table_is_found_through_others() {
        let tables = [
            ("t", "MergeTree", ""),
            ("v", "View", "AS SELECT * FROM a.t"),
            ("d", "Dictionary", "SOURCE(CLICKHOUSE(TABLE 'v' DB 'a'))"),
            (
                "other",
                "Dictionary",
                "SOURCE(CLICKHOUSE(TABLE 'x' DB 'a'))",
            ),
        ];
        let names = tables.map(|(name, ..)| TableName::new("a", name));
        let members: Vec<Member<'_>> = tables
            .iter()
            .zip(&names)
            .map(|((_, engine, sql), name)| Member {
                name,
                engine,
                create_query: sql,
                needs: Vec::new(),
            })
            .collect();
        assert_eq!(dependents(&members, &names[..1]), [0, 1, 2]);
        assert!(dependents(&members, &[TableName::new("b", "t")]).is_empty());
    }

    #[test]
    fn a_table_that_names_itself_is_no_circle() {
        assert_eq!(
            ordered(&[
                ("b", "View", "CREATE VIEW a.b AS SELECT 1 FROM a.c"),
                ("c", "MergeTree", "")
            ]),
            ["c", "b"]
        );
    }
}
