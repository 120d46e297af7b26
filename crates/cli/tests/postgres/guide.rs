//! The guide does what it says: each of its commands runs, and prints the lines that stand below it.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use crate::postgres_server::PostgresServer;

const GUIDE: &str = include_str!("../../../../docs/guide-postgresql.md");

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

#[test]
fn the_guide_of_postgresql_is_true() {
    let server = PostgresServer::new();
    let directory = tempfile::tempdir().unwrap();
    let programs = directory.path().join("bin");
    fs::create_dir(&programs).unwrap();
    symlink(env!("CARGO_BIN_EXE_mendb"), programs.join("mendb")).unwrap();
    let path = format!(
        "{}:{}:{}",
        programs.display(),
        server.programs().display(),
        std::env::var("PATH").unwrap()
    );
    let (socket, port) = server.socket();
    let url = format!("postgres:///shop?host={}&port={port}", socket.display());
    let repository = directory.path().join("repository");
    let all = shown(GUIDE);
    assert!(all.len() > 15, "{} commands", all.len());
    let (mut exports, mut mend) = (String::new(), None);
    for Shown { command, lines } in all {
        let mut line = command
            .replace("postgres:///shop?host=/var/run/postgresql", &url)
            .replace("/var/backups/mendb", repository.to_str().unwrap());
        if line.starts_with("export ") {
            writeln!(exports, "{line}").unwrap();
            continue;
        }
        if let Some(named) = line.split(' ').find(|word| is_operation(word)) {
            let own: &String = mend.as_ref().expect("the guide lists it before");
            line = line.replace(named, own);
        }
        let output = Command::new("sh")
            .args(["-c", &format!("{exports}{line}")])
            .current_dir(directory.path())
            .env("PATH", &path)
            .env("PGHOST", socket)
            .env("PGPORT", port.to_string())
            .env("PGUSER", "postgres")
            .env("XDG_STATE_HOME", directory.path().join("state"))
            .output()
            .unwrap();
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
            let line = regular(line);
            assert!(
                printed_lines.any(|printed| printed == line),
                "{command} does not print {line:?} there:\n{printed}"
            );
        }
        let found = printed.split_whitespace().find(|word| is_operation(word));
        mend = found.map(str::to_owned).or(mend);
    }
}
