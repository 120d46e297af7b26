//! From the arguments of a request to the words of a command, and back: both are described by the command line alone.

use std::any::TypeId;
use std::collections::BTreeMap;

use clap::{Arg, ArgAction, ArgMatches, Command};
use mendb_server::route::Route;
use mendb_server::{Field, FieldKind};
use serde_json::{Map, Value};

use crate::failure::Failure;

/// The command of some words.
pub fn leaf<'a>(program: &'a Command, words: &[&str]) -> Option<&'a Command> {
    words
        .iter()
        .try_fold(program, |command, word| command.find_subcommand(word))
}

/// The arguments of a command itself.
fn arguments(command: &Command) -> impl Iterator<Item = &Arg> {
    command
        .get_arguments()
        .filter(|arg| !arg.is_global_set() && !matches!(arg.get_id().as_str(), "help" | "version"))
}

/// The words that a request stands for.
///
/// # Errors
/// It names an argument that the command does not have, or requests may not name; or a value is none.
pub fn of_request(
    program: &Command,
    route: &Route,
    parameters: &[(String, String)],
    fields: &Map<String, Value>,
) -> Result<Vec<String>, Failure> {
    let defect = || {
        Failure::new(
            crate::failure::FailureKind::ReportBug,
            "a route has no command",
        )
    };
    let of_route = route.command().ok_or_else(defect)?;
    let command = leaf(program, of_route.words).ok_or_else(defect)?;
    let mut given: BTreeMap<&str, Value> = BTreeMap::new();
    for (name, value) in fields {
        let is_of_path = route
            .parameters()
            .any(|part| of_route.argument(part) == name || part == name);
        let known = arguments(command).any(|arg| arg.get_id() == name.as_str());
        if !known || is_of_path || of_route.without.contains(&name.as_str()) {
            return Err(
                Failure::misuse(format!("there is no argument {name:?} here"))
                    .hint("GET /v1/openapi.json tells those there are"),
            );
        }
        given.insert(name, value.clone());
    }
    let mut collection = None;
    for (part, value) in parameters {
        let argument = of_route.argument(part);
        match arguments(command).find(|arg| arg.get_id() == argument) {
            Some(arg) => {
                // What is in a collection is named with it.
                let value = match collection.take() {
                    Some(collection) => format!("{collection}/{value}"),
                    None => value.clone(),
                };
                given.insert(arg.get_id().as_str(), value.into());
            }
            None => collection = Some(value.clone()),
        }
    }
    for (name, value) in of_route.fixed {
        given.insert(name, (*value).into());
    }
    let mut words: Vec<String> = std::iter::once("mendb")
        .chain(of_route.words.iter().copied())
        .map(str::to_owned)
        .collect();
    let mut places: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for arg in arguments(command) {
        let Some(value) = given.get(arg.get_id().as_str()) else {
            continue;
        };
        let texts = texts(arg.get_id().as_str(), value)?;
        if let Some(place) = arg.get_index() {
            places.entry(place).or_default().extend(texts);
            continue;
        }
        let flag = arg
            .get_long()
            .map(|long| format!("--{long}"))
            .ok_or_else(defect)?;
        if matches!(arg.get_action(), ArgAction::SetTrue) {
            match texts.as_slice() {
                [text] if text == "true" => words.push(flag),
                [text] if text == "false" => {}
                _ => {
                    let name = arg.get_id();
                    return Err(Failure::misuse(format!("{name} is not true or false")));
                }
            }
            continue;
        }
        words.extend(texts.iter().map(|text| format!("{flag}={text}")));
    }
    if !places.is_empty() {
        words.push("--".to_owned());
        words.extend(places.into_values().flatten());
    }
    Ok(words)
}

/// The texts of a value.
fn texts(name: &str, value: &Value) -> Result<Vec<String>, Failure> {
    let one = |value: &Value| match value {
        Value::String(text) if !text.contains('\0') => Ok(text.clone()),
        Value::Bool(truth) => Ok(truth.to_string()),
        Value::Number(number) => Ok(number.to_string()),
        _ => Err(Failure::misuse(format!(
            "{name} is no text, number or truth"
        ))),
    };
    match value {
        Value::Null => Ok(Vec::new()),
        Value::Array(values) => values.iter().map(one).collect(),
        value => Ok(vec![one(value)?]),
    }
}

/// The arguments of a route, but for those in its path.
pub fn fields(program: &Command, route: &Route) -> Vec<Field> {
    let Some(of_route) = route.command() else {
        return Vec::new();
    };
    let Some(command) = leaf(program, of_route.words) else {
        return Vec::new();
    };
    let in_path: Vec<&str> = route
        .parameters()
        .map(|part| of_route.argument(part))
        .collect();
    arguments(command)
        .filter(|arg| {
            let name = arg.get_id().as_str();
            !in_path.contains(&name) && !of_route.without.contains(&name)
        })
        .map(|arg| Field {
            name: arg.get_id().to_string(),
            about: arg.get_help().map(ToString::to_string).unwrap_or_default(),
            kind: kind(arg),
            is_required: arg.is_required_set(),
        })
        .collect()
}

fn kind(arg: &Arg) -> FieldKind {
    let parsed = arg.get_value_parser().type_id();
    let is = |ids: &[TypeId]| ids.iter().any(|id| parsed == *id);
    let names = arg.get_value_names().unwrap_or_default();
    match arg.get_action() {
        ArgAction::SetTrue | ArgAction::SetFalse => FieldKind::Boolean,
        _ if is(&[TypeId::of::<bool>()]) => FieldKind::Boolean,
        ArgAction::Append => FieldKind::Texts,
        _ if is(&[
            TypeId::of::<u32>(),
            TypeId::of::<u64>(),
            TypeId::of::<i64>(),
        ]) && names.first().is_some_and(|name| name == "N") =>
        {
            FieldKind::Integer
        }
        _ => match names {
            [name] if name.contains('|') && !name.chars().any(char::is_uppercase) => {
                FieldKind::OneOf(name.split('|').map(str::to_owned).collect())
            }
            _ => FieldKind::Text,
        },
    }
}

/// What was said on a command line, as a request says it: the words of the command, and its arguments.
pub fn of_line<'a>(
    program: &'a Command,
    line: &'a ArgMatches,
) -> (Vec<&'a str>, Map<String, Value>) {
    let mut words = Vec::new();
    let (mut command, mut matches) = (program, line);
    while let Some((word, inner)) = matches.subcommand() {
        words.push(word);
        matches = inner;
        match command.find_subcommand(word) {
            Some(inner) => command = inner,
            None => break,
        }
    }
    let mut fields = Map::new();
    for arg in arguments(command) {
        let name = arg.get_id().as_str();
        if matches.value_source(name) != Some(clap::parser::ValueSource::CommandLine) {
            continue;
        }
        let value = match arg.get_action() {
            ArgAction::SetTrue => Value::Bool(matches.get_flag(name)),
            _ => {
                let raw = matches.get_raw(name).into_iter().flatten();
                let texts = raw.map(|text| Value::String(text.to_string_lossy().into_owned()));
                let mut texts: Vec<Value> = texts.collect();
                match (texts.len(), arg.get_action()) {
                    (1, ArgAction::Set) => texts.remove(0),
                    _ => Value::Array(texts),
                }
            }
        };
        fields.insert(name.to_owned(), value);
    }
    (words, fields)
}

#[cfg(test)]
mod tests {
    use mendb_server::Verb;
    use mendb_server::route::{Command as OfRoute, Does};

    use super::*;

    fn program() -> Command {
        let restore = Command::new("restore")
            .arg(Arg::new("what").required(true))
            .arg(
                Arg::new("in_place")
                    .long("in-place")
                    .action(ArgAction::SetTrue),
            )
            .arg(Arg::new("plan").long("plan"))
            .arg(Arg::new("rename").long("rename").action(ArgAction::Append));
        let mut program = Command::new("mendb")
            .arg(Arg::new("target").long("target").global(true))
            .subcommand(restore)
            .subcommand(Command::new("show").arg(Arg::new("backup")));
        program.build();
        program
    }

    fn route(path: &'static str, words: &'static [&'static str]) -> Route {
        Route {
            verb: Verb::Post,
            path,
            role: None,
            about: "",
            does: Does::Command(OfRoute {
                words,
                names: &[("name", "what")],
                without: &["plan"],
                fixed: &[],
                carries_out: false,
                rows: mendb_server::route::Rows::None,
            }),
        }
    }

    fn words(fields: Value) -> Result<Vec<String>, Failure> {
        let Value::Object(fields) = fields else {
            panic!("an object");
        };
        let route = route("/v1/{name}/restores", &["restore"]);
        let parameters = [("name".to_owned(), "--target=/etc".to_owned())];
        of_request(&program(), &route, &parameters, &fields)
    }

    #[test]
    fn a_request_is_the_words_of_its_command() {
        let fields = serde_json::json!({ "in_place": true, "rename": ["a=b", "--x"] });
        assert_eq!(
            words(fields).unwrap(),
            [
                "mendb",
                "restore",
                "--in-place",
                "--rename=a=b",
                "--rename=--x",
                "--",
                "--target=/etc"
            ]
        );
        let fields = serde_json::json!({ "in_place": false, "rename": null });
        assert_eq!(words(fields).unwrap().len(), 4);
    }

    #[test]
    fn a_request_names_nothing_that_is_not_its_own() {
        for fields in [
            serde_json::json!({ "target": "/etc" }),
            serde_json::json!({ "plan": "/etc/passwd" }),
            serde_json::json!({ "what": "other" }),
            serde_json::json!({ "name": "other" }),
            serde_json::json!({ "help": true }),
            serde_json::json!({ "in_place": "maybe" }),
            serde_json::json!({ "rename": { "a": "b" } }),
            serde_json::json!({ "rename": "a\u{0}" }),
        ] {
            assert!(words(fields.clone()).is_err(), "{fields}");
        }
    }

    #[test]
    fn what_is_in_a_collection_is_named_with_it() {
        let route = route("/v1/{collection}/backups/{backup}", &["show"]);
        let parameters = [("collection", "world"), ("backup", "monday")];
        let parameters = parameters.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let words = of_request(&program(), &route, &parameters, &Map::new()).unwrap();
        assert_eq!(words, ["mendb", "show", "--", "world/monday"]);
    }

    #[test]
    fn a_line_and_a_request_say_the_same() {
        let program = program();
        let line = ["mendb", "restore", "--in-place", "--rename=a=b", "world"];
        let matches = program.clone().try_get_matches_from(line).unwrap();
        let (words, fields) = of_line(&program, &matches);
        assert_eq!(words, ["restore"]);
        assert_eq!(
            Value::Object(fields),
            serde_json::json!({ "what": "world", "in_place": true, "rename": ["a=b"] })
        );
    }
}
