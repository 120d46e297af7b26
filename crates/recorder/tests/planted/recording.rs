//! What is recorded is what was written; what cannot be recorded is refused.

use std::process::Command;

use mendb_recorder::{Error, How, Recorder, Recording, State};

use crate::{read, record};

/// Runs a program in a directory of its own that holds a file.
fn run(
    allowed: Option<&str>,
    program: &str,
    arguments: &[&str],
) -> mendb_recorder::Result<Recording> {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("there"), "ten bytes.").unwrap();
    let mut recorder = Recorder::new(directory.path()).unwrap();
    if let Some(allowed) = allowed {
        recorder = recorder.allow_mapped(allowed);
    }
    let mut command = Command::new(program);
    recorder.record(command.args(arguments).current_dir(directory.path()))
}

fn python(allowed: Option<&str>, script: &str) -> mendb_recorder::Result<Recording> {
    run(allowed, "python3", &["-c", script])
}

#[test]
fn threads_and_children_in_the_same_directories_are_recorded_whole() {
    for _ in 0..3 {
        let recording = record("crowd", "none");
        let child = |state: &State<'_>| {
            let path = state.directory().join("1/0/a \"<child>\"");
            if state.succeeded() && path.exists() {
                assert_eq!(read(&path), "one\ntwo\n");
            }
            Ok(())
        };
        let report = recording.check(&How::kill().count(40), child).unwrap();
        assert!(report.states > 20, "{report}");
    }
}

#[test]
fn every_way_to_write_is_recorded() {
    let script = r#"
import os
f = os.open("there", os.O_RDWR)
os.lseek(f, 3, os.SEEK_SET); os.write(f, b"abc"); os.pwrite(f, b"z", 12)
os.writev(f, [b"1", b"", b"2"]); os.pwritev(f, [b"3", b"4"], 0)
os.posix_fallocate(f, 0, 30); os.ftruncate(f, 25)
a = os.open("there", os.O_WRONLY | os.O_APPEND); os.write(a, b"end"); os.dup2(a, 77); os.write(77, b"more")
os.mkdir("d"); d = os.open("d", os.O_RDONLY)
os.rename("there", "d/here"); os.write(a, b"!"); os.link("d/here", "e", dst_dir_fd=None)
os.unlink("here", dir_fd=d); os.write(a, b"?"); os.fsync(f); os.fsync(d); os.truncate("e", 29)
open("new", "w").write("x" * 10000); open("new", "w").write("short")
os.mkdir("gone"); os.rmdir("gone")
print("told"); import sys; print("err", file=sys.stderr)
"#;
    // That it is not refused says that each was understood.
    let recording = python(None, script).unwrap();
    assert!(recording.status.success(), "{}", recording.stderr);
    assert_eq!(recording.stdout, "told\n");
    let marks = recording.trace.marks();
    let marks: Vec<_> = marks.iter().map(|mark| mark.text.as_str()).collect();
    assert_eq!(marks.len(), 3);
    assert!(marks.contains(&"told") && marks.contains(&"err"));
    assert_eq!(marks[2], "0");
}

const MAP: &str = r#"
import mmap, os
f = os.open("there", os.O_RDWR)
m = mmap.mmap(f, 10); m[0] = 65; m.flush()
"#;

#[test]
fn a_file_that_is_mapped_shared_and_writable_is_refused_unless_it_is_allowed() {
    let error = python(None, MAP).unwrap_err();
    assert!(
        error.to_string().contains("mapped shared and writable"),
        "{error}"
    );
    python(Some("there"), MAP).unwrap();
    assert!(python(Some("elsewhere"), MAP).is_err());
    // What is only read may be mapped.
    let reads = MAP
        .replace("10)", "10, prot=mmap.PROT_READ)")
        .replace("m[0] = 65; m.flush()", "m[0]");
    assert!(python(None, &reads).unwrap().status.success());
}

#[test]
fn what_strace_does_not_show_is_refused() {
    let copy = "import os; a = os.open('there', 0); b = os.open('b', os.O_WRONLY | os.O_CREAT); os.copy_file_range(a, b, 10)";
    assert!(matches!(python(None, copy), Err(Error::Unsupported { .. })));
    let synced = "import os; os.open('there', os.O_WRONLY | os.O_DSYNC)";
    assert!(matches!(
        python(None, synced),
        Err(Error::Unsupported { .. })
    ));
    let link = "import os; os.symlink('there', 'link')";
    assert!(matches!(
        python(None, link),
        Err(Error::Unsupported { .. } | Error::Incomplete { .. })
    ));
    // It reads through the descriptor that it writes through: the positions are not known.
    let both = "import os; f = os.open('there', os.O_RDWR); os.read(f, 5); os.write(f, b'x')";
    let error = python(None, both).unwrap_err();
    assert!(matches!(error, Error::Incomplete { .. }), "{error}");
}

#[test]
fn a_process_that_is_killed_is_recorded_to_its_end() {
    let script = "import os; f = os.open('new', os.O_WRONLY | os.O_CREAT); os.write(f, b'x'); os.kill(os.getpid(), 9)";
    let recording = python(None, script).unwrap();
    assert!(!recording.status.success());
    assert_eq!(recording.trace.lines().count(), 2);
}

#[test]
fn a_program_that_is_not_there_is_an_end_with_an_error() {
    let recording = run(None, "/nonexistent/program", &[]).unwrap();
    assert!(!recording.status.success());
    assert!(
        recording.stderr.contains("/nonexistent/program"),
        "{}",
        recording.stderr
    );
}
