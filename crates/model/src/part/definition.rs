//! What a statement that creates a table, view or dictionary says, clause by clause.
//!
//! The statement is one that a server printed: keywords stand where it puts them, in capitals. Two
//! statements say the same where the tokens of their clauses do: blanks, comments and quotes around
//! names tell nothing.

use std::collections::BTreeMap;
use std::ops::Range;

use super::aspect::Aspect;
use super::secret::HIDDEN;
use super::statement::{Token, located};

/// What is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Table,
    View,
    Dictionary,
}

/// A clause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Clause {
    /// As it is written, without the word that begins it.
    pub(super) text: String,
    /// Its tokens: what is compared.
    tokens: Vec<String>,
}

impl Clause {
    pub(super) fn says_the_same(&self, other: &Self) -> bool {
        self.tokens == other.tokens
    }
}

/// A statement taken apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Definition {
    pub(super) clauses: BTreeMap<(Aspect, String), Clause>,
    /// Names of columns, in their order.
    columns: Vec<String>,
}

/// What may begin a clause, with what has to follow and what it is about. `None` is for settings, which
/// are clauses of their own each.
const CLAUSES: [(&[&str], Option<Aspect>); 17] = [
    (&["ENGINE"], Some(Aspect::Engine)),
    (&["PARTITION", "BY"], Some(Aspect::PartitionKey)),
    (&["PRIMARY", "KEY"], Some(Aspect::PrimaryKey)),
    (&["ORDER", "BY"], Some(Aspect::SortingKey)),
    (&["SAMPLE", "BY"], Some(Aspect::SamplingKey)),
    (&["TTL"], Some(Aspect::Ttl)),
    (&["SETTINGS"], None),
    (&["COMMENT"], Some(Aspect::Comment)),
    (&["AS"], Some(Aspect::Query)),
    (&["TO"], Some(Aspect::Target)),
    (&["REFRESH"], Some(Aspect::Refresh)),
    (&["DEFINER"], Some(Aspect::Security)),
    (&["SQL", "SECURITY"], Some(Aspect::Security)),
    (&["SOURCE"], Some(Aspect::Source)),
    (&["LAYOUT"], Some(Aspect::Layout)),
    (&["LIFETIME"], Some(Aspect::Lifetime)),
    (&["RANGE"], Some(Aspect::Range)),
];

/// What may follow the type of a column.
const OF_COLUMN: [(&str, Aspect); 11] = [
    ("DEFAULT", Aspect::ColumnDefault),
    ("MATERIALIZED", Aspect::ColumnDefault),
    ("ALIAS", Aspect::ColumnDefault),
    ("EPHEMERAL", Aspect::ColumnDefault),
    ("COMMENT", Aspect::ColumnComment),
    ("CODEC", Aspect::ColumnCodec),
    ("STATISTICS", Aspect::ColumnStatistics),
    ("TTL", Aspect::ColumnTtl),
    ("SETTINGS", Aspect::ColumnSettings),
    ("COLLATE", Aspect::ColumnSettings),
    ("PRIMARY", Aspect::ColumnSettings),
];

/// Words of the list of columns that begin something else.
const NO_COLUMNS: [(&str, Aspect); 3] = [
    ("INDEX", Aspect::Index),
    ("CONSTRAINT", Aspect::Constraint),
    ("PROJECTION", Aspect::Projection),
];

impl Definition {
    /// Takes a statement apart; `None` where it is none that creates a table, view or dictionary.
    pub fn read(create_query: &str) -> Option<Self> {
        let statement = Statement {
            sql: create_query,
            tokens: located(create_query),
        };
        statement.read()
    }

    /// A clause as it is written; of settings, columns and the like by the name.
    pub fn clause(&self, aspect: Aspect, name: &str) -> Option<&str> {
        let clause = self.clauses.get(&(aspect, name.to_owned()))?;
        Some(&clause.text)
    }

    /// Names of columns, in their order.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Whether another definition is this one with credentials where this has [`HIDDEN`].
    pub fn is_shown_of(&self, whole: &Self) -> bool {
        let says = |(key, shown): (&(Aspect, String), &Clause)| {
            shown.text.contains(HIDDEN)
                || whole
                    .clauses
                    .get(key)
                    .is_some_and(|clause| clause.says_the_same(shown))
        };
        self.columns == whole.columns
            && self.clauses.keys().eq(whole.clauses.keys())
            && self.clauses.iter().all(says)
    }

    /// Whether a column is computed whenever it is read, or never stored.
    pub fn is_computed(&self, column: &str) -> bool {
        let default = self.clause(Aspect::ColumnDefault, column);
        default
            .is_some_and(|default| default.starts_with("ALIAS") || default.starts_with("EPHEMERAL"))
    }
}

struct Statement<'a> {
    sql: &'a str,
    tokens: Vec<(Token<'a>, Range<usize>)>,
}

impl Statement<'_> {
    fn read(&self) -> Option<Definition> {
        let (kind, mut at) = self.head()?;
        let mut definition = Definition::default();
        let mut has_columns = false;
        while at < self.tokens.len() {
            if self.is_sign(at, '(') && !has_columns {
                let close = self.close(at)?;
                self.list(kind, at + 1..close, &mut definition);
                has_columns = true;
                at = close + 1;
                continue;
            }
            let Some((words, aspect)) = self.clause_at(kind, at) else {
                at += 1;
                continue;
            };
            let begin = at + words;
            let end = if aspect == Some(Aspect::Query) {
                self.tokens.len()
            } else {
                let lists_after = matches!(aspect, Some(Aspect::Target | Aspect::Refresh));
                self.end_of_clause(kind, begin, lists_after && !has_columns)
            };
            match aspect {
                None => self.settings(begin..end, &mut definition),
                Some(Aspect::Engine) => self.engine(begin..end, &mut definition),
                Some(Aspect::Security) => {
                    let name = self.name(at);
                    self.put(&mut definition, Aspect::Security, &name, begin..end);
                }
                Some(aspect) => self.put(&mut definition, aspect, "", begin..end),
            }
            at = end;
        }
        Some(definition)
    }

    /// What is created, and the place after its name and what ties it to its origin.
    fn head(&self) -> Option<(Kind, usize)> {
        if !self.is_word(0, "CREATE") && !self.is_word(0, "ATTACH") {
            return None;
        }
        let kind_at = |at: usize| {
            let kinds = [
                ("TABLE", Kind::Table),
                ("VIEW", Kind::View),
                ("DICTIONARY", Kind::Dictionary),
            ];
            let found = kinds.into_iter().find(|(word, _)| self.is_word(at, word));
            found.map(|(_, kind)| (kind, at + 1))
        };
        let (kind, mut at) = (1..5).find_map(kind_at)?;
        if self.is_word(at, "IF") {
            at += 3;
        }
        at += if self.is_sign(at + 1, '.') { 3 } else { 1 };
        loop {
            at += if self.is_word(at, "UUID") {
                2
            } else if self.is_word(at, "ON") && self.is_word(at + 1, "CLUSTER") {
                3
            } else if self.is_word(at, "TO") && self.is_word(at + 1, "INNER") {
                4
            } else {
                return Some((kind, at));
            };
        }
    }

    /// The clause that begins at a token: how many words that takes, and what it is about.
    fn clause_at(&self, kind: Kind, at: usize) -> Option<(usize, Option<Aspect>)> {
        let (words, aspect) = CLAUSES.into_iter().find(|(words, _)| {
            let mut words = words.iter().enumerate();
            words.all(|(offset, word)| self.token(at + offset) == Some(&Token::Word(word)))
        })?;
        let after = at + words.len();
        let fits = match aspect {
            Some(Aspect::Comment) => matches!(self.token(after), Some(Token::Text(_))),
            Some(Aspect::Security) => kind == Kind::View && !self.is_security(at),
            Some(Aspect::Target | Aspect::Refresh) => kind == Kind::View,
            Some(Aspect::Source | Aspect::Layout | Aspect::Lifetime | Aspect::Range) => {
                kind == Kind::Dictionary && self.is_sign(after, '(')
            }
            _ => true,
        };
        let may_equal = matches!(aspect, Some(Aspect::Engine | Aspect::Security));
        let equals = usize::from(may_equal && self.is_sign(after, '='));
        fits.then_some((words.len() + equals, aspect))
    }

    /// Whether it is the last word of `SQL SECURITY DEFINER`.
    fn is_security(&self, at: usize) -> bool {
        at > 0 && self.is_word(at - 1, "SECURITY")
    }

    /// Where the next clause begins, or the list of columns if that may come.
    fn end_of_clause(&self, kind: Kind, begin: usize, lists_after: bool) -> usize {
        let mut at = begin;
        while at < self.tokens.len() {
            if self.is_sign(at, '(') {
                match self.close(at).filter(|_| !lists_after) {
                    Some(close) => at = close,
                    None if lists_after => return at,
                    None => return self.tokens.len(),
                }
            } else if at > begin && self.clause_at(kind, at).is_some() {
                return at;
            }
            at += 1;
        }
        at
    }

    /// Columns, indices, constraints and projections.
    fn list(&self, kind: Kind, list: Range<usize>, definition: &mut Definition) {
        for item in self.items(list) {
            let special = NO_COLUMNS
                .into_iter()
                .find(|(word, _)| self.token(item.start) == Some(&Token::Word(word)));
            match special {
                Some((_, aspect)) if item.len() > 2 => {
                    let name = self.name(item.start + 1);
                    self.put(definition, aspect, &name, item.start + 2..item.end);
                }
                _ => self.column(kind, item, definition),
            }
        }
    }

    fn column(&self, kind: Kind, item: Range<usize>, definition: &mut Definition) {
        let name = self.name(item.start);
        definition.columns.push(name.clone());
        let mut aspect = Aspect::Column;
        let mut begin = item.start + 1;
        let mut at = begin;
        while at < item.end {
            let next = self.of_column_at(at).filter(|_| at > begin);
            // An attribute of a dictionary is one thing.
            if let Some(next) = next.filter(|_| kind != Kind::Dictionary) {
                self.put(definition, aspect, &name, begin..at);
                aspect = next;
                // Of a default the word tells what kind it is.
                begin = if next == Aspect::ColumnDefault {
                    at
                } else {
                    at + 1
                };
            }
            at = match self.is_sign(at, '(').then(|| self.close(at)).flatten() {
                Some(close) => close + 1,
                None => at + 1,
            };
        }
        self.put(definition, aspect, &name, begin..item.end);
    }

    fn of_column_at(&self, at: usize) -> Option<Aspect> {
        let word = |(word, _): &(&str, Aspect)| self.token(at) == Some(&Token::Word(word));
        let (_, aspect) = OF_COLUMN.into_iter().find(word)?;
        let fits = match aspect {
            Aspect::ColumnCodec | Aspect::ColumnStatistics => self.is_sign(at + 1, '('),
            Aspect::ColumnComment => matches!(self.token(at + 1), Some(Token::Text(_))),
            _ => true,
        };
        fits.then_some(aspect)
    }

    /// The name of an engine and its arguments. Where in its keeper a replica is tells nothing of the table.
    fn engine(&self, clause: Range<usize>, definition: &mut Definition) {
        let told = self.name(clause.start);
        let name = told.strip_prefix("Replicated").unwrap_or(&told);
        let engine = Clause {
            text: name.to_owned(),
            tokens: vec![name.to_owned()],
        };
        definition
            .clauses
            .insert((Aspect::Engine, String::new()), engine);
        if clause.len() < 3 || !self.is_sign(clause.start + 1, '(') {
            return;
        }
        let mut arguments = clause.start + 2..clause.end - 1;
        if name != told {
            let is_text = |at| matches!(self.token(at), Some(Token::Text(_)));
            let items = self.items(arguments.clone());
            if let [first, second, ..] = &items[..]
                && is_text(first.start)
                && is_text(second.start)
            {
                arguments.start = items.get(2).map_or(arguments.end, |third| third.start);
            }
        }
        self.put(definition, Aspect::EngineArguments, "", arguments);
    }

    fn settings(&self, clause: Range<usize>, definition: &mut Definition) {
        for item in self.items(clause) {
            if item.len() > 2 && self.is_sign(item.start + 1, '=') {
                let name = self.name(item.start);
                self.put(definition, Aspect::Setting, &name, item.start + 2..item.end);
            }
        }
    }

    fn put(&self, definition: &mut Definition, aspect: Aspect, name: &str, clause: Range<usize>) {
        if clause.is_empty() {
            return;
        }
        let tokens = self.tokens[clause.clone()].iter();
        let tokens = tokens.map(|(token, _)| match token {
            Token::Word(word) => (*word).to_owned(),
            Token::Quoted(name) => name.clone(),
            Token::Text(text) => format!("'{text}'"),
            Token::Sign(sign) => sign.to_string(),
        });
        let bytes = self.tokens[clause.start].1.start..self.tokens[clause.end - 1].1.end;
        let clause = Clause {
            text: self.sql[bytes].to_owned(),
            tokens: tokens.collect(),
        };
        definition.clauses.insert((aspect, name.to_owned()), clause);
    }

    /// What commas divide, brackets apart.
    fn items(&self, list: Range<usize>) -> Vec<Range<usize>> {
        let mut items = Vec::new();
        let (mut begin, mut depth) = (list.start, 0usize);
        for at in list.clone() {
            match self.token(at) {
                Some(Token::Sign('(' | '[' | '{')) => depth += 1,
                Some(Token::Sign(')' | ']' | '}')) => depth = depth.saturating_sub(1),
                Some(Token::Sign(',')) if depth == 0 => {
                    items.push(begin..at);
                    begin = at + 1;
                }
                _ => {}
            }
        }
        items.push(begin..list.end);
        items.retain(|item| !item.is_empty());
        items
    }

    /// The bracket that closes one.
    fn close(&self, open: usize) -> Option<usize> {
        let mut depth = 0usize;
        (open..self.tokens.len()).find(|at| {
            match self.token(*at) {
                Some(Token::Sign('(')) => depth += 1,
                Some(Token::Sign(')')) => depth -= 1,
                _ => {}
            }
            depth == 0
        })
    }

    fn name(&self, at: usize) -> String {
        let name = self.token(at).and_then(Token::as_text);
        name.unwrap_or_default().to_owned()
    }

    fn token(&self, at: usize) -> Option<&Token<'_>> {
        self.tokens.get(at).map(|(token, _)| token)
    }

    fn is_word(&self, at: usize, word: &str) -> bool {
        matches!(self.token(at), Some(Token::Word(w)) if w.eq_ignore_ascii_case(word))
    }

    fn is_sign(&self, at: usize, sign: char) -> bool {
        self.token(at) == Some(&Token::Sign(sign))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Clauses as lines: `aspect name: text`.
    fn told(sql: &str) -> Vec<String> {
        let definition = Definition::read(sql).unwrap();
        let line = |((aspect, name), clause): (&(Aspect, String), &Clause)| {
            let name = if name.is_empty() {
                String::new()
            } else {
                format!(" {name}")
            };
            format!("{aspect}{name}: {}", clause.text)
        };
        definition.clauses.iter().map(line).collect()
    }

    #[test]
    fn a_table_is_taken_apart_as_a_newer_server_prints_it() {
        let sql = "CREATE TABLE p.t UUID 'x' (`a` UInt64 COMMENT 'k, TTL' CODEC(ZSTD(1)), \
                   `d` Date DEFAULT '2020-01-01', `x` Array(UInt64) DEFAULT [a, 1] TTL d + toIntervalYear(1), \
                   `al` UInt64 ALIAS x * 3, `s` String STATISTICS(uniq) SETTINGS (a = 1), \
                   INDEX i0 x TYPE minmax GRANULARITY 2, CONSTRAINT c0 CHECK a < 10, \
                   PROJECTION p0 (SELECT a ORDER BY x)) ENGINE = ReplacingMergeTree(a) \
                   PARTITION BY toYYYYMM(d) PRIMARY KEY a ORDER BY (a, k) SAMPLE BY a \
                   TTL d + toIntervalYear(1) TO DISK 'cold' \
                   SETTINGS old_parts_lifetime = 100, index_granularity = 8192 COMMENT 'hello'";
        assert_eq!(
            told(sql),
            [
                "column a: UInt64",
                "column al: UInt64",
                "column d: Date",
                "column s: String",
                "column x: Array(UInt64)",
                "default of column al: ALIAS x * 3",
                "default of column d: DEFAULT '2020-01-01'",
                "default of column x: DEFAULT [a, 1]",
                "codec of column a: (ZSTD(1))",
                "TTL of column x: d + toIntervalYear(1)",
                "comment of column a: 'k, TTL'",
                "statistics of column s: (uniq)",
                "settings of column s: (a = 1)",
                "index i0: x TYPE minmax GRANULARITY 2",
                "projection p0: (SELECT a ORDER BY x)",
                "constraint c0: CHECK a < 10",
                "engine: ReplacingMergeTree",
                "arguments of the engine: a",
                "partition key: toYYYYMM(d)",
                "primary key: a",
                "sorting key: (a, k)",
                "sampling key: a",
                "TTL: d + toIntervalYear(1) TO DISK 'cold'",
                "setting index_granularity: 8192",
                "setting old_parts_lifetime: 100",
                "comment: 'hello'",
            ]
        );
        let read = Definition::read(sql).unwrap();
        assert_eq!(read.columns(), ["a", "d", "x", "al", "s"]);
        assert!(read.is_computed("al") && !read.is_computed("x"));
    }

    #[test]
    fn servers_of_different_age_say_the_same_in_other_words() {
        let old = "CREATE TABLE p.t ( a UInt64,  d Date DEFAULT CAST('2020-01-01', 'Date')) \
                   ENGINE = MergeTree ORDER BY (a, d)";
        let new = "ATTACH TABLE _ UUID 'x'\n(\n    `a` UInt64,\n    `d` Date DEFAULT CAST('2020-01-01', 'Date')\n)\n\
                   ENGINE = ReplicatedMergeTree('/t', '{replica}')\nORDER BY (a, d)";
        let [old, new] = [old, new].map(|sql| Definition::read(sql).unwrap());
        assert_eq!(old.clauses.len(), new.clauses.len());
        for (key, clause) in &old.clauses {
            assert!(clause.says_the_same(&new.clauses[key]), "{key:?}");
        }
    }

    #[test]
    fn views_and_dictionaries_are_taken_apart() {
        let view = "CREATE MATERIALIZED VIEW p.mv REFRESH EVERY 1 HOUR TO p.t (`d` Date) DEFINER = default \
                    SQL SECURITY DEFINER COMMENT 'c' AS SELECT d FROM p.t ORDER BY d SETTINGS x = 1";
        assert_eq!(
            told(view),
            [
                "column d: Date",
                "comment: 'c'",
                "target of the view: p.t",
                "refreshing of the view: EVERY 1 HOUR",
                "rights of the view DEFINER: default",
                "rights of the view SQL: DEFINER",
                "query: SELECT d FROM p.t ORDER BY d SETTINGS x = 1",
            ]
        );
        let dictionary = "CREATE DICTIONARY p.d (`id` UInt64, `v` String DEFAULT 'x') PRIMARY KEY id \
                          SOURCE(CLICKHOUSE(TABLE 's' DB 'p')) LIFETIME(MIN 0 MAX 0) LAYOUT(FLAT())";
        assert_eq!(
            told(dictionary),
            [
                "column id: UInt64",
                "column v: String DEFAULT 'x'",
                "primary key: id",
                "source: (CLICKHOUSE(TABLE 's' DB 'p'))",
                "layout: (FLAT())",
                "lifetime: (MIN 0 MAX 0)",
            ]
        );
    }

    #[test]
    fn what_creates_nothing_is_no_definition_and_what_is_cut_short_no_panic() {
        for sql in ["", "SELECT 1", "CREATE USER u"] {
            assert_eq!(Definition::read(sql), None, "{sql}");
        }
        let sql = "CREATE TABLE p.t (`a` UInt64 CODEC(ZSTD(1)), INDEX i a TYPE minmax) \
                   ENGINE = ReplicatedMergeTree('/t', 'r', a) ORDER BY (a, b) SETTINGS a = 1, b = (2)";
        for (cut, _) in sql.char_indices() {
            let _ = Definition::read(&sql[..cut]);
        }
    }
}
