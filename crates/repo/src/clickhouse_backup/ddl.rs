//! What a statement that creates a table says of it, as far as a mend has to know.
//!
//! The statements are those that a server printed, so keywords stand where it puts them, and its
//! columns `partition_key` and `sorting_key` of `system.tables` are stretches of them.

use std::ops::Range;

use mendb_model::part::statement::{Token, located};
use mendb_model::part::{TableDefinition, TableName, secret};

/// Reads a statement.
///
/// # Errors
/// It creates nothing, or its columns do not end.
pub(super) fn definition(name: &TableName, query: &str) -> Result<TableDefinition, String> {
    Statement::new(query).definition(name)
}

/// The UUID of what a statement creates, where it says one.
pub(super) fn uuid(query: &str) -> Option<String> {
    let statement = Statement::new(query);
    let (_, at) = statement.object().ok()?;
    let at = statement.after_name(at);
    let uuid = statement.literal(at + 1)?;
    statement.is_word(at, "UUID").then(|| uuid.to_owned())
}

/// Where a clause of a table begins. Words after each other, and whether they count in capitals only:
/// single words may also be names.
const CLAUSES: [(&[&str], bool); 8] = [
    (&["PARTITION", "BY"], false),
    (&["PRIMARY", "KEY"], false),
    (&["ORDER", "BY"], false),
    (&["SAMPLE", "BY"], false),
    (&["TTL"], true),
    (&["SETTINGS"], true),
    (&["COMMENT"], true),
    (&["AS"], true),
];
const PARTITION: usize = 0;
const PRIMARY: usize = 1;
const ORDER: usize = 2;
const TTL: usize = 4;
const SETTINGS: usize = 5;

/// What may follow the type of a column.
const AFTER_TYPE: [&str; 13] = [
    "DEFAULT",
    "MATERIALIZED",
    "ALIAS",
    "EPHEMERAL",
    "CODEC",
    "TTL",
    "COMMENT",
    "STATISTICS",
    "SETTINGS",
    "NOT",
    "NULL",
    "PRIMARY",
    "COLLATE",
];
/// What stands among the columns and is none.
const NO_COLUMNS: [&str; 5] = ["INDEX", "CONSTRAINT", "PROJECTION", "PRIMARY", "FOREIGN"];

struct Statement<'q> {
    text: &'q str,
    tokens: Vec<(Token<'q>, Range<usize>)>,
}

impl<'q> Statement<'q> {
    fn new(text: &'q str) -> Self {
        let tokens = located(text);
        Self { text, tokens }
    }

    fn definition(&self, name: &TableName) -> Result<TableDefinition, String> {
        let (object, at) = self.object()?;
        let at = self.after_name(at);
        let (create_query, whole_query) = secret::apart(&self.without_uuids(at));
        let mut definition = TableDefinition {
            name: name.clone(),
            engine: object,
            create_query,
            whole_query,
            partition_key: String::new(),
            sorting_key: String::new(),
            primary_key: String::new(),
            columns: Vec::new(),
            storage_policy: String::new(),
            has_ttl: false,
            row_policies: None,
        };
        let list = (at..self.tokens.len())
            .take_while(|at| !self.is_word(*at, "ENGINE") && !self.is_word(*at, "AS"))
            .find(|at| self.is_sign(*at, '('));
        let mut after = at;
        if let Some(open) = list {
            let close = self.close(open).ok_or("a parenthesis is not closed")?;
            self.columns(open + 1..close, &mut definition);
            after = close + 1;
        }
        if definition.engine == "Table" {
            self.engine(after, &mut definition)?;
        }
        Ok(definition)
    }

    /// What is created, as an engine: `Table` for tables; and the place after it.
    fn object(&self) -> Result<(String, usize), String> {
        let begins = self.is_word(0, "CREATE") || self.is_word(0, "ATTACH");
        let mut prefix = String::new();
        for at in 1..self.tokens.len().min(if begins { 8 } else { 0 }) {
            let word = self.word(at).unwrap_or_default().to_ascii_uppercase();
            let object = match word.as_str() {
                "TABLE" => "Table".to_owned(),
                "DICTIONARY" => "Dictionary".to_owned(),
                "VIEW" => format!("{prefix}View"),
                "MATERIALIZED" | "LIVE" | "WINDOW" => {
                    prefix = format!("{}{}", &word[..1], word[1..].to_ascii_lowercase());
                    continue;
                }
                "OR" | "REPLACE" | "TEMPORARY" => continue,
                _ => break,
            };
            return Ok((object, at + 1));
        }
        Err("it does not begin as one that creates a table, a view or a dictionary".to_owned())
    }

    /// The place after `[IF NOT EXISTS] [database.]name`.
    fn after_name(&self, mut at: usize) -> usize {
        if self.is_word(at, "IF") {
            at += 3;
        }
        at += 1;
        while self.is_sign(at, '.') {
            at += 2;
        }
        at
    }

    /// The statement without `UUID '…'` behind the name and `TO INNER UUID '…'`: another server draws
    /// its own.
    fn without_uuids(&self, at: usize) -> String {
        let mut cuts: Vec<Range<usize>> = Vec::new();
        let mut cut = |from: usize, to: usize| {
            cuts.push(self.tokens[from - 1].1.end..self.tokens[to].1.end);
        };
        let mut at = at;
        if self.is_word(at, "UUID") && self.literal(at + 1).is_some() {
            cut(at, at + 1);
            at += 2;
        }
        let is_inner = ["TO", "INNER", "UUID"]
            .iter()
            .enumerate()
            .all(|(offset, word)| self.is_word(at + offset, word));
        if is_inner && self.literal(at + 3).is_some() {
            cut(at, at + 3);
        }
        let mut text = self.text.to_owned();
        for cut in cuts.into_iter().rev() {
            text.replace_range(cut, "");
        }
        text
    }

    /// Columns that are stored, and whether one goes by a TTL.
    fn columns(&self, range: Range<usize>, definition: &mut TableDefinition) {
        for entry in self.split(range) {
            let is_first = |word: &&str| self.is_word(entry.start, word);
            if NO_COLUMNS.iter().any(is_first) {
                continue;
            }
            let after_name = self.after_column_name(entry.start);
            let depths = self.top_level(after_name..entry.end);
            let attributes: Vec<usize> = depths
                .filter(|at| AFTER_TYPE.iter().any(|word| self.is_word(*at, word)))
                .collect();
            let is = |word: &str| attributes.iter().any(|at| self.is_word(*at, word));
            definition.has_ttl |= is("TTL");
            if is("ALIAS") || is("EPHEMERAL") {
                continue;
            }
            let end = attributes.first().copied().unwrap_or(entry.end);
            let name = (entry.start..after_name).filter_map(|at| self.token(at)?.as_text());
            let name: Vec<&str> = name.collect();
            let kind = self.span(after_name..end);
            definition.columns.push((name.join("."), kind.to_owned()));
        }
    }

    /// Names of nested columns are printed with a dot.
    fn after_column_name(&self, at: usize) -> usize {
        if self.is_sign(at + 1, '.') {
            at + 3
        } else {
            at + 1
        }
    }

    fn engine(&self, from: usize, definition: &mut TableDefinition) -> Result<(), String> {
        let found = self
            .top_level(from..self.tokens.len())
            .find(|at| self.is_word(*at, "ENGINE"));
        let found = found.ok_or("it names no engine")?;
        let mut at = found + 1;
        if self.is_sign(at, '=') {
            at += 1;
        }
        self.word(at)
            .ok_or("it names no engine")?
            .clone_into(&mut definition.engine);
        at += 1;
        let mut arguments = at..at;
        if self.is_sign(at, '(') {
            let close = self.close(at).ok_or("a parenthesis is not closed")?;
            arguments = at + 1..close;
            at = close + 1;
        }
        let clauses = self.clauses(at);
        let clause = |which: usize| {
            let found = clauses.iter().find(|(clause, _)| *clause == which);
            found.map(|(_, range)| range.clone())
        };
        let expression = |which| {
            clause(which)
                .map(|range| self.span(range))
                .unwrap_or_default()
        };
        expression(PARTITION).clone_into(&mut definition.partition_key);
        definition.sorting_key = key_of(expression(ORDER));
        definition.primary_key = match clause(PRIMARY) {
            Some(range) => key_of(self.span(range)),
            None => definition.sorting_key.clone(),
        };
        definition.has_ttl |= clause(TTL).is_some();
        if let Some(settings) = clause(SETTINGS) {
            definition.storage_policy = self.setting(settings, "storage_policy");
        }
        if definition.has_parts() && clause(ORDER).is_none() && clause(PRIMARY).is_none() {
            self.old_style(arguments, definition);
        }
        Ok(())
    }

    /// The clauses behind an engine, each with its content.
    fn clauses(&self, from: usize) -> Vec<(usize, Range<usize>)> {
        let mut clauses: Vec<(usize, Range<usize>)> = Vec::new();
        for at in self.top_level(from..self.tokens.len()) {
            let is_begun = clauses.last().is_some_and(|(_, range)| range.start >= at);
            if is_begun {
                continue;
            }
            let begins = CLAUSES.iter().position(|(words, in_capitals)| {
                words.iter().enumerate().all(|(offset, word)| {
                    let exact = self.word(at + offset) == Some(*word);
                    exact || !in_capitals && self.is_word(at + offset, word)
                })
            });
            let Some(which) = begins else { continue };
            if let Some((_, range)) = clauses.last_mut() {
                range.end = at;
            }
            let start = at + CLAUSES[which].0.len();
            clauses.push((which, start..self.tokens.len()));
        }
        clauses
    }

    /// `MergeTree(date, [sampling,] (keys), 8192, …)`, behind path and name of a replica: partitions
    /// are months.
    fn old_style(&self, arguments: Range<usize>, definition: &mut TableDefinition) {
        let all = self.split(arguments).into_iter();
        let arguments: Vec<Range<usize>> = all
            .skip_while(|range| self.literal(range.start).is_some())
            .collect();
        let is_number = |range: &Range<usize>| {
            let text = self.span(range.clone());
            !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
        };
        let granularity = arguments.iter().position(is_number);
        let (Some(date), Some(granularity @ 2..)) = (arguments.first(), granularity) else {
            return;
        };
        definition.partition_key = format!("toYYYYMM({})", self.span(date.clone()));
        definition.sorting_key = key_of(self.span(arguments[granularity - 1].clone()));
        definition.primary_key.clone_from(&definition.sorting_key);
    }

    /// The value of a setting, empty if it is not set.
    fn setting(&self, range: Range<usize>, name: &str) -> String {
        let value = self
            .split(range)
            .into_iter()
            .find(|pair| self.is_word(pair.start, name) && self.is_sign(pair.start + 1, '='))
            .and_then(|pair| self.token(pair.start + 2)?.as_text());
        value.unwrap_or_default().to_owned()
    }

    fn token(&self, at: usize) -> Option<&Token<'q>> {
        self.tokens.get(at).map(|(token, _)| token)
    }

    fn word(&self, at: usize) -> Option<&'q str> {
        match self.token(at) {
            Some(Token::Word(word)) => Some(word),
            _ => None,
        }
    }

    /// The content of a string.
    fn literal(&self, at: usize) -> Option<&str> {
        match self.token(at) {
            Some(Token::Text(text)) => Some(text),
            _ => None,
        }
    }

    fn is_word(&self, at: usize, word: &str) -> bool {
        self.word(at)
            .is_some_and(|found| found.eq_ignore_ascii_case(word))
    }

    fn is_sign(&self, at: usize, sign: char) -> bool {
        self.token(at) == Some(&Token::Sign(sign))
    }

    /// The text of tokens.
    fn span(&self, range: Range<usize>) -> &str {
        match self.tokens.get(range) {
            Some([(_, first), .., (_, last)]) => &self.text[first.start..last.end],
            Some([(_, only)]) => &self.text[only.clone()],
            _ => "",
        }
    }

    /// The parenthesis that closes the one at a place.
    fn close(&self, open: usize) -> Option<usize> {
        let mut depth = 0usize;
        (open..self.tokens.len()).find(|at| {
            depth = self.depth_after(*at, depth);
            depth == 0
        })
    }

    fn depth_after(&self, at: usize, depth: usize) -> usize {
        if self.is_sign(at, '(') || self.is_sign(at, '[') {
            depth + 1
        } else if self.is_sign(at, ')') || self.is_sign(at, ']') {
            depth.saturating_sub(1)
        } else {
            depth
        }
    }

    /// Places that are in no parentheses.
    fn top_level(&self, range: Range<usize>) -> impl Iterator<Item = usize> {
        let mut depth = 0;
        range.filter(move |at| {
            let before = depth;
            depth = self.depth_after(*at, depth);
            before == 0 && depth == 0
        })
    }

    /// What stands between commas.
    fn split(&self, range: Range<usize>) -> Vec<Range<usize>> {
        let commas = self
            .top_level(range.clone())
            .filter(|at| self.is_sign(*at, ','));
        let mut pieces = Vec::new();
        let mut start = range.start;
        for end in commas.chain([range.end]) {
            if start < end {
                pieces.push(start..end);
            }
            start = end + 1;
        }
        pieces
    }
}

/// A key as servers tell it: a tuple without its parentheses, and without directions.
fn key_of(expression: &str) -> String {
    let statement = Statement::new(expression);
    let count = statement.tokens.len();
    let is_call = statement.is_word(0, "tuple");
    let open = usize::from(is_call);
    let is_whole = statement.is_sign(open, '(') && statement.close(open) == Some(count - 1);
    if !is_whole {
        return expression.to_owned();
    }
    let elements = statement.split(open + 1..count - 1);
    if elements.len() < 2 && !is_call {
        return expression.to_owned();
    }
    let elements = elements.into_iter().map(|element| {
        let last = element.end - 1;
        let directed = statement.is_word(last, "DESC") || statement.is_word(last, "ASC");
        let end = if directed { last } else { element.end };
        statement.span(element.start..end)
    });
    elements.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(query: &str) -> TableDefinition {
        definition(&TableName::new("d", "t"), query).unwrap()
    }

    fn names(definition: &TableDefinition) -> Vec<&str> {
        let names = definition.columns.iter().map(|(name, _)| name.as_str());
        names.collect()
    }

    #[test]
    fn everything_a_current_server_prints_is_understood() {
        let read = read(
            "CREATE TABLE d.t UUID 'e4267bcf-a823-4a8e-89c6-92afa68f04f0' (`a` UInt64, \
             `b` String DEFAULT 'x\\'y' CODEC(ZSTD(1)), `d` Date, `al` String ALIAS toString(a), \
             `m` UInt8 MATERIALIZED a % 2, `e` UInt8 EPHEMERAL, \
             `en x` Enum8('a' = 1, 'b,(' = 2) COMMENT 'TTL', INDEX ix (a) TYPE minmax GRANULARITY 1, \
             CONSTRAINT cc CHECK (a < 1000) AND (b != ')'), PROJECTION p (SELECT a ORDER BY a)) \
             ENGINE = MergeTree PARTITION BY (toYYYYMM(d), a % 3) PRIMARY KEY a ORDER BY (a, b) \
             TTL d + toIntervalMonth(1) SETTINGS index_granularity = 1024, storage_policy = 'jbod' \
             COMMENT 'hi (there'",
        );
        assert!(
            read.create_query
                .starts_with("CREATE TABLE d.t (`a` UInt64, ")
        );
        assert_eq!(read.engine, "MergeTree");
        assert_eq!(read.partition_key, "(toYYYYMM(d), a % 3)");
        assert_eq!(read.sorting_key, "a, b");
        assert_eq!(read.primary_key, "a");
        assert_eq!(read.storage_policy, "jbod");
        assert!(read.has_ttl);
        assert_eq!(names(&read), ["a", "b", "d", "m", "en x"]);
        assert_eq!(read.columns[4].1, "Enum8('a' = 1, 'b,(' = 2)");
        assert_eq!(read.columns[3].1, "UInt8");
    }

    #[test]
    fn keys_are_as_servers_tell_them() {
        for (query, partition, sorting) in [
            (
                "PARTITION BY tuple() ORDER BY (d, intHash32(a)) SAMPLE BY x",
                "tuple()",
                "d, intHash32(a)",
            ),
            ("ORDER BY tuple()", "", ""),
            ("PARTITION BY (d) ORDER BY (a)", "(d)", "(a)"),
            ("ORDER BY tuple(k DESC) SETTINGS x = 1", "", "k"),
            ("ORDER BY (a, -toInt64(d))", "", "a, -toInt64(d)"),
            ("PARTITION BY a ORDER BY ((a), (b))", "a", "(a), (b)"),
            ("ORDER BY (a + 1) * (b, c).1", "", "(a + 1) * (b, c).1"),
            ("ORDER BY TTL TTL d + 1", "", "TTL"),
        ] {
            let read = read(&format!(
                "CREATE TABLE d.t (`a` UInt8) ENGINE = MergeTree {query}"
            ));
            assert_eq!(read.partition_key, partition, "{query}");
            assert_eq!(read.sorting_key, sorting, "{query}");
            assert_eq!(read.primary_key, sorting, "{query}");
        }
    }

    #[test]
    fn tables_of_old_servers_keep_their_keys_in_the_engine() {
        let read = read(
            "CREATE TABLE d.t ( d Date,  k UInt32,  n.x Array(UInt8) DEFAULT [1, 2]) \
             ENGINE = ReplicatedReplacingMergeTree('/p/{shard}', '{replica}', d, intHash32(k), \
             (k, d), 8192, v)",
        );
        assert_eq!(read.engine, "ReplicatedReplacingMergeTree");
        assert_eq!(read.partition_key, "toYYYYMM(d)");
        assert_eq!(read.sorting_key, "k, d");
        assert_eq!(names(&read), ["d", "k", "n.x"]);
        assert_eq!(read.columns[2].1, "Array(UInt8)");
        assert!(!read.has_ttl);
    }

    #[test]
    fn views_and_dictionaries_are_told_by_their_statements() {
        let view = read("CREATE VIEW d.t UUID 'x' (`a` UInt8) AS SELECT a FROM d.x ORDER BY a");
        assert_eq!(view.engine, "View");
        assert_eq!(
            view.create_query,
            "CREATE VIEW d.t (`a` UInt8) AS SELECT a FROM d.x ORDER BY a"
        );
        let view = read(
            "CREATE MATERIALIZED VIEW d.t UUID 'x' TO INNER UUID 'y' (`a` UInt8) ENGINE = MergeTree \
             ORDER BY a AS SELECT 1",
        );
        assert_eq!(view.engine, "MaterializedView");
        assert!(!view.has_parts());
        assert!(
            view.create_query
                .starts_with("CREATE MATERIALIZED VIEW d.t (`a`")
        );
        let view = read("ATTACH LIVE VIEW d.t AS SELECT (1)");
        assert_eq!((view.engine.as_str(), view.columns.len()), ("LiveView", 0));
        let dictionary = read("CREATE DICTIONARY d.t (`k` UInt64) PRIMARY KEY k SOURCE(NULL())");
        assert_eq!(dictionary.engine, "Dictionary");
    }

    #[test]
    fn a_statement_tells_the_uuid_of_what_it_creates() {
        let view = "CREATE MATERIALIZED VIEW IF NOT EXISTS d.`t` UUID 'x-1' TO INNER UUID 'y' (`a` Int8) \
                    ENGINE = Memory AS SELECT 1";
        assert_eq!(uuid(view).as_deref(), Some("x-1"));
        for none in [
            "CREATE VIEW d.t AS SELECT 'UUID'",
            "CREATE TABLE d.UUID (a Int8)",
            "SELECT",
        ] {
            assert_eq!(uuid(none), None, "{none}");
        }
    }

    #[test]
    fn what_creates_no_table_is_refused() {
        let name = TableName::new("d", "t");
        for bad in [
            "",
            "SELECT 1",
            "CREATE FUNCTION f AS x -> x",
            "CREATE TABLE d.t (a",
            "CREATE TABLE d.t (a Int8)",
        ] {
            assert!(definition(&name, bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(
            words in prop::collection::vec(
                prop::sample::select(vec![
                    "CREATE", "TABLE", "VIEW", "UUID", "'x'", "`a`", "(", ")", ",", "ENGINE", "=",
                    "MergeTree", "ORDER", "BY", "tuple", "TTL", "SETTINGS", "8192", ".", "d", "TO",
                    "INNER", "IF", "'", "DESC", "AS", "[", "]",
                ]),
                0..25,
            ),
        ) {
            let query = format!("CREATE TABLE {}", words.join(" "));
            drop(definition(&TableName::new("d", "t"), &query));
            drop(key_of(&words.join(" ")));
        }
    }
}
