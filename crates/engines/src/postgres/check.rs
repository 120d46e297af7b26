//! What of a database can be backed up and mended, and what has to be granted for the rest.

use postgres::Client;
use serde::Serialize;

use super::catalogue;
use super::error::failed;
use super::slot::{self, StreamCheck};
use super::{inheritance, standby, state};
use crate::error::Result;

/// What was found of a database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TargetCheck {
    /// The version of the server.
    pub server: String,
    /// The database.
    pub database: String,
    /// The role.
    pub role: String,
    /// Whether the server is a standby: it is backed up, and nothing else.
    pub is_standby: bool,
    /// Whether the schema `mendb` is there.
    pub is_attached: bool,
    /// The tables of users.
    pub tables: Vec<TableCheck>,
    /// What is not allowed, with what allows it.
    pub missing: Vec<Missing>,
    /// Whether a change stream can tell increments what was written.
    pub changes: StreamCheck,
}

/// A table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableCheck {
    /// Its name, as commands take it.
    pub table: String,
    /// Why it cannot be backed up; `None` where it can.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// Whether the role may also mend it.
    pub can_be_mended: bool,
    /// The tables that inherit from it, or that it inherits from: a sentence for each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub relatives: Vec<String>,
}

/// What a role is not allowed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// What does not work without.
    pub what: String,
    /// Whether nothing works without.
    pub is_needed: bool,
    /// The statement that allows it.
    pub sql: String,
}

/// Looks; nothing is changed.
pub(super) fn check(client: &mut Client) -> Result<TargetCheck> {
    let doing = "look at what the role may do";
    let row = client.query_one(
        "SELECT current_setting('server_version'), current_database()::text, current_user::text,
                has_database_privilege(current_database(), 'CREATE'),
                (SELECT rolsuper FROM pg_roles WHERE rolname = current_user),
                to_regnamespace('mendb') IS NOT NULL AND has_schema_privilege('mendb', 'CREATE'),
                quote_ident(current_database()), quote_ident(current_user), current_setting('server_version_num')::int4,
                current_setting('server_encoding')",
        &[],
    );
    let row = row.map_err(|error| failed(doing, &error))?;
    let (is_super, has_schema): (bool, bool) = (row.get(4), false);
    let has_schema = has_schema || row.get::<_, bool>(5);
    let (database, role): (String, String) = (row.get(6), row.get(7));
    let number: i32 = row.get(8);
    let mut missing = Vec::new();
    if !row.get::<_, bool>(3) && !has_schema {
        missing.push(Missing {
            what: "mendb keeps what it works with in a schema of its own, and the role may not make one".to_owned(),
            is_needed: true,
            sql: format!("CREATE SCHEMA mendb AUTHORIZATION {role}"),
        });
    }
    let may_be_replica = match number {
        150_000.. => {
            let row = client.query_one(
                "SELECT has_parameter_privilege('session_replication_role', 'SET')",
                &[],
            );
            row.map_err(|error| failed(doing, &error))?.get(0)
        }
        _ => is_super,
    };
    if !may_be_replica {
        missing.push(Missing {
            what: "a mend switches triggers off by name, and is refused where rows that others point to exchange unique \
                   values or go with others that point to them"
                .to_owned(),
            is_needed: false,
            sql: match number {
                150_000.. => format!("GRANT SET ON PARAMETER session_replication_role TO {role}"),
                _ => format!("ALTER ROLE {role} SUPERUSER"),
            },
        });
    }
    let names = client.query(
        "SELECT n.nspname || '.' || c.relname, format('%I.%I', n.nspname, c.relname),
                has_table_privilege(c.oid, 'SELECT') AND has_schema_privilege(n.oid, 'USAGE'),
                has_table_privilege(c.oid, 'INSERT') AND has_table_privilege(c.oid, 'DELETE')
                    AND has_table_privilege(c.oid, 'UPDATE') AND ($1 OR pg_has_role(c.relowner, 'USAGE'))
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't' AND n.nspname <> 'mendb'
           AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%'
         ORDER BY 1",
        &[&may_be_replica],
    );
    let is_standby = standby::is_one(client)?;
    let mut tables = Vec::new();
    for row in names.map_err(|error| failed("list tables", &error))? {
        let (table, relation): (String, String) = (row.get(0), row.get(1));
        let (may_read, may_write): (bool, bool) = (row.get(2), row.get(3));
        let refused = match catalogue::find(client, &table) {
            Ok(_) if !may_read => {
                let sql = format!("GRANT SELECT ON {relation} TO {role}");
                let why = format!("the role may not read it: {sql}");
                Some(why)
            }
            Ok(_) => None,
            Err(error) => Some(error.to_string()),
        };
        let relatives = match refused {
            None => inheritance::relatives(client, std::slice::from_ref(&table))?,
            Some(_) => Vec::new(),
        };
        tables.push(TableCheck {
            relatives: relatives.iter().map(ToString::to_string).collect(),
            can_be_mended: refused.is_none() && may_write && !is_standby,
            table,
            refused,
        });
    }
    if row.get::<_, &str>(9) == "SQL_ASCII" {
        missing.push(Missing {
            what: "the database does not know the encoding of its texts: those that are not UTF-8 cannot be backed up".to_owned(),
            is_needed: false,
            sql: format!("-- dump {database}, and load it into a database with an encoding"),
        });
    }
    Ok(TargetCheck {
        server: row.get(0),
        database: row.get(1),
        role: row.get(2),
        is_standby,
        is_attached: state::exists(client)?,
        tables,
        missing,
        changes: slot::check(client)?,
    })
}
