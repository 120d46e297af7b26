//! The routes of clickhouse-backup, for jobs and integration tables that were made for it.
//!
//! A backup of that program is one of ours with its name as the label, in the collection [`COLLECTION`]; it is in the
//! repository when it is made, so that upload and download have nothing to do. A restore brings tables to the backup
//! where they are. What has no meaning here says why.

use mendb_server::compat::{Compat, Foreign, Native, NativeDoes, Tells};
use mendb_server::route::{Does, Route, Verb};
use mendb_server::{Problem, Role};
use serde_json::{Map, Value, json};

/// The collection of backups that are made so.
const COLLECTION: &str = "clickhouse-backup";
/// So many operations are told of.
const MOST_ACTIONS: u32 = 100;

const fn route(
    verb: Verb,
    path: &'static str,
    operation: &'static str,
    asks: fn(&Foreign) -> Result<Vec<Native>, Problem>,
) -> Route {
    Route {
        verb,
        path,
        role: Some(Role::Viewer),
        about: "As clickhouse-backup answers it",
        does: Does::Compat(Compat { operation, asks }),
    }
}

use Verb::{Get, Post};

/// Every route of clickhouse-backup.
pub const ROUTES: &[Route] = &[
    route(Get, "/backup/version", "version", version),
    route(Get, "/backup/list", "list", list),
    route(Get, "/backup/list/{where}", "list", list),
    route(Post, "/backup/create", "create", create),
    route(
        Post,
        "/backup/create_remote",
        "create_remote",
        create_remote,
    ),
    route(Post, "/backup/upload/{name}", "upload", upload),
    route(Post, "/backup/download/{name}", "download", download),
    route(Post, "/backup/restore/{name}", "restore", restore),
    route(
        Post,
        "/backup/restore_remote/{name}",
        "restore_remote",
        restore_remote,
    ),
    route(Post, "/backup/delete/{where}/{name}", "delete", delete),
    route(Get, "/backup/status", "status", status),
    route(Get, "/backup/actions", "actions", actions),
    route(Post, "/backup/actions", "actions", act),
    route(Get, "/backup/tables", "tables", tables),
    route(Get, "/backup/tables/all", "tables", tables),
    route(Post, "/backup/kill", "kill", kill),
    route(Post, "/backup/clean", "clean", clean),
    route(
        Post,
        "/backup/clean/remote_broken",
        "clean_remote_broken",
        clean,
    ),
    route(
        Post,
        "/backup/clean/local_broken",
        "clean_local_broken",
        clean,
    ),
    route(Post, "/backup/watch", "watch", watch),
    route(Post, "/backup/rebase/{name}", "rebase", rebase),
    route(Post, "/backup/rebalance/{name}", "rebalance", rebalance),
];

/// What is asked of a backup, from a query or from a command.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wish {
    name: String,
    tables: Option<String>,
    partitions: Option<String>,
    databases: Option<String>,
    schema: bool,
    data: bool,
}

impl Wish {
    fn of_query(foreign: &Foreign, name: &str) -> Self {
        let text = |names: [&str; 2]| {
            let mut found = names.iter().filter_map(|name| foreign.text(name));
            found.next().map(str::to_owned)
        };
        Self {
            name: name.to_owned(),
            tables: text(["table", "tables"]),
            partitions: text(["partitions", "partition"]),
            databases: text(["restore_database_mapping", "restore-database-mapping"]),
            schema: foreign.says("schema"),
            data: foreign.says("data"),
        }
    }

    /// Of the words of a command behind its name. Flags that change how that program works and not what comes of it
    /// are passed over.
    fn of_words(words: &[String]) -> Result<Self, Problem> {
        let mut wish = Self::default();
        let mut rest = words.iter();
        while let Some(word) = rest.next() {
            let Some(flag) = word.strip_prefix('-') else {
                if !wish.name.is_empty() {
                    return Err(Problem::bad_request(format!(
                        "{word:?} is one name too many"
                    )));
                }
                word.clone_into(&mut wish.name);
                continue;
            };
            let flag = flag.trim_start_matches('-');
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (flag, None),
            };
            let mut value = || value.clone().or_else(|| rest.next().cloned());
            match name {
                "t" | "table" | "tables" => wish.tables = value(),
                "partitions" => wish.partitions = value(),
                "m" | "restore-database-mapping" => wish.databases = value(),
                "s" | "schema" => wish.schema = true,
                "d" | "data" => wish.data = true,
                "rm"
                | "drop"
                | "resume"
                | "resumable"
                | "i"
                | "ignore-dependencies"
                | "delete-source"
                | "delete-local"
                | "skip-check-parts-columns"
                | "restore-in-place" => {}
                other => {
                    return Err(Problem::bad_request(format!(
                        "{word:?} means nothing to mendb: there is no {other}"
                    )));
                }
            }
        }
        Ok(wish)
    }

    /// The fields of a backup or a restore.
    fn fields(&self) -> Map<String, Value> {
        let texts = [("tables", &self.tables), ("partitions", &self.partitions)];
        texts
            .into_iter()
            .filter_map(|(name, text)| Some((name.to_owned(), text.clone()?.into())))
            .collect()
    }
}

fn native(operation: &str, does: NativeDoes) -> Native {
    Native {
        operation: operation.to_owned(),
        does,
    }
}

fn acknowledged(operation: &str, name: &str) -> Value {
    json!({ "status": "acknowledged", "operation": operation, "backup_name": name })
}

/// A backup under a name.
fn to_create(operation: &str, wish: &Wish, now_ms: u64) -> Native {
    let name = match wish.name.as_str() {
        "" => name_of(now_ms),
        name => name.to_owned(),
    };
    let mut fields = wish.fields();
    fields.entry("tables").or_insert_with(|| Value::from("*.*"));
    fields.insert("label".to_owned(), name.clone().into());
    native(
        operation,
        NativeDoes::Route {
            at: (Post, "/v1/collections/{name}/backups"),
            parameters: vec![("name".to_owned(), COLLECTION.to_owned())],
            fields,
            tells: Tells::Begun(acknowledged(operation, &name)),
        },
    )
}

/// The name of a backup that nobody named: its time.
fn name_of(now_ms: u64) -> String {
    let at = i64::try_from(now_ms).unwrap_or_default();
    let at = jiff::Timestamp::from_millisecond(at).unwrap_or_default();
    at.strftime("%Y-%m-%dT%H-%M-%S").to_string()
}

/// Tables brought to a backup.
fn to_restore(operation: &str, wish: &Wish) -> Native {
    let mut fields = wish.fields();
    if let Some(databases) = &wish.databases {
        // As that program writes it: OLD:NEW.
        let pairs = databases
            .split(',')
            .map(|pair| pair.replacen(':', "=", 1).into());
        fields.insert("database_mapping".to_owned(), Value::Array(pairs.collect()));
    }
    fields.insert("in_place".to_owned(), true.into());
    fields.insert("data".to_owned(), (wish.data || !wish.schema).into());
    fields.insert("schema".to_owned(), (wish.schema || !wish.data).into());
    native(
        operation,
        NativeDoes::Route {
            at: (Post, "/v1/collections/{name}/restores"),
            parameters: vec![("name".to_owned(), wish.name.clone())],
            fields,
            tells: Tells::Begun(acknowledged(operation, &wish.name)),
        },
    )
}

fn to_delete(place: &str, name: &str) -> Result<Native, Problem> {
    match place {
        "remote" => Ok(native(
            "delete",
            NativeDoes::Route {
                at: (Verb::Delete, "/v1/backups/{backup}"),
                parameters: vec![("backup".to_owned(), name.to_owned())],
                fields: Map::new(),
                tells: Tells::Begun(acknowledged("delete", name)),
            },
        )),
        "local" => {
            let told = json!({
                "status": "success",
                "operation": "delete",
                "backup_name": name,
                "note": "backups are in the repository alone: delete remote removes one",
            });
            Ok(native("delete", NativeDoes::Nothing(told)))
        }
        _ => Err(Problem::bad_request("backups are local or remote")),
    }
}

fn meaningless(why: &str) -> Result<Vec<Native>, Problem> {
    Err(Problem::new(501, "fix_command", why))
}

fn version(_: &Foreign) -> Result<Vec<Native>, Problem> {
    let told = json!({ "version": concat!("mendb ", env!("CARGO_PKG_VERSION")) });
    Ok(vec![native("version", NativeDoes::Nothing(told))])
}

fn list(foreign: &Foreign) -> Result<Vec<Native>, Problem> {
    match foreign.parameter("where") {
        "local" => Ok(Vec::new()),
        "" | "remote" => Ok(vec![native(
            "list",
            NativeDoes::Route {
                at: (Get, "/v1/backups"),
                parameters: Vec::new(),
                fields: Map::new(),
                tells: Tells::Lines(listed),
            },
        )]),
        _ => Err(Problem::bad_request("backups are local or remote")),
    }
}

/// A backup as a row of system.backup_list: with the columns that every version of it has, as old servers take no
/// others.
fn listed(backup: &Value) -> Value {
    let id = backup["backup_id"].as_str().unwrap_or_default();
    let name = backup["label"].as_str().unwrap_or(id);
    let desc = match (backup["damage"].as_str(), backup["complete"].as_bool()) {
        (Some(_), _) => "broken",
        (None, Some(false)) => "incomplete",
        _ => "",
    };
    json!({
        "name": name,
        "created": created(id),
        "size": backup["bytes"].as_u64().unwrap_or_default(),
        "location": "remote",
        "desc": desc,
    })
}

/// The time in an id, as ClickHouse reads it.
fn created(id: &str) -> String {
    let digits = id.split('_').next().unwrap_or_default();
    match jiff::civil::DateTime::strptime("%Y%m%d%H%M%SZ", digits) {
        Ok(at) => at.strftime("%Y-%m-%d %H:%M:%S").to_string(),
        Err(_) => "1970-01-01 00:00:00".to_owned(),
    }
}

fn create(foreign: &Foreign) -> Result<Vec<Native>, Problem> {
    let wish = Wish::of_query(foreign, foreign.text("name").unwrap_or_default());
    Ok(vec![to_create("create", &wish, foreign.now_ms)])
}

fn create_remote(foreign: &Foreign) -> Result<Vec<Native>, Problem> {
    let wish = Wish::of_query(foreign, foreign.text("name").unwrap_or_default());
    Ok(vec![to_create("create_remote", &wish, foreign.now_ms)])
}

/// There is nothing to do for a backup that is there: it is in the repository when it is made, and a restore fetches what
/// it lacks.
fn to_find(operation: &str, name: &str) -> Native {
    let told = json!({
        "status": "success",
        "operation": operation,
        "backup_name": name,
        "note": "the backup is in the repository",
    });
    native(
        operation,
        NativeDoes::Route {
            at: (Get, "/v1/backups/{backup}"),
            parameters: vec![("backup".to_owned(), name.to_owned())],
            fields: Map::new(),
            tells: Tells::Begun(told),
        },
    )
}

fn upload(foreign: &Foreign) -> Result<Vec<Native>, Problem> {
    Ok(vec![to_find("upload", foreign.parameter("name"))])
}

fn download(foreign: &Foreign) -> Result<Vec<Native>, Problem> {
    Ok(vec![to_find("download", foreign.parameter("name"))])
}

fn restore(foreign: &Foreign) -> Result<Vec<Native>, Problem> {
    let wish = Wish::of_query(foreign, foreign.parameter("name"));
    Ok(vec![to_restore("restore", &wish)])
}

fn restore_remote(foreign: &Foreign) -> Result<Vec<Native>, Problem> {
    let wish = Wish::of_query(foreign, foreign.parameter("name"));
    Ok(vec![to_restore("restore_remote", &wish)])
}

fn delete(foreign: &Foreign) -> Result<Vec<Native>, Problem> {
    Ok(vec![to_delete(
        foreign.parameter("where"),
        foreign.parameter("name"),
    )?])
}

fn of_operations(operation: &str, most: u32) -> Native {
    let fields = json!({ "newest_first": "true", "limit": most.to_string() });
    native(
        operation,
        NativeDoes::Route {
            at: (Get, "/v1/operations"),
            parameters: Vec::new(),
            fields: match fields {
                Value::Object(fields) => fields,
                _ => Map::new(),
            },
            tells: Tells::Lines(acted),
        },
    )
}

fn status(_: &Foreign) -> Result<Vec<Native>, Problem> {
    Ok(vec![of_operations("status", 1)])
}

fn actions(_: &Foreign) -> Result<Vec<Native>, Problem> {
    Ok(vec![of_operations("actions", MOST_ACTIONS)])
}

/// An operation as a row of system.backup_actions: as for backups.
fn acted(operation: &Value) -> Value {
    let text = |name: &str| operation[name].as_str().unwrap_or_default();
    let state = match text("state") {
        "done" => "success",
        "failed" => "error",
        "cancelled" => "cancel",
        _ => "in progress",
    };
    let time = |name: &str| {
        text(name)
            .replace('T', " ")
            .trim_end_matches('Z')
            .to_owned()
    };
    let finish = match state {
        "in progress" => "1970-01-01 00:00:00".to_owned(),
        _ => time("updated_at"),
    };
    json!({
        "command": format!("{} {}", text("kind"), text("backup_id")),
        "start": time("created_at"),
        "finish": finish,
        "status": state,
        "error": text("error"),
    })
}

/// Commands, one a row, as they are inserted into system.backup_actions.
fn act(foreign: &Foreign) -> Result<Vec<Native>, Problem> {
    let mut natives = Vec::new();
    for line in foreign.body.lines().filter(|line| !line.trim().is_empty()) {
        let row: Value = serde_json::from_str(line)
            .map_err(|error| Problem::bad_request(format!("a row is no JSON: {error}")))?;
        let command = row["command"].as_str().unwrap_or_default();
        natives.push(to_act(command, foreign.now_ms)?);
    }
    match natives.is_empty() {
        true => Err(Problem::bad_request("there is no command")),
        false => Ok(natives),
    }
}

fn to_act(command: &str, now_ms: u64) -> Result<Native, Problem> {
    let words = words(command)?;
    let Some((verb, rest)) = words.split_first() else {
        return Err(Problem::bad_request("a command has no words"));
    };
    let named = |wish: Wish| match wish.name.is_empty() {
        true => Err(Problem::bad_request(format!("{verb} names no backup"))),
        false => Ok(wish),
    };
    match verb.as_str() {
        "create" | "create_remote" => Ok(to_create(verb, &Wish::of_words(rest)?, now_ms)),
        "upload" | "download" => {
            let wish = named(Wish::of_words(rest)?)?;
            Ok(to_find(verb, &wish.name))
        }
        "restore" | "restore_remote" => Ok(to_restore(verb, &named(Wish::of_words(rest)?)?)),
        "delete" => match rest {
            [place, name] => to_delete(place, name),
            _ => Err(Problem::bad_request(
                "delete takes local or remote, and a name",
            )),
        },
        other => Err(Problem::new(
            501,
            "fix_command",
            format!("{other:?} means nothing to mendb"),
        )
        .hint(
            "it does create, create_remote, upload, download, restore, restore_remote and delete",
        )),
    }
}

/// The words of a command, with quotes as a shell has them.
fn words(command: &str) -> Result<Vec<String>, Problem> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    for sign in command.chars() {
        match (quote, sign) {
            (Some(open), sign) if open == sign => quote = None,
            (Some(_), sign) => word.get_or_insert_default().push(sign),
            (None, '"' | '\'') => {
                quote = Some(sign);
                word.get_or_insert_default();
            }
            (None, sign) if sign.is_whitespace() => words.extend(word.take()),
            (None, sign) => word.get_or_insert_default().push(sign),
        }
    }
    if quote.is_some() {
        return Err(Problem::bad_request("a quote of the command is not closed"));
    }
    words.extend(word);
    Ok(words)
}

fn tables(_: &Foreign) -> Result<Vec<Native>, Problem> {
    meaningless("mendb lists no tables of a server: ask system.tables of it")
}

fn kill(_: &Foreign) -> Result<Vec<Native>, Problem> {
    meaningless(
        "to give an operation up rolls it back: POST /v1/operations/{operation}/cancel names the one that is meant",
    )
}

fn clean(_: &Foreign) -> Result<Vec<Native>, Problem> {
    meaningless(
        "mendb leaves nothing to be cleaned: an operation that is given up removes what it has made",
    )
}

fn watch(_: &Foreign) -> Result<Vec<Native>, Problem> {
    meaningless("a schedule does that: POST /v1/schedules")
}

fn rebase(_: &Foreign) -> Result<Vec<Native>, Problem> {
    meaningless("every backup of a server is complete by itself")
}

fn rebalance(_: &Foreign) -> Result<Vec<Native>, Problem> {
    meaningless("a restore puts parts on the disks that the policy of their table names")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_the_same_wish_as_its_query() {
        let words = words("create --tables=\"a.*, b.c\" --partitions '2026' monday").unwrap();
        assert_eq!(words.len(), 5);
        let wish = Wish::of_words(&words[1..]).unwrap();
        let query = json!({ "table": "a.*, b.c", "partitions": "2026" });
        let Value::Object(query) = query else {
            panic!("an object");
        };
        let foreign = Foreign {
            query,
            ..Foreign::default()
        };
        assert_eq!(wish, Wish::of_query(&foreign, "monday"));
    }

    #[test]
    fn what_is_wrong_with_a_command_is_told() {
        for command in [
            "",
            "create 'monday",
            "create a b",
            "create --unknown a",
            "restore",
            "delete monday",
            "delete nowhere monday",
            "watch",
        ] {
            assert!(to_act(command, 0).is_err(), "{command}");
        }
        assert!(to_act("restore_remote --rm --schema --data monday", 0).is_ok());
    }

    #[test]
    fn a_restore_brings_what_it_is_told() {
        let restore = |words: &str| {
            let native = to_act(words, 0).unwrap();
            let NativeDoes::Route { fields, .. } = native.does else {
                panic!("a route");
            };
            Value::Object(fields)
        };
        assert_eq!(
            restore("restore a"),
            json!({ "in_place": true, "data": true, "schema": true })
        );
        assert_eq!(
            restore("restore --data -t x.y -m a:b,c:d a"),
            json!({ "in_place": true, "data": true, "schema": false, "tables": "x.y", "database_mapping": ["a=b", "c=d"] })
        );
    }

    #[test]
    fn rows_are_as_the_integration_tables_read_them() {
        let backup = json!({ "backup_id": "20261130010608Z_full", "label": "a", "bytes": 7, "complete": true, "damage": null });
        assert_eq!(
            listed(&backup),
            json!({ "name": "a", "created": "2026-11-30 01:06:08", "size": 7, "location": "remote", "desc": "" })
        );
        assert_eq!(name_of(0), "1970-01-01T00-00-00");
    }
}
