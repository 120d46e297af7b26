//! Which modules of a crate import which, and what of that is not allowed.
//!
//! No crate has a circle of files: `a` that imports `b` that imports `a`. Those of [`FLOORS`] have floors, too: a
//! module imports only from floors below its own, or from its own module of the first level.
//! What a `mod.rs` only passes on counts as an import of the file that has it. Tests may import anything.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Crates, each with its modules of the first level, from the lowest floor up. Those of one floor see each
/// other's nothing.
pub const FLOORS: [(&str, &[&[&str]]); 3] = [
    (
        "crates/rowstore/src",
        &[
            &["error"],
            &["kernel"],
            &["catalogue"],
            &["table"],
            &["batch", "shard"],
            &["commit"],
            &["jobs"],
            &["snapshot"],
            &["database"],
            &["lib"],
        ],
    ),
    (
        "crates/service/src",
        &[
            &["env", "manifests", "row_conflict", "sizes", "ways_on"],
            &["error"],
            &["replica", "task_error"],
            &["journal"],
            &["question", "shared"],
            &["wire"],
            &["coordinator", "journal_port"],
            &["attempt"],
            &["front", "reconcile"],
            &["chains", "diff", "orphans", "proof"],
            &["operations"],
            &["worker"],
            &["service"],
            &["lib"],
        ],
    ),
    (
        "crates/server/src",
        &[
            &[
                "cookie", "cron", "events", "metrics", "problem", "role", "tls", "upload", "verb",
            ],
            &["compat", "header", "validity"],
            &["listener", "route", "store"],
            &["desk", "schedule"],
            &["dashboard", "door", "guard", "openapi"],
            &["app"],
            &["gate"],
            &["lib"],
        ],
    ),
];

/// Crates of which it is only seen to that they have no circle.
const NO_FLOORS: [&str; 6] = [
    "crates/cli/src",
    "crates/engines/src",
    "crates/model/src",
    "crates/recorder/src",
    "crates/repo/src",
    "xtask/src",
];

/// What is wrong with the imports of the crates, one line each.
pub fn check(root: &Path) -> Vec<String> {
    let mut broken = Vec::new();
    for (directory, floors) in FLOORS {
        match read(&root.join(directory)) {
            Ok(files) => broken.extend(Arrows::of(&files).broken(directory, floors)),
            Err(error) => broken.push(format!("{directory}: {error}")),
        }
    }
    for directory in NO_FLOORS {
        match read(&root.join(directory)) {
            Ok(files) => broken.extend(Arrows::of(&files).circles(directory)),
            Err(error) => broken.push(format!("{directory}: {error}")),
        }
    }
    broken
}

/// The text of each file by the path of its module, `shard::run`; `lib` is the root.
type Files = BTreeMap<String, String>;

fn read(directory: &Path) -> std::io::Result<Files> {
    let mut files = Files::new();
    read_into(directory, "", &mut files)?;
    Ok(files)
}

fn read_into(directory: &Path, module: &str, files: &mut Files) -> std::io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let inner = match (module, name.as_ref()) {
            ("", name) => name.to_owned(),
            (module, "mod") => module.to_owned(),
            (module, name) => format!("{module}::{name}"),
        };
        if path.is_dir() {
            read_into(&path, &inner, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.insert(inner, fs::read_to_string(&path)?);
        }
    }
    Ok(())
}

/// From each module to those that it imports, tests aside.
struct Arrows(BTreeMap<String, BTreeSet<String>>);

impl Arrows {
    fn of(files: &Files) -> Self {
        let mut passed_on: BTreeMap<String, String> = BTreeMap::new();
        for (module, text) in files {
            for path in uses(text, module, Kind::PassedOn) {
                if let Some(name) = path.rsplit("::").next() {
                    passed_on.insert(format!("{module}::{name}"), path.clone());
                }
            }
        }
        let arrows = files.iter().map(|(module, text)| {
            let imported = uses(text, module, Kind::Imported).into_iter();
            let to = imported.filter_map(|path| file_of(files, &passed_on, path));
            (module.clone(), to.filter(|to| to != module).collect())
        });
        Self(arrows.collect())
    }

    fn broken(&self, directory: &str, floors: &[&[&str]]) -> Vec<String> {
        let top = |module: &str| module.split("::").next().unwrap_or_default().to_owned();
        let floor = |module: &str| {
            let module = top(module);
            floors
                .iter()
                .position(|floor| floor.contains(&module.as_str()))
        };
        let mut broken = Vec::new();
        for (module, imported) in &self.0 {
            let Some(own) = floor(module) else {
                broken.push(format!(
                    "{directory}: {module} is on no floor; see FLOORS in xtask/src/arrows.rs"
                ));
                continue;
            };
            for import in imported {
                let is_below = floor(import).is_some_and(|below| below < own);
                if !is_below && top(import) != top(module) {
                    broken.push(format!("{directory}: {module} may not import {import}"));
                }
            }
        }
        broken.extend(self.circles(directory));
        broken
    }

    fn circles(&self, directory: &str) -> Option<String> {
        let circle = self.circle()?;
        Some(format!(
            "{directory}: a circle of imports: {}",
            circle.join(" -> ")
        ))
    }

    /// A circle, if there is one, from a module back to it.
    fn circle(&self) -> Option<Vec<String>> {
        let mut left = self.0.clone();
        // What imports nothing that is left is in no circle.
        loop {
            let before = left.len();
            let modules: BTreeSet<String> = left.keys().cloned().collect();
            left.retain(|_, imported| imported.iter().any(|import| modules.contains(import)));
            if left.len() == before {
                break;
            }
        }
        let mut path = vec![left.keys().next()?.clone()];
        loop {
            let next = left[path.last()?]
                .iter()
                .find(|import| left.contains_key(*import))?;
            if let Some(first) = path.iter().position(|module| module == next) {
                let mut circle = path.split_off(first);
                circle.push(next.clone());
                return Some(circle);
            }
            path.push(next.clone());
        }
    }
}

/// The module whose file has what a path names.
fn file_of(
    files: &Files,
    passed_on: &BTreeMap<String, String>,
    mut path: String,
) -> Option<String> {
    // More often than there are files a name is not passed on.
    for _ in 0..=files.len() {
        match passed_on.get(&path) {
            Some(from) => path.clone_from(from),
            None => break,
        }
    }
    while !files.contains_key(&path) {
        path.truncate(path.rfind("::")?);
    }
    Some(path)
}

/// What to look for in a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// `pub use` of its own modules.
    PassedOn,
    /// Everything else.
    Imported,
}

/// The paths within the crate that a file names, each with its last name.
fn uses(text: &str, module: &str, kind: Kind) -> Vec<String> {
    let text = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    let code: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect();
    let code = code.join("\n");
    let mut paths = Vec::new();
    let mut rest = code.as_str();
    while let Some(at) = rest.find("use ") {
        let before = rest[..at].rsplit('\n').next().unwrap_or_default().trim();
        rest = &rest[at + 4..];
        let is_public = before.starts_with("pub");
        if !(before.is_empty() || is_public) {
            continue;
        }
        let statement = rest.split(';').next().unwrap_or_default();
        let passes_on = is_public && !statement.trim_start().starts_with("crate::");
        if passes_on == (kind == Kind::PassedOn) {
            flatten("", statement, &mut paths);
        }
    }
    if kind == Kind::Imported {
        // Paths that are written out where they are used.
        let written_out = ["crate::", "super::"].map(|start| code.match_indices(start));
        for (at, _) in written_out.into_iter().flatten() {
            let path = &code[at..];
            let end = path.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'));
            paths.push(
                path[..end.unwrap_or(path.len())]
                    .trim_end_matches(':')
                    .to_owned(),
            );
        }
    }
    let parent = module.rsplit_once("::").map_or("", |(parent, _)| parent);
    let own = |path: &str| match kind {
        Kind::PassedOn if module == "lib" => Some(path.to_owned()),
        Kind::PassedOn => Some(format!("{module}::{path}")),
        Kind::Imported => match path.split_once("::") {
            Some(("crate", path)) => Some(path.to_owned()),
            Some(("super", path)) if parent.is_empty() => Some(path.to_owned()),
            Some(("super", path)) => Some(format!("{parent}::{path}")),
            Some(("self", path)) => Some(format!("{module}::{path}")),
            _ => None,
        },
    };
    paths.iter().filter_map(|path| own(path)).collect()
}

/// Adds the paths of a tree of imports.
fn flatten(prefix: &str, tree: &str, paths: &mut Vec<String>) {
    let tree = tree.trim();
    let Some((outer, inner)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap_or_default().trim();
        let path = format!("{prefix}{path}");
        paths.push(path.strip_suffix("::self").unwrap_or(&path).to_owned());
        return;
    };
    let inner = inner.trim_end().strip_suffix('}').unwrap_or(inner);
    let prefix = format!("{prefix}{}", outer.trim());
    let mut depth = 0;
    let mut start = 0;
    for (at, letter) in inner.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                flatten(&prefix, &inner[start..at], paths);
                start = at + 1;
            }
            _ => {}
        }
    }
    if !inner[start..].trim().is_empty() {
        flatten(&prefix, &inner[start..], paths);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(files: &[(&str, &str)]) -> Files {
        let files = files.iter();
        files
            .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
            .collect()
    }

    const TWO_FLOORS: &[&[&str]] = &[&["low"], &["high"], &["lib"]];

    #[test]
    fn an_import_of_a_floor_above_is_found_however_it_is_written() {
        for import in [
            "use crate::high::Thing;",
            "use crate::{\n    high::{self, Thing},\n};",
            "fn f() -> crate::high::Thing {}",
            "use super::high::Thing;",
            "fn f() -> super::high::Thing {}",
        ] {
            let files = files(&[
                ("high", ""),
                ("lib", "mod high;\nmod low;"),
                ("low", import),
            ]);
            assert_eq!(
                Arrows::of(&files).broken("crate", TWO_FLOORS),
                ["crate: low may not import high"],
                "{import}"
            );
        }
    }

    #[test]
    fn comments_tests_and_floors_below_are_no_fault() {
        let text =
            "//! See crate::high.\n#[cfg(test)]\nmod tests {\n    use crate::high::Thing;\n}\n";
        let files = files(&[("high", "use crate::low;"), ("lib", ""), ("low", text)]);
        assert!(Arrows::of(&files).broken("crate", TWO_FLOORS).is_empty());
    }

    #[test]
    fn a_circle_is_found_through_what_a_module_passes_on() {
        let low = "mod one;\nmod other;\npub(crate) use one::One;\n";
        let files = files(&[
            ("lib", ""),
            ("low", low),
            ("low::one", "use crate::low::other::Other;"),
            ("low::other", "use crate::low::One;"),
        ]);
        assert_eq!(
            Arrows::of(&files).broken("crate", TWO_FLOORS),
            ["crate: a circle of imports: low::one -> low::other -> low::one"]
        );
    }
}
