//! `cargo xtask tidy`: the rules of the house that no other tool checks.
//!
//! - A source file has at most [`MAX_LINES`] lines: a longer one is two nouns.
//! - Which kinds of operations there are is known in their rooms only ([`KINDS_ROOMS`]).
//! - A crate imports only the rooms below it ([`ROOMS`]), in tests too; its modules as [`arrows`] says.
//! - No words that promise work for later.
//! - The commands that the README shows are commands of the program.

use std::fs;
use std::path::{Path, PathBuf};

use crate::arrows;
use crate::run::{Outcome, root};

const MAX_LINES: usize = 600;

/// Each room and the rooms it may import.
const ROOMS: [(&str, &[&str]); 9] = [
    ("mendb-model", &[]),
    ("mendb-recorder", &[]),
    ("mendb-rowstore", &["mendb-model", "mendb-recorder"]),
    ("mendb-repo", &["mendb-model"]),
    ("mendb-engines", &["mendb-model", "mendb-rowstore"]),
    (
        "mendb-service",
        &[
            "mendb-model",
            "mendb-rowstore",
            "mendb-repo",
            "mendb-engines",
            "mendb-recorder",
        ],
    ),
    ("mendb-server", &["mendb-service"]),
    (
        "mendb",
        &[
            "mendb-model",
            "mendb-rowstore",
            "mendb-repo",
            "mendb-engines",
            "mendb-service",
            "mendb-server",
            "mendb-recorder",
        ],
    ),
    ("xtask", &[]),
];

/// Where it may be told apart which kind a request is of.
const KINDS_ROOMS: [&str; 3] = [
    "crates/model/src/operation/",
    "crates/service/src/operations/",
    "crates/cli/src/operations/",
];

/// The kinds of requests.
const KINDS: [&str; 7] = [
    "Backup",
    "Restore",
    "PartBackup",
    "Mend",
    "MendRows",
    "Maintain",
    "Cluster",
];

/// Words that stand where work was left undone, in two halves so that this list does not name itself.
const UNDONE: [(&str, &str); 6] = [
    ("TO", "DO"),
    ("FIX", "ME"),
    ("XX", "X:"),
    ("unimplement", "ed!("),
    ("place", "holder"),
    ("not yet ", "implemented"),
];

/// Checks every rule and names all that are broken.
///
/// # Errors
/// A rule is broken.
pub fn run() -> Outcome {
    println!("==> cargo xtask tidy");
    let root = root();
    let mut broken = Vec::new();
    for directory in ["crates", "xtask"] {
        walk(&root.join(directory), &mut |path| {
            let shown = path
                .strip_prefix(&root)
                .unwrap_or(path)
                .display()
                .to_string();
            let text = fs::read_to_string(path).unwrap_or_default();
            match path.file_name().and_then(|name| name.to_str()) {
                Some("Cargo.toml") => broken.extend(imports(&shown, &text)),
                Some(name) if name.ends_with(".rs") => {
                    broken.extend(source(&shown, &text));
                    broken.extend(kinds(&shown, &text));
                }
                _ => {}
            }
        })
        .map_err(|error| format!("cannot read {directory}: {error}"))?;
    }
    broken.extend(arrows::check(&root));
    if let Ok(readme) = fs::read_to_string(root.join("README.md")) {
        let cli = fs::read_to_string(root.join("crates/cli/src/cli.rs")).unwrap_or_default();
        broken.extend(shown_commands(&readme, &cli));
    }
    if broken.is_empty() {
        return Ok(());
    }
    Err(format!("not tidy:\n  {}", broken.join("\n  ")))
}

fn walk(directory: &Path, visit: &mut impl FnMut(&Path)) -> std::io::Result<()> {
    let mut paths: Vec<PathBuf> = fs::read_dir(directory)?
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<_>>()?;
    paths.sort();
    for path in paths {
        if path.file_name().is_some_and(|name| name == "target") {
            continue;
        }
        if path.is_dir() {
            walk(&path, visit)?;
        } else {
            visit(&path);
        }
    }
    Ok(())
}

/// What is wrong with a source file.
fn source(path: &str, text: &str) -> Vec<String> {
    let mut broken = Vec::new();
    let lines = text.lines().count();
    if lines > MAX_LINES {
        broken.push(format!(
            "{path}: {lines} lines, the most is {MAX_LINES}: split it where a second noun begins"
        ));
    }
    for (number, line) in text.lines().enumerate() {
        for (left, right) in UNDONE {
            if line.contains(&format!("{left}{right}")) {
                broken.push(format!("{path}:{}: says {left}{right}", number + 1));
            }
        }
    }
    broken
}

/// Where a file of the product tells apart which kind a request is of, and is in no room for that.
fn kinds(path: &str, text: &str) -> Vec<String> {
    let is_product = path.contains("/src/") && !path.starts_with("xtask/");
    if !is_product || KINDS_ROOMS.iter().any(|room| path.starts_with(room)) {
        return Vec::new();
    }
    let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    let is_kind = |line: &str| {
        let named = line.match_indices("Request::").filter(|(at, _)| {
            let before = line[..*at].chars().next_back();
            before.is_none_or(|before| !before.is_alphanumeric())
        });
        let mut words = named.map(|(at, _)| line[at + "Request::".len()..].split('(').next());
        words.any(|word| word.is_some_and(|word| KINDS.contains(&word)))
    };
    let lines = code.lines().enumerate();
    let found = lines.filter(|(_, line)| !line.trim_start().starts_with("//") && is_kind(line));
    found
        .map(|(number, _)| {
            let number = number + 1;
            format!("{path}:{number}: tells kinds of requests apart; see KINDS_ROOMS in xtask/src/tidy.rs")
        })
        .collect()
}

/// Which imports of a crate are not of rooms below it.
fn imports(path: &str, manifest: &str) -> Vec<String> {
    let name = manifest
        .lines()
        .find_map(|line| line.strip_prefix("name = "))
        .map_or("", |name| name.trim_matches('"'));
    let Some((_, allowed)) = ROOMS.iter().find(|(room, _)| *room == name) else {
        return vec![format!(
            "{path}: the crate {name:?} is no room; see ROOMS in xtask/src/tidy.rs"
        )];
    };
    let imported = manifest
        .lines()
        .filter_map(|line| line.split(['.', ' ', '=']).next())
        .filter(|word| word.starts_with("mendb-"));
    imported
        .filter(|import| !allowed.contains(import))
        .map(|import| format!("{path}: {name} may not import {import}"))
        .collect()
}

/// Which `mendb …` lines in the README's code blocks begin with a command that the program does not have.
fn shown_commands(readme: &str, cli: &str) -> Vec<String> {
    let commands: Vec<String> = cli
        .lines()
        .skip_while(|line| !line.starts_with("enum Command"))
        .take_while(|line| *line != "}")
        .filter_map(|line| line.trim().split(['(', ',', ' ']).next())
        .filter(|word| word.starts_with(|c: char| c.is_ascii_uppercase()))
        .map(str::to_ascii_lowercase)
        .collect();
    let mut in_block = false;
    let shown = readme.lines().enumerate().filter_map(|(at, line)| {
        in_block ^= line.trim_start().starts_with("```");
        if !in_block {
            return None;
        }
        let line = line.trim_start_matches(['$', ' ']);
        let command = line.strip_prefix("mendb ")?.split_whitespace().next()?;
        command
            .starts_with(|c: char| c.is_ascii_lowercase())
            .then_some((at + 1, command))
    });
    shown
        .filter(|(_, command)| !commands.iter().any(|known| known == command))
        .map(|(line, command)| format!("README.md:{line}: mendb has no command {command}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_two_nouns_is_found() {
        assert!(source("a.rs", &"x\n".repeat(MAX_LINES)).is_empty());
        assert_eq!(source("a.rs", &"x\n".repeat(MAX_LINES + 1)).len(), 1);
    }

    #[test]
    fn work_left_undone_is_found() {
        let (left, right) = UNDONE[0];
        let text = format!("fine\n// {left}{right}: later\n");
        assert_eq!(
            source("a.rs", &text),
            [format!("a.rs:2: says {left}{right}")]
        );
    }

    #[test]
    fn a_match_on_the_kind_of_a_request_is_found_outside_of_its_rooms() {
        let text = "fn f(request: &Request) {\n    matches!(request, Request::Mend(_));\n}\n\
                    // Request::Mend(_)\nMessage::Request(_)\n#[cfg(test)]\nmod tests { Request::Mend(_) }";
        assert!(kinds("crates/service/src/operations/mod.rs", text).is_empty());
        assert_eq!(kinds("crates/service/src/front/mod.rs", text).len(), 1);
    }

    #[test]
    fn an_import_of_a_room_beside_or_above_is_found() {
        let manifest = "[package]\nname = \"mendb-repo\"\n[dependencies]\n\
                        mendb-model.workspace = true\nmendb-engines.workspace = true\n";
        assert_eq!(
            imports("Cargo.toml", manifest),
            ["Cargo.toml: mendb-repo may not import mendb-engines"]
        );
    }

    #[test]
    fn a_command_that_is_not_there_is_found_in_the_readme() {
        let cli = "enum Command {\n    /// Tables\n    Table(TableCommand),\n}\n";
        let readme = "mendb is a program\n```\nmendb table list\n$ mendb tables\n```\n";
        assert_eq!(
            shown_commands(readme, cli),
            ["README.md:4: mendb has no command tables"]
        );
    }
}
