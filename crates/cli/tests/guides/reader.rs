//! Guides do what they say: each of their commands runs, and prints the lines that stand below it.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;

/// A command, and the lines below it.
struct Shown<'g> {
    command: &'g str,
    lines: Vec<&'g str>,
}

/// What is shown in the blocks of a console.
fn shown(guide: &str) -> Vec<Shown<'_>> {
    let mut all: Vec<Shown<'_>> = Vec::new();
    let mut is_console = false;
    for line in guide.lines() {
        match (line, line.strip_prefix("$ ")) {
            ("```console", _) => is_console = true,
            ("```", _) => is_console = false,
            (_, Some(command)) if is_console => all.push(Shown {
                command,
                lines: Vec::new(),
            }),
            _ if is_console => all.last_mut().unwrap().lines.push(line),
            _ => {}
        }
    }
    all
}

/// A line without what is another each time: numbers and ids.
fn regular(line: &str) -> String {
    let word = |word: &str| match is_operation(word) {
        true => "OPERATION".to_owned(),
        false => {
            let mut plain = String::new();
            for c in word.chars() {
                match c.is_ascii_digit() || matches!(c, '.' | ',') {
                    false => plain.push(c),
                    true if plain.ends_with('#') => {}
                    true => plain.push('#'),
                }
            }
            plain
        }
    };
    let words: Vec<String> = line.split_whitespace().map(word).collect();
    words.join(" ")
}

fn is_operation(word: &str) -> bool {
    word.starts_with("mend-2")
}

/// Somebody who follows a guide in an empty directory.
pub struct Reader {
    directory: tempfile::TempDir,
    path: String,
    /// What stands in the guide, and what it is here, in this order.
    pub replacements: Vec<(String, String)>,
    /// Of the environment.
    pub variables: Vec<(&'static str, String)>,
}

impl Reader {
    /// With `mendb` and these directories of programs.
    pub fn new(programs: &[PathBuf]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let own = directory.path().join("bin");
        fs::create_dir(&own).unwrap();
        symlink(env!("CARGO_BIN_EXE_mendb"), own.join("mendb")).unwrap();
        let inherited = std::env::var("PATH").unwrap();
        let path = std::iter::once(&own).chain(programs);
        let path = path.map(|directory| format!("{}:", directory.display()));
        Self {
            path: path.collect::<String>() + &inherited,
            directory,
            replacements: Vec::new(),
            variables: Vec::new(),
        }
    }

    /// A file of the directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// What the guide says, as it is here.
    pub fn here(&self, text: &str) -> String {
        let replaced = self.replacements.iter();
        replaced.fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
    }

    /// A command of a shell.
    pub fn shell(&self, line: &str) -> Command {
        let mut command = Command::new("sh");
        command
            .args(["-c", line])
            .current_dir(self.directory.path())
            .env("PATH", &self.path)
            .env("XDG_STATE_HOME", self.path("state"))
            .envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Does all that the guide says. What `apart` takes is not run here.
    pub fn follow(&mut self, guide: &str, mut apart: impl FnMut(&mut Self, &str) -> bool) {
        let all = shown(guide);
        assert!(all.len() > 10, "{} commands", all.len());
        let (mut exports, mut mend) = (String::new(), None);
        for Shown { command, lines } in all {
            if apart(self, command) {
                continue;
            }
            let mut line = self.here(command);
            if line.starts_with("export ") {
                writeln!(exports, "{line}").unwrap();
                continue;
            }
            if let Some(named) = line.split(' ').find(|word| is_operation(word)) {
                let own: &String = mend.as_ref().expect("the guide lists it before");
                line = line.replace(named, own);
            }
            let output = self.shell(&format!("{exports}{line}")).output().unwrap();
            let printed = String::from_utf8(output.stdout).unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            let differs = lines.iter().any(|line| line.ends_with("different"));
            let expected = if differs { 3 } else { 0 };
            assert_eq!(
                output.status.code(),
                Some(expected),
                "{command}\n{printed}{said}"
            );
            let mut printed_lines = printed.lines().map(regular);
            for line in lines {
                let line = regular(&self.here(line));
                assert!(
                    printed_lines.any(|printed| printed == line),
                    "{command} does not print {line:?} there:\n{printed}"
                );
            }
            let found = printed.split_whitespace().find(|word| is_operation(word));
            mend = found.map(str::to_owned).or(mend);
        }
    }
}
