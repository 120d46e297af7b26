//! Runs a command under strace, and reads what it did.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use crate::call::{Call, CallReader};
use crate::error::{Error, Result, failed};
use crate::told::Told;
use crate::trace::{Change, Event, Mark, Stream, Trace};
use crate::translate::translate;
use crate::tree::Tree;
use crate::watched::Watched;

/// Every call that changes files, names or descriptors, and those that tell who has which. A question mark: not
/// every machine has it.
const CALLS: &str = "?open,?creat,openat,?openat2,write,pwrite64,writev,pwritev,?pwritev2,\
ftruncate,truncate,fallocate,fsync,fdatasync,sync,syncfs,\
?rename,?renameat,?renameat2,?link,linkat,?symlink,symlinkat,?mknod,mknodat,\
?unlink,unlinkat,?rmdir,?mkdir,mkdirat,\
dup,?dup2,dup3,fcntl,lseek,chdir,fchdir,mmap,\
clone,?clone3,?fork,?vfork,?copy_file_range,sendfile,splice,?io_uring_setup";

/// The largest write that is printed whole.
const LARGEST_WRITE: &str = "67108864";

/// Records what a command does below one directory.
///
/// ```no_run
/// # use std::process::Command;
/// # use mendb_recorder::{How, Recorder};
/// # fn main() -> mendb_recorder::Result<()> {
/// let recorder = Recorder::new("/tmp/place".as_ref())?.allow_mapped("-shm");
/// let recording = recorder.record(Command::new("program").arg("/tmp/place"))?;
/// let report = recording.check(&How::power_loss().count(1000), |state| {
///     // Open what is in `state.directory()`, and hold it against what was told:
///     let promised = state.told().filter(|line| line.starts_with("acknowledged "));
///     if promised.count() <= 3 { Ok(()) } else { Err("more than there is".to_owned()) }
/// })?;
/// report.assert();
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Recorder(Watched);

/// What a command did, and how it ended.
#[derive(Debug, Clone)]
pub struct Recording {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
    /// What it did to the directory.
    pub trace: Trace,
}

impl Recording {
    /// The same as if nothing had been synced. A check that finds nothing wrong with this finds nothing.
    #[must_use]
    pub fn without_syncs(&self) -> Self {
        let mut recording = self.clone();
        let events = &mut recording.trace.events;
        events.retain(|event| !matches!(event.change, Change::Sync(_)));
        recording
    }
}

impl Recorder {
    /// A recorder of what happens below a directory that is there. What is in it is taken as durable.
    ///
    /// # Errors
    /// The directory is not there.
    pub fn new(root: &Path) -> Result<Self> {
        let root = fs::canonicalize(root).map_err(failed("find", root))?;
        Ok(Self(Watched {
            root,
            mapped: Vec::new(),
        }))
    }

    /// Allows files whose names end so to be mapped shared and writable. Their content is not in the states:
    /// allow only what is made anew when it is opened, as SQLite's `-shm`.
    #[must_use]
    pub fn allow_mapped(mut self, suffix: &str) -> Self {
        self.0.mapped.push(suffix.to_owned());
        self
    }

    /// The recorded directory, as its process must name it.
    pub fn root(&self) -> &Path {
        &self.0.root
    }

    /// Runs a command with its threads and children, to the end of all of them.
    ///
    /// # Errors
    /// strace cannot be started, or the command did what cannot be rebuilt. That it failed is no error: see
    /// [`Recording::status`].
    pub fn record(&self, command: &Command) -> Result<Recording> {
        let before = Tree::read(&self.0.root)?;
        let scratch =
            tempfile::tempdir().map_err(failed("make a directory in", Path::new("TMPDIR")))?;
        let log = scratch.path().join("strace");
        let mut strace = self.strace(command, &log);
        let mut child = strace.spawn().map_err(|source| Error::Strace {
            program: "strace".to_owned(),
            source,
        })?;
        let stdout = child.stdout.take();
        let stderr = child.stderr.take();
        let told = Told::new(pipe(stdout.as_ref())?, pipe(stderr.as_ref())?);
        // Both at once: a process that waits for one of them to be read must not be waited for by the other.
        let stderr = std::thread::spawn(move || text(stderr));
        let stdout = text(stdout);
        let stderr = stderr.join().unwrap_or_default();
        let status = child
            .wait()
            .map_err(failed("wait for", Path::new("strace")))?;
        let calls = read_calls(&log)?;
        let directory = match command.get_current_dir() {
            Some(directory) => fs::canonicalize(directory).map_err(failed("find", directory))?,
            None => std::env::current_dir().map_err(failed("find", Path::new(".")))?,
        };
        let mut translated = translate(&self.0, told, &directory, before, &calls)?;
        if !translated.is_cut_short {
            self.compare(&translated.after)?;
        }
        if let Some(code) = status.code() {
            let at = calls.iter().map(|call| call.ended).max().unwrap_or(0);
            translated.trace.events.push(exit(at, code));
        }
        Ok(Recording {
            status,
            stdout,
            stderr,
            trace: translated.trace,
        })
    }

    fn strace(&self, command: &Command, log: &Path) -> Command {
        let mut strace = Command::new("strace");
        strace
            .args(["-f", "-qq", "--seccomp-bpf", "-y", "-xx", "-a", "1"])
            .args(["-s", LARGEST_WRITE, "-e", "signal=none"])
            .args(["-e", &format!("trace={CALLS}")])
            .arg("-o")
            .arg(log)
            .arg("--")
            .arg(command.get_program())
            .args(command.get_args())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => strace.env(name, value),
                None => strace.env_remove(name),
            };
        }
        if let Some(directory) = command.get_current_dir() {
            strace.current_dir(directory);
        }
        strace
    }

    /// Holds what the calls come to against what is there: nothing was written unseen.
    fn compare(&self, after: &Tree) -> Result<()> {
        let there = Tree::read(&self.0.root)?;
        match after.difference(&there, |path| self.0.may_be_mapped(path)) {
            None => Ok(()),
            Some(detail) => Err(Error::Incomplete {
                root: self.0.root.clone(),
                detail,
            }),
        }
    }
}

fn exit(at: usize, code: i32) -> Event {
    Event {
        at,
        began: at,
        shown: format!("exit with {code}"),
        change: Change::Mark(Mark {
            stream: Stream::Exit,
            text: code.to_string(),
        }),
    }
}

/// How strace shows the other end of a pipe.
fn pipe(end: Option<&impl AsFd>) -> Result<PathBuf> {
    let number = end.map(|end| end.as_fd().as_raw_fd()).unwrap_or_default();
    let path = PathBuf::from(format!("/proc/self/fd/{number}"));
    fs::read_link(&path).map_err(failed("look at", &path))
}

fn text(end: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut end) = end {
        // What came before an error is what there is.
        let _ = end.read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn read_calls(log: &Path) -> Result<Vec<Call>> {
    let file = File::open(log).map_err(failed("open", log))?;
    let mut reader = CallReader::default();
    let mut calls = Vec::new();
    for line in BufReader::new(file).lines() {
        let line = line.map_err(failed("read", log))?;
        calls.extend(reader.read(&line)?);
    }
    calls.extend(reader.unfinished());
    Ok(calls)
}
