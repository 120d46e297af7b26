//! Tables that inherit from others (`INHERITS`). Each has its own rows, its own key and a backup of its own; what others
//! read of a parent has the rows of its heirs, too.
//!
//! A restore makes parents first, and has their heirs inherit from them: columns, constraints and defaults that an heir
//! has from a parent are not its own then. Where the columns of the heir come in another order than those of a table that
//! is made so, it is made with columns of its own, which the server then merges.

use std::collections::BTreeMap;

use postgres::Client;

use super::definition::{ColumnDefinition, Definition};
use super::error::failed;
use super::name::quoted;
use crate::contract::rows::HiddenTable;
use crate::error::Result;

/// A table that is made.
pub(super) struct Member {
    /// As users call it.
    pub(super) name: String,
    pub(super) definition: Definition,
}

/// Tables that are made together, each behind those that it inherits from.
pub(super) struct Family(Vec<Member>);

impl Family {
    /// The tables of a restore, under the names that they get. One that gets its own name again inherits from those that
    /// are there, `is_there`, too; what else it inherited is its own then.
    pub(super) fn of(
        tables: &[HiddenTable],
        definitions: Vec<Definition>,
        is_there: &dyn Fn(&str) -> bool,
    ) -> Self {
        let names: BTreeMap<&str, &str> = tables
            .iter()
            .map(|table| (table.backup.table.as_str(), table.name.as_str()))
            .collect();
        let members = tables
            .iter()
            .zip(definitions)
            .map(|(table, mut definition)| {
                let is_itself = table.name == table.backup.table;
                let parent = |parent: &String| match names.get(parent.as_str()) {
                    Some(name) => Some((*name).to_owned()),
                    None => (is_itself && is_there(parent)).then(|| parent.clone()),
                };
                definition.inherits = definition.inherits.iter().filter_map(parent).collect();
                Member {
                    name: table.name.clone(),
                    definition,
                }
            });
        let mut family = Self::sorted(members.collect());
        for at in 0..family.0.len() {
            let inherited = std::mem::take(&mut family.0[at].definition.inherited_constraints);
            let is_of_another = |constraint: &String| {
                let mut ancestors = family.ancestors(at).into_iter();
                !ancestors.any(|at| family.0[at].definition.constraints.contains(constraint))
            };
            let own: Vec<String> = inherited.into_iter().filter(is_of_another).collect();
            family.0[at].definition.constraints.extend(own);
        }
        family
    }

    /// The same, of definitions that have the names that the tables get.
    pub(super) fn sorted(mut members: Vec<Member>) -> Self {
        let mut sorted: Vec<Member> = Vec::with_capacity(members.len());
        while !members.is_empty() {
            let waits = |member: &Member| {
                let mut parents = member.definition.inherits.iter();
                parents.any(|parent| members.iter().any(|other| other.name == *parent))
            };
            // A server has no circles; what a damaged backup tells is made in any order, and refused by the server.
            let next = members.iter().position(|member| !waits(member));
            sorted.push(members.remove(next.unwrap_or(0)));
        }
        Self(sorted)
    }

    /// Its tables, parents first.
    pub(super) fn members(&self) -> &[Member] {
        &self.0
    }

    /// The tables that one inherits from and that are not made with it.
    pub(super) fn parents_beside(&self, at: usize) -> impl Iterator<Item = &String> {
        let parents = self.0[at].definition.inherits.iter();
        parents.filter(|parent| self.0.iter().all(|member| member.name != **parent))
    }

    fn parents(&self, at: usize) -> impl Iterator<Item = usize> {
        let parents = self.0[at].definition.inherits.iter();
        parents
            .filter_map(move |parent| self.0[..at].iter().position(|other| other.name == *parent))
    }

    fn ancestors(&self, at: usize) -> Vec<usize> {
        let mut found: Vec<usize> = self.parents(at).collect();
        let mut next = 0;
        while let Some(ancestor) = found.get(next).copied() {
            for parent in self.parents(ancestor) {
                if !found.contains(&parent) {
                    found.push(parent);
                }
            }
            next += 1;
        }
        found
    }

    /// The statements that make a table under a name, of parents that are made; `relations` names each by its place.
    pub(super) fn create(&self, at: usize, relations: &dyn Fn(usize) -> String) -> String {
        let definition = &self.0[at].definition;
        let parents: Vec<usize> = self.parents(at).collect();
        let relation = relations(at);
        let has_own_default = |column: &ColumnDefinition| !self.shares_sequence(at, &column.name);
        let names: Vec<String> = parents.iter().map(|parent| relations(*parent)).collect();
        if !parents.is_empty() && self.comes_in_order(at, &parents) {
            let is_declared = |column: &ColumnDefinition| {
                let mut columns = parents.iter().filter_map(|parent| {
                    let columns = &self.0[*parent].definition.columns;
                    columns.iter().find(|of| of.name == column.name)
                });
                !column.inherited || !columns.next().is_some_and(|of| is_passed_on(of, column))
            };
            let create = definition.create(&relation, &is_declared, &has_own_default);
            return format!("{create} INHERITS ({})", names.join(", "));
        }
        let mut statements = vec![definition.create(&relation, &|_| true, &has_own_default)];
        let inherit = |parent: &String| format!("ALTER TABLE {relation} INHERIT {parent}");
        statements.extend(names.iter().map(inherit));
        statements.join("; ")
    }

    /// Whether columns come in this order where a table is made that inherits.
    fn comes_in_order(&self, at: usize, parents: &[usize]) -> bool {
        let mut made: Vec<&str> = Vec::new();
        let of_parents = parents
            .iter()
            .flat_map(|parent| &self.0[*parent].definition.columns);
        let columns = &self.0[at].definition.columns;
        for column in of_parents.chain(columns) {
            if !made.contains(&column.name.as_str()) {
                made.push(&column.name);
            }
        }
        made.into_iter()
            .eq(columns.iter().map(|column| column.name.as_str()))
    }

    /// Whether the default of a column is the next value of a sequence that an ancestor owns.
    fn shares_sequence(&self, at: usize, column: &str) -> bool {
        let ancestors = self.ancestors(at).into_iter();
        let mut owners =
            ancestors.filter(|owner| self.heirs_of_sequence(*owner, column).contains(&at));
        owners.next().is_some()
    }

    /// The tables that inherit from one, and whose column has the same sequence for its default.
    pub(super) fn heirs_of_sequence(&self, owner: usize, column: &str) -> Vec<usize> {
        let default = |at: usize| {
            let columns = &self.0[at].definition.columns;
            let column = columns
                .iter()
                .find(|of| of.name == column && of.identity.is_none())?;
            column.default.as_deref()
        };
        if self.0[owner].definition.sequence(column).is_none() || default(owner).is_none() {
            return Vec::new();
        }
        let heirs = (owner + 1..self.0.len()).filter(|at| self.ancestors(*at).contains(&owner));
        heirs.filter(|at| default(*at) == default(owner)).collect()
    }
}

/// Whether a column of a parent makes this one of an heir.
fn is_passed_on(of_parent: &ColumnDefinition, column: &ColumnDefinition) -> bool {
    column.identity.is_none()
        && of_parent.type_name == column.type_name
        && of_parent.collation == column.collation
        && of_parent.not_null == column.not_null
        && of_parent.default == column.default
        && of_parent.generated == column.generated
}

/// The check constraints that a table which inherits from this one has to have: name and text.
pub(super) fn passed_on(client: &mut Client, relation: &str) -> Result<Vec<(String, String)>> {
    let rows = client.query(
        "SELECT conname::text, pg_get_constraintdef(oid) FROM pg_constraint
         WHERE conrelid = $1::text::regclass AND contype = 'c' AND NOT connoinherit ORDER BY conname",
        &[&relation],
    );
    let rows = rows.map_err(|error| failed("read constraints", &error))?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Whether tables can inherit from what has this name.
pub(super) fn can_be_parent(client: &mut Client, relation: &str) -> Result<bool> {
    let row = client.query_one(
        "SELECT EXISTS (SELECT FROM pg_class WHERE oid = to_regclass($1::text) AND relkind = 'r' AND NOT relispartition)",
        &[&relation],
    );
    Ok(row
        .map_err(|error| failed("look for tables that inherit", &error))?
        .get(0))
}

/// Of some tables those that they inherit from, or that inherit from them, and are not among them.
pub(super) fn relatives(client: &mut Client, tables: &[String]) -> Result<Vec<Relative>> {
    let rows = client.query(
        "SELECT n.nspname || '.' || c.relname, on_.nspname || '.' || o.relname, o.oid = i.inhparent
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         JOIN pg_inherits i ON c.oid IN (i.inhrelid, i.inhparent)
         JOIN pg_class o ON o.oid = CASE c.oid WHEN i.inhrelid THEN i.inhparent ELSE i.inhrelid END
         JOIN pg_namespace on_ ON on_.oid = o.relnamespace
         WHERE c.relkind = 'r' AND NOT c.relispartition AND n.nspname || '.' || c.relname = ANY ($1)
           AND n.nspname <> 'mendb' AND on_.nspname <> 'mendb' AND on_.nspname || '.' || o.relname <> ALL ($1)
         ORDER BY 1, 3, 2",
        &[&tables],
    );
    let rows = rows.map_err(|error| failed("look for tables that inherit", &error))?;
    let one = |row: &postgres::Row| Relative {
        table: row.get(0),
        other: row.get(1),
        is_parent: row.get(2),
    };
    Ok(rows.iter().map(one).collect())
}

/// A table that another inherits from, or the other way round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Relative {
    pub(super) table: String,
    pub(super) other: String,
    /// Whether `table` inherits from `other`.
    is_parent: bool,
}

/// For people.
impl std::fmt::Display for Relative {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { table, other, .. } = self;
        match self.is_parent {
            true => write!(
                f,
                "table {table} inherits from {other}: what others read of {other} has its rows, too, and those of {other} \
                 itself are not with it"
            ),
            false => write!(
                f,
                "table {other} inherits from {table}: what others read of {table} has its rows, too, and they are not with it"
            ),
        }
    }
}

/// The statement that gives an heir a sequence of an ancestor.
pub(super) fn default_of(rows: &str, column: &str, sequence: &str) -> String {
    format!(
        "ALTER TABLE {rows} ALTER COLUMN {} SET DEFAULT nextval({sequence}::regclass)",
        quoted(column)
    )
}
