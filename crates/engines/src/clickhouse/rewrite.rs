//! Statements that create something, changed so that they create it elsewhere.
//!
//! A statement is taken as the server told it, and only the words that must differ are replaced: the
//! name at its head, and the names of databases where tables are named. Its UUIDs and its `ON CLUSTER`
//! go, since they would tie what is created to what it was made from. *Errors*: a head that is not
//! understood is one; a database in a place that is not known here keeps its name, and the server says
//! so if it has none of that name.

use std::collections::HashMap;
use std::ops::Range;

use mendb_model::part::statement::{Token, located};
use mendb_model::part::{TableName, quote};

use super::client::literal;
use crate::error::{EngineError, Remedy, Result};

/// The statement, creating a table, view or dictionary of another name, with databases renamed.
pub(super) fn relocated(
    create_query: &str,
    name: &TableName,
    databases: &HashMap<String, String>,
) -> Result<String> {
    let mut statement = Statement::new(create_query);
    statement.rename_head(&name.sql())?;
    statement.rename_databases(databases);
    statement.fill_nothing();
    Ok(statement.edited())
}

/// The statement, creating a table of the same kind with more settings, such as `a = 1, b = 2`. Of a replicated
/// table it makes one of this server alone.
pub(super) fn with_settings(
    create_query: &str,
    name: &TableName,
    settings: &str,
) -> Result<String> {
    let mut statement = Statement::new(create_query);
    statement.rename_head(&name.sql())?;
    statement.stand_alone();
    let at = statement.last_at_top("SETTINGS");
    if let Some((_, first)) = at.and_then(|at| statement.tokens.get(at + 1)) {
        let before = first.start..first.start;
        statement.edits.push((before, format!("{settings}, ")));
    }
    Ok(statement.edited())
}

/// The statement of a database, creating it unless it is there.
pub(super) fn database(create_query: &str, name: &str) -> Result<String> {
    let mut statement = Statement::new(create_query);
    let unless = if statement.is_word(2, "IF") {
        ""
    } else {
        "IF NOT EXISTS "
    };
    statement.rename_head(&format!("{unless}{}", quote(name)))?;
    Ok(statement.edited())
}

struct Statement<'a> {
    sql: &'a str,
    tokens: Vec<(Token<'a>, Range<usize>)>,
    edits: Vec<(Range<usize>, String)>,
}

impl<'a> Statement<'a> {
    fn new(sql: &'a str) -> Self {
        Self {
            sql,
            tokens: located(sql),
            edits: Vec::new(),
        }
    }

    /// With all edits; one within another, as a database within the head, does nothing.
    fn edited(mut self) -> String {
        self.edits.sort_by_key(|(range, _)| range.start);
        let mut edited = String::with_capacity(self.sql.len());
        let mut from = 0;
        for (range, text) in &self.edits {
            if range.start < from {
                continue;
            }
            edited.push_str(&self.sql[from..range.start]);
            edited.push_str(text);
            from = range.end;
        }
        edited.push_str(&self.sql[from..]);
        edited
    }

    fn token(&self, at: usize) -> Option<&Token<'a>> {
        self.tokens.get(at).map(|(token, _)| token)
    }

    fn word(&self, at: usize) -> Option<&'a str> {
        match self.token(at) {
            Some(Token::Word(word)) => Some(word),
            _ => None,
        }
    }

    fn is_word(&self, at: usize, word: &str) -> bool {
        self.word(at).is_some_and(|w| w.eq_ignore_ascii_case(word))
    }

    fn is_sign(&self, at: usize, sign: char) -> bool {
        self.token(at) == Some(&Token::Sign(sign))
    }

    /// The bytes of some tokens, with the blanks after them.
    fn bytes(&self, tokens: Range<usize>) -> Range<usize> {
        let end = self.tokens.get(tokens.end);
        let end = end.map_or(self.sql.len(), |(_, range)| range.start);
        self.tokens[tokens.start].1.start..end
    }

    /// Replaces the name after `CREATE … TABLE`, and removes what ties the statement to its origin.
    fn rename_head(&mut self, name: &str) -> Result<()> {
        const KINDS: [&str; 4] = ["TABLE", "VIEW", "DICTIONARY", "DATABASE"];
        let unknown = || {
            let beginning: String = self.sql.chars().take(80).collect();
            let message = format!("{beginning:?} is no statement that creates something known");
            EngineError::new(Remedy::Request, message)
        };
        let creates = self.is_word(0, "CREATE") || self.is_word(0, "ATTACH");
        let is_kind = |at: &usize| KINDS.iter().any(|kind| self.is_word(*at, kind));
        let kind = (1..5).find(is_kind).filter(|_| creates);
        let mut at = kind.ok_or_else(unknown)? + 1;
        if self.is_word(at, "IF") {
            at += 3;
        }
        let qualified = self.is_sign(at + 1, '.');
        let end = if qualified { at + 3 } else { at + 1 };
        let last = self
            .tokens
            .get(end - 1)
            .and_then(|(token, _)| token.as_name());
        if last.is_none() {
            return Err(unknown());
        }
        let range = self.tokens[at].1.start..self.tokens[end - 1].1.end;
        if self.is_word(0, "ATTACH") {
            // As the server keeps it in its files.
            self.edits
                .push((self.tokens[0].1.clone(), "CREATE".to_owned()));
        }
        self.edits.push((range, name.to_owned()));
        at = end;
        loop {
            let taken = if self.is_word(at, "UUID") {
                2
            } else if self.is_word(at, "ON") && self.is_word(at + 1, "CLUSTER") {
                3
            } else if self.is_word(at, "TO") && self.is_word(at + 1, "INNER") {
                4
            } else {
                return Ok(());
            };
            let end = (at + taken).min(self.tokens.len());
            self.edits.push((self.bytes(at..end), String::new()));
            at = end;
        }
    }

    /// Has an engine be the one without replicas, and without where in the keeper they are.
    fn stand_alone(&mut self) {
        let Some(mut at) = self.first_at_top("ENGINE").map(|at| at + 1) else {
            return;
        };
        if self.is_sign(at, '=') {
            at += 1;
        }
        let Some(alone) = self
            .word(at)
            .and_then(|word| word.strip_prefix("Replicated"))
        else {
            return;
        };
        self.edits
            .push((self.tokens[at].1.clone(), alone.to_owned()));
        if !self.is_sign(at + 1, '(') {
            return;
        }
        let first = at + 2;
        let mut end = first;
        // The path and the name of the replica.
        for _ in 0..2 {
            if matches!(self.token(end), Some(Token::Text(_))) {
                end += if self.is_sign(end + 1, ',') { 2 } else { 1 };
            }
        }
        if end > first {
            self.edits.push((self.bytes(first..end), String::new()));
        }
    }

    /// Has a view that fills itself begin at its next time, not at once.
    fn fill_nothing(&mut self) {
        let (Some(select), Some(refresh)) = (self.first_at_top("AS"), self.first_at_top("REFRESH"))
        else {
            return;
        };
        if refresh < select && !self.is_word(select - 1, "EMPTY") {
            let before = self.tokens[select].1.start;
            self.edits.push((before..before, "EMPTY ".to_owned()));
        }
    }

    fn at_top(&self, word: &str) -> impl Iterator<Item = usize> {
        let mut depth = 0usize;
        self.tokens
            .iter()
            .enumerate()
            .filter_map(move |(at, (token, _))| {
                match token {
                    Token::Sign('(') => depth += 1,
                    Token::Sign(')') => depth = depth.saturating_sub(1),
                    Token::Word(w) if depth == 0 && w.eq_ignore_ascii_case(word) => {
                        return Some(at);
                    }
                    _ => {}
                }
                None
            })
    }

    fn first_at_top(&self, word: &str) -> Option<usize> {
        self.at_top(word).next()
    }

    fn last_at_top(&self, word: &str) -> Option<usize> {
        self.at_top(word).last()
    }

    fn rename_databases(&mut self, databases: &HashMap<String, String>) {
        if databases.iter().all(|(from, to)| from == to) {
            return;
        }
        let mut edits = Vec::new();
        let mut scopes = Scopes::default();
        for (at, (token, range)) in self.tokens.iter().enumerate() {
            scopes.enter(self, at);
            let names_database = match token {
                Token::Word(_) | Token::Quoted(_) => self.names_database(at, &scopes),
                Token::Text(_) => scopes.takes_database(self, at) || self.is_source(at, "DB"),
                Token::Sign(_) => false,
            };
            let Some(text) = token.as_text() else {
                continue;
            };
            let new = if names_database {
                databases.get(text).map(|new| match token {
                    Token::Text(_) => literal(new),
                    _ => quote(new),
                })
            } else if !matches!(token, Token::Text(_)) {
                None
            } else if scopes.takes_table(self, at) {
                let parts = text.split_once('.');
                let new =
                    parts.and_then(|(database, table)| Some((databases.get(database)?, table)));
                new.map(|(database, table)| literal(&format!("{database}.{table}")))
            } else if self.is_source(at, "QUERY") {
                let mut query = Statement::new(text);
                query.rename_databases(databases);
                Some(literal(&query.edited()))
            } else {
                None
            };
            edits.extend(new.map(|new| (range.clone(), new)));
        }
        // The head has been renamed as a whole.
        edits.retain(|(range, _)| {
            self.edits
                .iter()
                .all(|(old, _)| !old.contains(&range.start))
        });
        self.edits.extend(edits);
    }

    /// Whether a name is that of a database: `db.table.column` anywhere, `db.table` where a table is meant.
    fn names_database(&self, at: usize, scopes: &Scopes) -> bool {
        if at > 0 && self.is_sign(at - 1, '.') {
            return false;
        }
        let is_name = |at: usize| {
            self.token(at)
                .is_some_and(|token| token.as_name().is_some())
        };
        if scopes.takes_database(self, at) && self.is_sign(at + 1, ',') {
            return true;
        }
        if !self.is_sign(at + 1, '.') || !is_name(at + 2) {
            return false;
        }
        let has_column = self.is_sign(at + 3, '.') && is_name(at + 4);
        has_column
            || self.follows_table_word(at)
            || scopes.is_next_source(self, at)
            || scopes.takes_table(self, at)
            || scopes.takes_database(self, at)
    }

    fn follows_table_word(&self, at: usize) -> bool {
        const WORDS: [&str; 5] = ["FROM", "JOIN", "TO", "IN", "INTO"];
        let follows = |at: usize| at > 0 && WORDS.iter().any(|word| self.is_word(at - 1, word));
        let depends = at > 1 && self.is_word(at - 1, "ON") && self.is_word(at - 2, "DEPENDS");
        // `x IN (db.table)`, which is how newer servers print it; of two names it would be a tuple.
        let in_brackets = at > 1
            && self.is_sign(at - 1, '(')
            && self.is_word(at - 2, "IN")
            && self.is_sign(at + 3, ')');
        follows(at) || depends || in_brackets
    }

    /// Whether a string is what a word says in the source of a dictionary that is on this server.
    fn is_source(&self, at: usize, word: &str) -> bool {
        if at == 0 || !self.is_word(at - 1, word) {
            return false;
        }
        let hosts = (0..self.tokens.len()).filter(|at| self.is_word(*at, "HOST"));
        let mut hosts = hosts.filter_map(|at| self.token(at + 1)?.as_text());
        hosts.all(|host| matches!(host, "localhost" | "127.0.0.1" | "::1"))
    }
}

/// Where in a statement a word is: in which brackets, of which functions, in which lists.
#[derive(Default)]
struct Scopes {
    stack: Vec<Scope>,
    outside: Scope,
}

#[derive(Default)]
struct Scope {
    /// What the brackets follow, in small letters: a function or an engine.
    function: String,
    /// The argument that is being read.
    argument: usize,
    /// Tables are listed: what follows a comma is one.
    lists_tables: bool,
}

impl Scopes {
    fn current(&self) -> &Scope {
        self.stack.last().unwrap_or(&self.outside)
    }

    /// Takes the next token in.
    fn enter(&mut self, statement: &Statement<'_>, at: usize) {
        const ENDS: [&str; 14] = [
            "WHERE", "PREWHERE", "GROUP", "ORDER", "HAVING", "LIMIT", "SELECT", "UNION",
            "SETTINGS", "ON", "USING", "WINDOW", "QUALIFY", "WITH",
        ];
        let token = statement.token(at);
        if let Some(Token::Sign('(')) = token {
            let before = at.checked_sub(1).and_then(|at| statement.word(at));
            self.stack.push(Scope {
                function: before.unwrap_or_default().to_ascii_lowercase(),
                ..Scope::default()
            });
            return;
        }
        let Some(current) = self.stack.last_mut().or(Some(&mut self.outside)) else {
            return;
        };
        match token {
            Some(Token::Sign(')')) => drop(self.stack.pop()),
            Some(Token::Sign(',')) => current.argument += 1,
            Some(Token::Word(word)) => {
                let is = |other: &str| word.eq_ignore_ascii_case(other);
                if is("FROM") || is("JOIN") {
                    current.lists_tables = true;
                } else if ENDS.iter().any(|end| is(end)) {
                    current.lists_tables = false;
                }
            }
            _ => {}
        }
    }

    /// Whether the token begins the next table of `FROM a, b`.
    fn is_next_source(&self, statement: &Statement<'_>, at: usize) -> bool {
        at > 0 && statement.is_sign(at - 1, ',') && self.current().lists_tables
    }

    /// Whether the token begins an argument.
    fn begins_argument(&self, statement: &Statement<'_>, at: usize) -> bool {
        at > 0 && (statement.is_sign(at - 1, '(') || statement.is_sign(at - 1, ','))
    }

    /// Whether an argument that is the name of a database begins here.
    fn takes_database(&self, statement: &Statement<'_>, at: usize) -> bool {
        let Scope {
            function, argument, ..
        } = self.current();
        let place = match function.as_str() {
            "merge" | "buffer" | "mergetreeindex" | "mergetreeprojection" => 0,
            "distributed" | "cluster" | "clusterallreplicas" => 1,
            _ => return false,
        };
        *argument == place && self.begins_argument(statement, at)
    }

    /// Whether an argument that is the name of a table or dictionary, with its database, begins here.
    fn takes_table(&self, statement: &Statement<'_>, at: usize) -> bool {
        let Scope {
            function, argument, ..
        } = self.current();
        let takes =
            function.starts_with("dict") || function.starts_with("joinget") || function == "loop";
        takes && *argument == 0 && self.begins_argument(statement, at)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn moved(sql: &str) -> String {
        let databases = HashMap::from([("a".to_owned(), "b`c".to_owned())]);
        relocated(sql, &TableName::new("b`c", "new"), &databases).unwrap()
    }

    #[test]
    fn only_the_head_changes_where_no_other_table_is_named() {
        for head in [
            "CREATE TABLE a.t",
            "ATTACH TABLE `a`.`t`",
            "CREATE TABLE IF NOT EXISTS t UUID 'x-y'",
            "CREATE TABLE a.t UUID 'x-y' ON CLUSTER 'c'",
            "CREATE /* x */ OR REPLACE TABLE a . \"t\"",
        ] {
            let rest = "(`a` UInt8 DEFAULT a.x, s String COMMENT 'FROM a.t') ENGINE = MergeTree ORDER BY a";
            let moved = moved(&format!("{head} {rest}"));
            assert!(
                moved.ends_with(&format!(" `b\\`c`.`new` {rest}")),
                "{moved}"
            );
            assert!(
                !moved.contains("UUID") && !moved.contains("CLUSTER"),
                "{moved}"
            );
        }
    }

    #[test]
    fn databases_are_renamed_where_tables_are_named() {
        let cases = [
            (
                "CREATE VIEW a.v (`k` UInt8) AS SELECT a.x, a.src.k FROM a.src AS a, a.u ANY LEFT JOIN `a`.w USING (k) WHERE k IN (a.z) AND (a.p, a.q) IN (a.x, a.y)",
                "CREATE VIEW @.`new` (`k` UInt8) AS SELECT a.x, @.src.k FROM @.src AS a, @.u ANY LEFT JOIN @.w USING (k) WHERE k IN (@.z) AND (a.p, a.q) IN (a.x, a.y)",
            ),
            (
                "CREATE MATERIALIZED VIEW a.v UUID '1' TO INNER UUID '2' (k UInt8) ENGINE = MergeTree ORDER BY k AS SELECT k FROM a.src",
                "CREATE MATERIALIZED VIEW @.`new` (k UInt8) ENGINE = MergeTree ORDER BY k AS SELECT k FROM @.src",
            ),
            (
                "CREATE MATERIALIZED VIEW a.v REFRESH EVERY 1 HOUR DEPENDS ON a.w TO a.t (k UInt8) DEFINER = d SQL SECURITY DEFINER AS SELECT 1 AS k",
                "CREATE MATERIALIZED VIEW @.`new` REFRESH EVERY 1 HOUR DEPENDS ON @.w TO @.t (k UInt8) DEFINER = d SQL SECURITY DEFINER EMPTY AS SELECT 1 AS k",
            ),
            (
                "CREATE TABLE a.t (x UInt8 DEFAULT dictGet('a.d', 'a.d', 1), y UInt8 DEFAULT joinGet(a.j, 'x', 1)) ENGINE = Distributed('a', 'a', 'a', x)",
                "CREATE TABLE @.`new` (x UInt8 DEFAULT dictGet('b`c.d', 'a.d', 1), y UInt8 DEFAULT joinGet(@.j, 'x', 1)) ENGINE = Distributed('a', 'b`c', 'a', x)",
            ),
            (
                "CREATE TABLE a.t (x UInt8) ENGINE = Buffer(a, t, 1, 2)",
                "CREATE TABLE @.`new` (x UInt8) ENGINE = Buffer(@, t, 1, 2)",
            ),
            (
                "CREATE TABLE a.t (x UInt8) ENGINE = Merge('a', '^a')",
                "CREATE TABLE @.`new` (x UInt8) ENGINE = Merge('b`c', '^a')",
            ),
            (
                "CREATE DICTIONARY a.d (k UInt64) PRIMARY KEY k SOURCE(CLICKHOUSE(TABLE 'a' DB 'a')) LAYOUT(FLAT())",
                "CREATE DICTIONARY @.`new` (k UInt64) PRIMARY KEY k SOURCE(CLICKHOUSE(TABLE 'a' DB 'b`c')) LAYOUT(FLAT())",
            ),
            (
                "CREATE DICTIONARY a.d (k UInt64) PRIMARY KEY k SOURCE(CLICKHOUSE(QUERY 'SELECT \\'a.t\\' FROM a.t'))",
                "CREATE DICTIONARY @.`new` (k UInt64) PRIMARY KEY k SOURCE(CLICKHOUSE(QUERY 'SELECT \\'a.t\\' FROM `b\\\\`c`.t'))",
            ),
            (
                "CREATE DICTIONARY a.d (k UInt64) PRIMARY KEY k SOURCE(CLICKHOUSE(HOST 'far' DB 'a' TABLE 't'))",
                "CREATE DICTIONARY @.`new` (k UInt64) PRIMARY KEY k SOURCE(CLICKHOUSE(HOST 'far' DB 'a' TABLE 't'))",
            ),
        ];
        for (sql, expected) in cases {
            assert_eq!(moved(sql), expected.replace('@', "`b\\`c`"), "{sql}");
        }
    }

    #[test]
    fn settings_are_added_to_those_of_the_table() {
        let name = TableName::new("a", "t__mendb_1");
        let sql = "CREATE TABLE a.t (x UInt8 CODEC(NONE) SETTINGS (max_compress_block_size = 1)) \
                   ENGINE = MergeTree ORDER BY x SETTINGS index_granularity = 8192 COMMENT 'x'";
        let expected = "CREATE TABLE `a`.`t__mendb_1` (x UInt8 CODEC(NONE) SETTINGS (max_compress_block_size = 1)) \
                        ENGINE = MergeTree ORDER BY x SETTINGS a = 1, b = 2, index_granularity = 8192 COMMENT 'x'";
        assert_eq!(with_settings(sql, &name, "a = 1, b = 2").unwrap(), expected);
    }

    #[test]
    fn a_table_that_parts_are_staged_in_is_no_replica() {
        let name = TableName::new("a", "t");
        let rest = "ORDER BY x SETTINGS index_granularity = 8192";
        for (engine, alone) in [
            (
                "ReplicatedMergeTree('/p/{shard}', '{replica}')",
                "MergeTree()",
            ),
            ("ReplicatedMergeTree", "MergeTree"),
            (
                "ReplicatedReplacingMergeTree('/p', 'r', v)",
                "ReplacingMergeTree(v)",
            ),
            (
                "ReplicatedMergeTree('/p', 'r', d, (x, y), 8192)",
                "MergeTree(d, (x, y), 8192)",
            ),
            ("ReplicatedSummingMergeTree(v)", "SummingMergeTree(v)"),
            ("MergeTree()", "MergeTree()"),
        ] {
            let sql = format!("CREATE TABLE a.t (engine String) ENGINE = {engine} {rest}");
            let expected = format!(
                "CREATE TABLE `a`.`t` (engine String) ENGINE = {alone} ORDER BY x SETTINGS a = 1, index_granularity = 8192"
            );
            assert_eq!(with_settings(&sql, &name, "a = 1").unwrap(), expected);
        }
    }

    #[test]
    fn a_database_is_created_unless_it_is_there() {
        let sql = "CREATE DATABASE a UUID 'x' ENGINE = Lazy(60)";
        let created = database(sql, "o'dd").unwrap();
        assert_eq!(
            created,
            "CREATE DATABASE IF NOT EXISTS `o'dd` ENGINE = Lazy(60)"
        );
    }

    #[test]
    fn what_creates_nothing_is_refused() {
        for sql in [
            "",
            "SELECT 1",
            "CREATE USER x",
            "CREATE TABLE",
            "DROP TABLE a.t",
        ] {
            let error = relocated(sql, &TableName::new("a", "t"), &HashMap::new());
            assert!(error.is_err(), "{sql}");
        }
    }

    proptest! {
        #[test]
        fn no_statement_makes_it_panic(words in prop::collection::vec(
            prop::sample::select(vec![
                "CREATE", "TABLE", "VIEW", "IF", "a", "`a`", "'a'", "'a.b'", ".", ",", "(", ")", "UUID",
                "ON", "CLUSTER", "TO", "INNER", "AS", "REFRESH", "FROM", "merge", "dictGet", "QUERY",
                "DB", "HOST", "SETTINGS", "ENGINE", "=", "ReplicatedMergeTree", "ü",
            ]),
            0..20,
        )) {
            let sql = format!("CREATE TABLE {}", words.join(" "));
            let databases = HashMap::from([("a".to_owned(), "b".to_owned())]);
            drop(relocated(&sql, &TableName::new("a", "t"), &databases));
            drop(with_settings(&sql, &TableName::new("a", "t"), "a = 1"));
        }

        #[test]
        fn nothing_else_changes_when_nothing_is_renamed(rest in "[ a-z.,()'`=]{0,40}") {
            let sql = format!("CREATE TABLE `a`.`t` ({rest}");
            let same = relocated(&sql, &TableName::new("a", "t"), &HashMap::new()).unwrap();
            prop_assert_eq!(same, sql);
        }
    }
}
