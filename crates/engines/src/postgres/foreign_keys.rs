//! Foreign keys from and to tables that are mended.
//!
//! Where the server leaves them aside while a mend is published, they are looked after here: no row that the mend wrote
//! may point to nothing, and none may point to what it took away. Where the server looks after them itself, what it
//! would do to rows that nobody asked for (`ON DELETE CASCADE`) is found first, and refused.

use postgres::Client;

use super::error::{damaged, failed, refused};
use super::name::{TableName, own_rows, quoted};
use crate::error::Result;

/// A foreign key.
#[derive(Debug, Clone)]
pub(super) struct ForeignKey {
    name: String,
    /// The table that points, and the one that it points to, as statements name them.
    pub(super) child: String,
    pub(super) parent: String,
    /// Their rows, without those of tables that inherit from them: these are of no foreign key.
    pub(super) child_rows: String,
    pub(super) parent_rows: String,
    /// Column of the child, of the parent, and the operator by which they are equal.
    columns: Vec<(String, String, String)>,
    acts_on_delete: bool,
    acts_on_update: bool,
}

/// All foreign keys that have one of these tables at either end.
pub(super) fn find(client: &mut Client, tables: &[String]) -> Result<Vec<ForeignKey>> {
    let rows = client.query(
        "SELECT c.conname::text, cn.nspname::text, cc.relname::text, pn.nspname::text, pc.relname::text,
                c.confdeltype::text, c.confupdtype::text, cc.relkind = 'p', pc.relkind = 'p',
                array_to_json(ARRAY(
                    SELECT json_build_array(ca.attname, pa.attname, format('OPERATOR(%I.%s)', n.nspname, o.oprname))
                    FROM unnest(c.conkey, c.confkey, c.conpfeqop) AS k(child, parent, operator)
                    JOIN pg_attribute ca ON ca.attrelid = c.conrelid AND ca.attnum = k.child
                    JOIN pg_attribute pa ON pa.attrelid = c.confrelid AND pa.attnum = k.parent
                    JOIN pg_operator o ON o.oid = k.operator JOIN pg_namespace n ON n.oid = o.oprnamespace
                ))::text
         FROM pg_constraint c
         JOIN pg_class cc ON cc.oid = c.conrelid JOIN pg_namespace cn ON cn.oid = cc.relnamespace
         JOIN pg_class pc ON pc.oid = c.confrelid JOIN pg_namespace pn ON pn.oid = pc.relnamespace
         WHERE c.contype = 'f' AND c.conparentid = 0
           AND (c.conrelid = ANY ($1::text[]::regclass[]) OR c.confrelid = ANY ($1::text[]::regclass[]))
         ORDER BY c.conname, c.oid",
        &[&tables],
    );
    let rows = rows.map_err(|error| failed("look for foreign keys", &error))?;
    let name = |schema: String, name: String| TableName { schema, name }.to_string();
    let key = |row: &postgres::Row| {
        let columns: String = row.get(9);
        let columns = serde_json::from_str(&columns);
        let child = name(row.get(1), row.get(2));
        let parent = name(row.get(3), row.get(4));
        Ok(ForeignKey {
            name: row.get(0),
            child_rows: own_rows(&child, row.get(7)),
            parent_rows: own_rows(&parent, row.get(8)),
            child,
            parent,
            acts_on_delete: !matches!(row.get(5), "a" | "r"),
            acts_on_update: !matches!(row.get(6), "a" | "r"),
            columns: columns.map_err(|error| damaged(format!("a foreign key: {error}")))?,
        })
    };
    rows.iter().map(key).collect()
}

impl ForeignKey {
    fn equal(&self, parent: &str, child: &str) -> String {
        let equal = |(of_child, of_parent, operator): &(String, String, String)| {
            format!(
                "{parent}.{} {operator} {child}.{}",
                quoted(of_parent),
                quoted(of_child)
            )
        };
        self.columns
            .iter()
            .map(equal)
            .collect::<Vec<_>>()
            .join(" AND ")
    }

    fn child_columns(&self, of: &str) -> String {
        let columns = self
            .columns
            .iter()
            .map(|(child, ..)| format!("{of}.{}", quoted(child)));
        columns.collect::<Vec<_>>().join(", ")
    }

    /// Whether every column is set: a row that leaves one NULL points to nothing by right.
    fn is_set(&self, child: &str) -> String {
        let columns = self.columns.iter();
        let set = columns.map(|(column, ..)| format!("{child}.{} IS NOT NULL", quoted(column)));
        set.collect::<Vec<_>>().join(" AND ")
    }

    /// Refuses when rows that were written point to nothing. `written` has the keys of these rows of the child.
    pub(super) fn check_written(&self, client: &mut Client, written: &Written<'_>) -> Result<()> {
        let query = format!(
            "SELECT concat_ws(', ', {columns}) FROM {relation} w JOIN {child} t ON {same}
             WHERE {wanted} AND {set} AND NOT EXISTS (SELECT FROM {parent} p WHERE {equal}) LIMIT 1",
            columns = self.child_columns("t"),
            relation = written.relation,
            child = self.child_rows,
            same = written.same_key,
            wanted = written.condition,
            set = self.is_set("t"),
            parent = self.parent_rows,
            equal = self.equal("p", "t"),
        );
        match first(client, &query)? {
            None => Ok(()),
            Some(value) => Err(refused(format!(
                "rows of {} that would come back point to rows of {} that are not there ({} = {value}, by {}): mend that \
                 table with it (--tables), with --include-rewritten where rows of it were left, or bring these rows back first",
                shown(&self.child),
                shown(&self.parent),
                self.child_names(),
                self.name
            ))),
        }
    }

    /// Refuses when rows point to what was taken away. `taken` has the rows of the parent as they were.
    pub(super) fn check_taken(&self, client: &mut Client, taken: &Written<'_>) -> Result<()> {
        let query = format!(
            "SELECT concat_ws(', ', {columns}) FROM {relation} w JOIN {child} c ON {was}
             WHERE {present} AND NOT EXISTS (SELECT FROM {parent} p WHERE {equal}) LIMIT 1",
            columns = self.child_columns("c"),
            relation = taken.relation,
            child = self.child_rows,
            was = self.equal("w", "c"),
            present = taken.condition,
            parent = self.parent_rows,
            equal = self.equal("p", "c"),
        );
        match first(client, &query)? {
            None => Ok(()),
            Some(value) => Err(refused(format!(
                "rows of {} point to rows of {} that would go ({} = {value}, by {}): mend that table with it (--tables); \
                 where transactions are taken back, take back those that wrote these rows, too; or remove these rows first",
                shown(&self.child),
                shown(&self.parent),
                self.child_names(),
                self.name
            ))),
        }
    }

    /// Refuses when the server would change rows of the child by itself because of rows of the parent that are
    /// `removed`, or `changed` in what is pointed to.
    pub(super) fn check_actions(
        &self,
        client: &mut Client,
        removed: &Written<'_>,
        changed: &Written<'_>,
    ) -> Result<()> {
        let mut conditions = Vec::new();
        if self.acts_on_delete {
            conditions.push(removed.condition.to_owned());
        }
        if self.acts_on_update {
            let columns = self.columns.iter();
            let differ = columns.map(|(_, parent, _)| {
                let parent = quoted(parent);
                format!("w.{parent} IS DISTINCT FROM t.{parent}")
            });
            let differ = differ.collect::<Vec<_>>().join(" OR ");
            conditions.push(format!("({} AND ({differ}))", changed.condition));
        }
        if conditions.is_empty() {
            return Ok(());
        }
        let query = format!(
            "SELECT concat_ws(', ', {columns}) FROM {relation} w JOIN {parent} t ON {same} JOIN {child} c ON {equal}
             WHERE {conditions} LIMIT 1",
            columns = self.child_columns("c"),
            relation = removed.relation,
            parent = self.parent_rows,
            same = removed.same_key,
            child = self.child_rows,
            equal = self.equal("t", "c"),
            conditions = conditions.join(" OR "),
        );
        match first(client, &query)? {
            None => Ok(()),
            Some(value) => Err(refused(format!(
                "the server would change rows of {} by itself ({} = {value}, by ON DELETE or ON UPDATE of {}), because rows \
                 of {} go or change to which they point. A role that may SET session_replication_role can do it: mendb \
                 target check tells how it is allowed",
                shown(&self.child),
                self.child_names(),
                self.name,
                shown(&self.parent)
            ))),
        }
    }

    fn child_names(&self) -> String {
        let names = self.columns.iter().map(|(child, ..)| child.as_str());
        names.collect::<Vec<_>>().join(", ")
    }

    /// Whether the server changes rows by itself for it.
    pub(super) fn acts(&self) -> bool {
        self.acts_on_delete || self.acts_on_update
    }
}

/// Rows of a table that a publish touches, in a relation `w` of what is staged or was replaced.
pub(super) struct Written<'a> {
    pub(super) relation: &'a str,
    /// That `t`, the table, has the key of `w`.
    pub(super) same_key: &'a str,
    /// Which of the rows.
    pub(super) condition: &'a str,
}

/// A name for people.
fn shown(relation: &str) -> String {
    relation.replace('"', "")
}

fn first(client: &mut Client, query: &str) -> Result<Option<String>> {
    let row = client.query_opt(query, &[]);
    let row = row.map_err(|error| failed("check foreign keys", &error))?;
    Ok(row.map(|row| row.get(0)))
}

/// Tables in an order in which each comes before those that it points to, as far as there is one.
pub(super) fn children_first(tables: &[String], keys: &[ForeignKey]) -> Vec<usize> {
    let mut left: Vec<usize> = (0..tables.len()).collect();
    let mut order = Vec::new();
    while !left.is_empty() {
        let is_pointed_to = |at: &usize| {
            let others = left.iter().filter(|other| *other != at);
            let mut children = others.map(|other| &tables[*other]);
            children.any(|child| {
                keys.iter()
                    .any(|key| key.child == *child && key.parent == tables[*at])
            })
        };
        // In a circle any is the first.
        let next = left.iter().position(|at| !is_pointed_to(at)).unwrap_or(0);
        order.push(left.remove(next));
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_points_comes_before_what_it_points_to() {
        let key = |child: &str, parent: &str| ForeignKey {
            name: String::new(),
            child: child.into(),
            parent: parent.into(),
            child_rows: String::new(),
            parent_rows: String::new(),
            columns: Vec::new(),
            acts_on_delete: false,
            acts_on_update: false,
        };
        let tables: Vec<String> = ["a", "b", "c"].map(str::to_owned).into();
        let keys = [key("c", "b"), key("b", "a"), key("b", "b")];
        assert_eq!(children_first(&tables, &keys), [2, 1, 0]);
        let circle = [key("a", "b"), key("b", "a")];
        assert_eq!(children_first(&tables, &circle).len(), 3);
    }
}
