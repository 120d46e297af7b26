//! Python environments of packages: installed once for all tests that share a target directory, by the
//! test that comes first, while others wait.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The interpreter of an environment below a directory, in which `pip install` was run with these arguments.
pub fn environment(below: &Path, name: &str, install: &[&str]) -> PathBuf {
    let venv = below.join(name);
    let python = venv.join("bin/python");
    let installed = venv.join("installed");
    let lock = File::create(below.join(format!("{name}.lock"))).unwrap();
    lock.lock().unwrap();
    let wanted = install.join(" ");
    if fs::read_to_string(&installed).is_ok_and(|text| text == wanted) {
        return python;
    }
    run(Command::new("python3")
        .args(["-m", "venv", "--clear"])
        .arg(&venv));
    run(Command::new(&python)
        .args(["-m", "pip", "install", "--quiet"])
        .args(install));
    fs::write(&installed, wanted).unwrap();
    python
}

/// Runs a command that has to succeed.
pub fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| {
        panic!("some tests need python3 with venv and pip: {command:?}: {error}")
    });
    assert!(
        output.status.success(),
        "some tests need python3 with venv and pip: {command:?}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
