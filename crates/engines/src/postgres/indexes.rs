//! Whether indexes find the rows of their table, by the extension amcheck where it is installed.

use postgres::Client;
use postgres::error::SqlState;

use super::catalogue::Table;
use super::error::failed;
use crate::contract::live_rows::IndexCheck;
use crate::error::Result;

/// Checks the B-trees of a table and of its partitions: their order, and that each row is found in them. `None` where
/// the database does not have the extension.
pub(super) fn check(client: &mut Client, table: &Table) -> Result<Option<IndexCheck>> {
    let doing = format!("check the indexes of table {}", table.name);
    let function = client.query_opt(
        "SELECT format('%I.%I', n.nspname, f.proname), quote_ident(n.nspname), quote_ident(current_user),
                has_function_privilege(f.oid, 'EXECUTE'), has_schema_privilege(n.oid, 'USAGE')
         FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
         JOIN pg_proc f ON f.pronamespace = n.oid AND f.proname = 'bt_index_check' AND f.pronargs = 2
         WHERE e.extname = 'amcheck'",
        &[],
    );
    let Some(function) = function.map_err(|error| failed(&doing, &error))? else {
        return Ok(None);
    };
    let (name, schema, role): (String, String, String) =
        (function.get(0), function.get(1), function.get(2));
    let (may_run, may_reach): (bool, bool) = (function.get(3), function.get(4));
    let grants = [
        (
            may_reach,
            format!("GRANT USAGE ON SCHEMA {schema} TO {role}"),
        ),
        (
            may_run,
            format!("GRANT EXECUTE ON FUNCTION {name}(regclass, boolean) TO {role}"),
        ),
    ];
    let missing = grants.into_iter().filter(|(may, _)| !may);
    let missing: Vec<String> = missing.map(|(_, grant)| grant).collect();
    let mut found = IndexCheck::default();
    if !missing.is_empty() {
        found.not_checked = Some(format!(
            "amcheck is installed, and the role may not use it: {}",
            missing.join("; ")
        ));
        return Ok(Some(found));
    }
    let indexes = client.query(
        "SELECT format('%I.%I', n.nspname, x.relname)
         FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_namespace n ON n.oid = x.relnamespace
         JOIN pg_am a ON a.oid = x.relam
         WHERE a.amname = 'btree' AND x.relkind = 'i' AND i.indisvalid
           AND (i.indrelid = $1::text::regclass OR i.indrelid IN (
               SELECT p.relid FROM pg_partition_tree($1::text::regclass) p WHERE p.isleaf))
         ORDER BY 1",
        &[&table.relation],
    );
    for index in indexes.map_err(|error| failed(&doing, &error))? {
        let index: String = index.get(0);
        found.checked += 1;
        let query = format!("SELECT {name}($1::text::regclass, true)");
        match client.query_one(&query, &[&index]) {
            Ok(_) => {}
            Err(error) if is_damage(&error) => {
                let message = error.as_db_error().map_or("", |error| error.message());
                found.damage.push(format!(
                    "index {index}: {message}; REINDEX INDEX {index} makes it anew"
                ));
            }
            Err(error) => return Err(failed(&doing, &error)),
        }
    }
    Ok(Some(found))
}

/// Whether a check says that something is damaged.
fn is_damage(error: &postgres::Error) -> bool {
    let codes = [SqlState::DATA_CORRUPTED, SqlState::INDEX_CORRUPTED];
    error.code().is_some_and(|code| codes.contains(code))
}
