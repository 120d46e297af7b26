//! What the server's catalogues say of a table, and which tables are refused.

use mendb_model::manifest::{ShardedData, TableBackup};
use mendb_model::schema::{ColumnPosition, TableSchema};
use postgres::Client;

use super::definition::{
    ColumnDefinition, Definition, IndexDefinition, PartitionDefinition, SequenceDefinition,
};
use super::error::{failed, refused};
use super::name::{TableName, own_rows, quoted};
use super::nested::{Form, Numbers, Types};
use super::wire::Wire;
use crate::error::{EngineError, Result};

/// A table whose rows can be read and written.
#[derive(Debug, Clone)]
pub(super) struct Table {
    /// As users call it.
    pub(super) name: String,
    /// As statements do.
    pub(super) relation: String,
    pub(super) definition: Definition,
    pub(super) schema: TableSchema,
    /// The carried columns, in the order of the schema.
    pub(super) columns: Vec<Carried>,
    /// Which of them the key is, in its order.
    pub(super) key: Vec<usize>,
    /// Those that types within its values have in this database.
    pub(super) numbers: Numbers,
}

/// A column whose values are carried.
#[derive(Debug, Clone)]
pub(super) struct Carried {
    pub(super) name: String,
    pub(super) wire: Wire,
    /// What values are made of, where types within them have numbers of the database.
    pub(super) form: Option<Form>,
    pub(super) base_type: String,
    /// What makes the server order it as mendb does; empty where it does so anyway.
    pub(super) collate: &'static str,
    pub(super) place: ColumnPosition,
}

impl Table {
    /// A table of a definition, at a relation of a database.
    pub(super) fn new(
        client: &mut Client,
        name: &str,
        relation: String,
        definition: Definition,
    ) -> Result<Self> {
        let schema = definition.schema(name)?;
        let columns = definition
            .carried()
            .zip(schema.column_positions())
            .map(|(column, place)| Carried {
                name: column.name.clone(),
                wire: column.wire,
                form: column.form.clone(),
                base_type: column.base_type.clone(),
                collate: match column.wire {
                    Wire::Text if !column.in_byte_order => " COLLATE \"C\"",
                    _ => "",
                },
                place,
            });
        let columns: Vec<Carried> = columns.collect();
        let at = |name: &String| columns.iter().position(|column| column.name == *name);
        let key = schema.key.iter().filter_map(at).collect();
        let forms = columns.iter().filter_map(|column| column.form.as_ref());
        let numbers = Numbers::of(client, forms)?;
        Ok(Self {
            name: name.to_owned(),
            relation,
            definition,
            schema,
            columns,
            key,
            numbers,
        })
    }

    /// Its rows as statements name them: those of tables that inherit from it are of other tables.
    pub(super) fn rows(&self) -> String {
        own_rows(&self.relation, self.definition.partition_by.is_some())
    }

    /// The names of its columns, each behind something.
    pub(super) fn column_list(&self, before: &str) -> String {
        super::name::list(
            before,
            self.columns.iter().map(|column| column.name.as_str()),
        )
    }

    /// The key columns.
    pub(super) fn key_columns(&self) -> impl Iterator<Item = &Carried> {
        self.key.iter().map(|at| &self.columns[*at])
    }

    /// The condition that two relations have the same key.
    pub(super) fn same_key(&self, one: &str, other: &str) -> String {
        let equal = |column: &Carried| {
            let name = quoted(&column.name);
            format!("{one}.{name} = {other}.{name}")
        };
        self.key_columns()
            .map(equal)
            .collect::<Vec<_>>()
            .join(" AND ")
    }

    /// What rows are ordered by, so that they come in the order of their keys.
    pub(super) fn key_order(&self, before: &str) -> String {
        let ordered =
            |column: &Carried| format!("{before}{}{}", quoted(&column.name), column.collate);
        self.key_columns()
            .map(ordered)
            .collect::<Vec<_>>()
            .join(", ")
    }

    /// Whether the server finds a range of keys without reading all of them.
    pub(super) fn has_cheap_ranges(&self) -> bool {
        self.key_columns()
            .next()
            .is_some_and(|first| first.collate.is_empty())
    }

    /// Its part of a backup that has nothing of its rows yet.
    pub(super) fn backup(&self, shards: Vec<mendb_model::manifest::ShardBackup>) -> TableBackup {
        TableBackup {
            table: self.name.clone(),
            schema: self.schema.clone(),
            rows: ShardedData::here(1, shards),
            indexes: Vec::new(),
            native: Some(self.definition.to_native()),
            changes_by: None,
            untold: None,
            unfolded: None,
            only: None,
        }
    }

    /// That something read of it is not what it can be.
    pub(super) fn unreadable(&self, column: &Carried, why: &str) -> EngineError {
        refused(format!(
            "table {} holds in its column {} {why}; it cannot be backed up or compared while it does",
            self.name, column.name
        ))
    }
}

/// Reads what a table is; `None` where there is none.
///
/// # Errors
/// It is one that cannot be backed up, with the reason.
pub(super) fn find(client: &mut Client, table: &str) -> Result<Option<Table>> {
    let name = TableName::parse(table)?;
    let doing = format!("read the definition of table {table}");
    let row = client
        .query_opt(
            "SELECT c.oid, c.relkind::text, c.relpersistence::text, row_security_active(c.oid),
                    EXISTS (SELECT FROM pg_rewrite r WHERE r.ev_class = c.oid
                            OR r.ev_class IN (SELECT p.relid FROM pg_partition_tree(c.oid) p)),
                    current_setting('server_version_num')::int4, c.relispartition,
                    CASE WHEN c.relkind = 'p' THEN pg_get_partkeydef(c.oid) END,
                    (SELECT min(l.relname::text) FROM pg_partition_tree(c.oid) p JOIN pg_class l ON l.oid = p.relid
                     WHERE l.relkind = 'f'),
                    (SELECT min(l.relname::text) FROM pg_partition_tree(c.oid) p JOIN pg_class l ON l.oid = p.relid
                     WHERE l.relpersistence <> 'p')
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE n.nspname = $1::text AND c.relname = $2::text",
            &[&name.schema, &name.name],
        )
        .map_err(|error| failed(&doing, &error))?;
    let Some(row) = row else { return Ok(None) };
    let cannot = |why: &str| Err(refused(format!("table {table} cannot be backed up: {why}")));
    let (kind, persistence): (String, String) = (row.get(1), row.get(2));
    match kind.as_str() {
        "r" | "p" => {}
        "f" => return cannot("its rows are on another server"),
        "v" | "m" => return cannot("it is a view"),
        _ => return Ok(None),
    }
    match persistence.as_str() {
        "p" => {}
        "u" => return cannot("it is unlogged: a crash of the server empties it"),
        _ => return cannot("it is temporary"),
    }
    if row.get(3) {
        return cannot(
            "row-level security hides rows of it from this role; give the role BYPASSRLS, or name its owner",
        );
    }
    if row.get(4) {
        return cannot("it has rules (CREATE RULE), which change what is written");
    }
    if row.get(6) {
        return cannot("it is a partition: name the table that it is one of");
    }
    if let Some(partition) = row.get::<_, Option<String>>(8) {
        return cannot(&format!(
            "the rows of its partition {partition} are on another server"
        ));
    }
    if let Some(partition) = row.get::<_, Option<String>>(9) {
        return cannot(&format!(
            "its partition {partition} is unlogged: a crash of the server empties it"
        ));
    }
    let (oid, server): (u32, i32) = (row.get(0), row.get(5));
    let columns = columns(client, table, oid, &doing)?;
    let key = client
        .query(
            "SELECT a.attname::text
             FROM pg_constraint c, unnest(c.conkey) WITH ORDINALITY AS k(attnum, place), pg_attribute a
             WHERE c.conrelid = $1 AND c.contype = 'p' AND a.attrelid = c.conrelid AND a.attnum = k.attnum
             ORDER BY k.place",
            &[&oid],
        )
        .map_err(|error| failed(&doing, &error))?;
    let definition = Definition {
        server: server.unsigned_abs(),
        columns,
        key: key.iter().map(|row| row.get(0)).collect(),
        constraints: Vec::new(),
        indexes: Vec::new(),
        sequences: Vec::new(),
        partition_by: row.get(7),
        partitions: Vec::new(),
        inherits: Vec::new(),
        inherited_constraints: Vec::new(),
    };
    let table = Table::new(client, table, name.to_string(), definition)?;
    Ok(Some(table))
}

/// Relations as statements name their own rows, in the same order: `ONLY` where tables may inherit from them. One that is
/// not there, which the statement will say, is as it was.
pub(super) fn own_rows_of(client: &mut Client, relations: &[String]) -> Result<Vec<String>> {
    let rows = client.query(
        "SELECT c.relkind IS NOT DISTINCT FROM 'p' FROM unnest($1::text[]) WITH ORDINALITY AS r(name, place)
         LEFT JOIN pg_class c ON c.oid = to_regclass(r.name) ORDER BY r.place",
        &[&relations],
    );
    let rows = rows.map_err(|error| failed("look for tables", &error))?;
    let named = relations.iter().zip(&rows);
    Ok(named
        .map(|(relation, row)| own_rows(relation, row.get(0)))
        .collect())
}

fn columns(
    client: &mut Client,
    table: &str,
    oid: u32,
    doing: &str,
) -> Result<Vec<ColumnDefinition>> {
    let rows = client
        .query(
            "WITH RECURSIVE based(attnum, oid, typmod) AS (
                 SELECT attnum, atttypid, atttypmod FROM pg_attribute
                 WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped
               UNION ALL
                 SELECT b.attnum, t.typbasetype, CASE WHEN b.typmod = -1 THEN t.typtypmod ELSE b.typmod END
                 FROM based b JOIN pg_type t ON t.oid = b.oid WHERE t.typtype = 'd'
             )
             SELECT a.attname::text, format_type(a.atttypid, a.atttypmod), format_type(b.oid, b.typmod), a.attnotnull,
                    CASE WHEN a.attcollation <> own.typcollation
                         THEN quote_ident(cn.nspname) || '.' || quote_ident(co.collname) END,
                    pg_get_expr(d.adbin, d.adrelid), a.attidentity::text, a.attgenerated::text,
                    b.typmod, tn.nspname::text, t.typname::text, t.typtype::text,
                    t.typreceive::oid <> 0 AND t.typsend::oid <> 0,
                    t.oid,
                    coalesce(co.collname IN ('C', 'POSIX')
                        OR (co.collname = 'default' AND db.datcollate IN ('C', 'POSIX')
                            AND db.datlocprovider IN ('c', 'b')), true),
                    coalesce(co.collisdeterministic, true), NOT a.attislocal
             FROM pg_attribute a
             JOIN pg_type own ON own.oid = a.atttypid
             JOIN based b ON b.attnum = a.attnum
             JOIN pg_type t ON t.oid = b.oid AND t.typtype <> 'd'
             JOIN pg_namespace tn ON tn.oid = t.typnamespace
             JOIN pg_database db ON db.datname = current_database()
             LEFT JOIN pg_collation co ON co.oid = a.attcollation
             LEFT JOIN pg_namespace cn ON cn.oid = co.collnamespace
             LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
             WHERE a.attrelid = $1 ORDER BY a.attnum",
            &[&oid],
        )
        .map_err(|error| failed(doing, &error))?;
    let bases: Vec<u32> = rows.iter().map(|row| row.get(13)).collect();
    let types = Types::read(client, &bases)?;
    let column = |row: &postgres::Row| {
        let name: String = row.get(0);
        let (type_name, typmod): (String, i32) = (row.get(1), row.get(8));
        let cannot = |why: &str| {
            refused(format!(
                "table {table} cannot be backed up: its column {name} is of type {type_name}, {why}"
            ))
        };
        let (of_schema, base, kind): (&str, &str, &str) = (row.get(9), row.get(10), row.get(11));
        let of_system = (of_schema == "pg_catalog")
            .then(|| system_wire(base, typmod))
            .flatten();
        let wire = match of_system {
            Some(wire) => wire,
            None if !row.get::<_, bool>(12) => {
                return Err(cannot("which the server does not send in binary"));
            }
            None if kind == "p" => return Err(cannot("which holds no values")),
            None => Wire::Native,
        };
        let form = match wire {
            Wire::Native => Some(types.form(row.get(13)).map_err(|why| cannot(&why))?),
            _ => None,
        };
        let form = form.filter(|form| types.has_own_numbers(form));
        let is_deterministic: bool = row.get(15);
        // Equal texts may have other bytes: only carried, never in a key.
        let wire = match wire {
            Wire::Text if !is_deterministic => Wire::PaddedText,
            wire => wire,
        };
        let (identity, generated): (&str, &str) = (row.get(6), row.get(7));
        let given = |text: &str, first: &str, second: &str, names: (&str, &str)| match text {
            _ if text == first => Some(names.0.to_owned()),
            _ if text == second => Some(names.1.to_owned()),
            _ => None,
        };
        Ok(ColumnDefinition {
            type_name: type_name.clone(),
            base_type: row.get(2),
            wire,
            form,
            not_null: row.get(3),
            collation: row.get(4),
            in_byte_order: wire == Wire::Text && row.get(14),
            default: row.get(5),
            identity: given(identity, "a", "d", ("ALWAYS", "BY DEFAULT")),
            generated: given(generated, "s", "v", ("STORED", "VIRTUAL")),
            inherited: row.get(16),
            name,
        })
    };
    rows.iter().map(column).collect()
}

/// Checks that a relation that was made of a definition has it: types that are called so can be others here.
pub(super) fn check_made(
    client: &mut Client,
    table: &str,
    relation: &str,
    definition: &Definition,
) -> Result<()> {
    let doing = format!("read the definition of table {table}");
    let row = client.query_one("SELECT $1::text::regclass::oid", &[&relation]);
    let oid: u32 = row.map_err(|error| failed(&doing, &error))?.get(0);
    let made = Definition {
        columns: columns(client, table, oid, &doing)?,
        ..definition.clone()
    };
    match made.difference(definition) {
        None => Ok(()),
        Some(what) => Err(refused(format!(
            "table {table} cannot be made as it was, for types of its columns are others here: {what}"
        ))),
    }
}

/// How values of a type of the system travel that mendb has a type for.
fn system_wire(name: &str, typmod: i32) -> Option<Wire> {
    Some(match name {
        "bool" => Wire::Bool,
        "int2" => Wire::Int2,
        "int4" => Wire::Int4,
        "int8" => Wire::Int8,
        "float4" => Wire::Float4,
        "float8" => Wire::Float8,
        "text" | "varchar" => Wire::Text,
        "bpchar" => Wire::PaddedText,
        "bytea" => Wire::Bytes,
        "uuid" => Wire::Uuid,
        "date" => Wire::Date,
        "timestamp" | "timestamptz" => Wire::Timestamp,
        "json" => Wire::Json,
        "jsonb" => Wire::Jsonb,
        "numeric" if typmod >= 4 => {
            let both = typmod - 4;
            // Eleven bits with a sign.
            let scale = ((both & 0x7ff) ^ 1024) - 1024;
            let (precision, scale) = (u8::try_from(both >> 16).ok()?, u8::try_from(scale).ok()?);
            ((1..=38).contains(&precision) && scale <= precision)
                .then_some(Wire::Numeric { precision, scale })?
        }
        _ => return None,
    })
}

/// Reads what else a table is made of: what a restore needs, and nobody else.
pub(super) fn complete(client: &mut Client, table: &mut Table) -> Result<()> {
    let doing = format!("read the definition of table {}", table.name);
    let failed = |error: postgres::Error| failed(&doing, &error);
    let of = "$1::text::regclass";
    let constraints = client.query(
        &format!(
            "SELECT pg_get_constraintdef(oid), coninhcount > 0 FROM pg_constraint
             WHERE conrelid = {of} AND contype IN ('u', 'c', 'x') ORDER BY conname"
        ),
        &[&table.relation],
    );
    let constraints = constraints.map_err(failed)?;
    let (inherited, own): (Vec<_>, Vec<_>) = constraints.iter().partition(|row| row.get(1));
    table.definition.constraints = own.iter().map(|row| row.get(0)).collect();
    table.definition.inherited_constraints = inherited.iter().map(|row| row.get(0)).collect();
    let parents = client.query(
        &format!(
            "SELECT n.nspname || '.' || c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhparent
             JOIN pg_namespace n ON n.oid = c.relnamespace WHERE i.inhrelid = {of} ORDER BY i.inhseqno"
        ),
        &[&table.relation],
    );
    let parents = parents.map_err(failed)?;
    table.definition.inherits = parents.iter().map(|row| row.get(0)).collect();
    let indexes = client.query(
        &format!(
            "SELECT i.indisunique,
                    substr(pg_get_indexdef(i.indexrelid), 1 + length(format('CREATE %sINDEX %I ON %s%I.%I ',
                        CASE WHEN i.indisunique THEN 'UNIQUE ' ELSE '' END, x.relname,
                        CASE WHEN c.relkind = 'p' THEN 'ONLY ' ELSE '' END, n.nspname, c.relname)))
             FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_class c ON c.oid = i.indrelid
             JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE i.indrelid = {of} AND i.indisvalid
               AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x'))
             ORDER BY x.relname"
        ),
        &[&table.relation],
    );
    let index = |row: &postgres::Row| IndexDefinition {
        unique: row.get(0),
        text: row.get(1),
    };
    table.definition.indexes = indexes.map_err(failed)?.iter().map(index).collect();
    let sequences = client.query(
        &format!(
            "SELECT a.attname::text, format_type(q.seqtypid, NULL), q.seqstart, q.seqincrement, q.seqmin, q.seqmax,
                    q.seqcache, q.seqcycle,
                    CASE WHEN has_sequence_privilege(s.oid, 'SELECT') THEN pg_sequence_last_value(s.oid) END
             FROM pg_depend d JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'
             JOIN pg_sequence q ON q.seqrelid = s.oid
             JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
             WHERE d.refobjid = {of} AND d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
               AND d.deptype IN ('a', 'i')
             ORDER BY a.attnum"
        ),
        &[&table.relation],
    );
    let sequence = |row: &postgres::Row| SequenceDefinition {
        column: row.get(0),
        type_name: row.get(1),
        start: row.get(2),
        increment: row.get(3),
        min: row.get(4),
        max: row.get(5),
        cache: row.get(6),
        cycle: row.get(7),
        last: row.get(8),
    };
    table.definition.sequences = sequences.map_err(failed)?.iter().map(sequence).collect();
    if table.definition.partition_by.is_some() {
        let (relation, short) = (&table.relation, TableName::parse(&table.name)?.name);
        table.definition.partitions = partitions(client, relation, &short, &doing)?;
    }
    Ok(())
}

/// The partitions of a table, with theirs.
fn partitions(
    client: &mut Client,
    relation: &str,
    root: &str,
    doing: &str,
) -> Result<Vec<PartitionDefinition>> {
    let rows = client.query(
        "SELECT c.relname::text, format('%I.%I', n.nspname, c.relname), pg_get_expr(c.relpartbound, c.oid),
                CASE WHEN c.relkind = 'p' THEN pg_get_partkeydef(c.oid) END
         FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE i.inhparent = $1::text::regclass ORDER BY c.relname",
        &[&relation],
    );
    let mut found = Vec::new();
    for row in rows.map_err(|error| failed(doing, &error))? {
        let (name, own): (String, String) = (row.get(0), row.get(1));
        let partition_by: Option<String> = row.get(3);
        found.push(PartitionDefinition {
            behind: name.strip_prefix(root).map(str::to_owned),
            name,
            bound: row.get(2),
            partitions: match partition_by {
                Some(_) => partitions(client, &own, root, doing)?,
                None => Vec::new(),
            },
            partition_by,
        });
    }
    Ok(found)
}
