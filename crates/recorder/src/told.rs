//! What the recorded process tells on its stdout and stderr, which are pipes to the recorder.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::call::{Call, descriptor};
use crate::trace::{Change, Event, Mark, Stream};

/// The two pipes, as strace shows them, and what was told since the last end of a line.
#[derive(Debug)]
pub(crate) struct Told {
    stdout: PathBuf,
    stderr: PathBuf,
    begun: [Vec<u8>; 2],
}

impl Told {
    pub(crate) fn new(stdout: PathBuf, stderr: PathBuf) -> Self {
        Self {
            stdout,
            stderr,
            begun: [Vec::new(), Vec::new()],
        }
    }

    /// Which of the two a call writes into, if any.
    pub(crate) fn stream(&self, call: &Call) -> Option<Stream> {
        let path = descriptor(call.argument(0))?.path?;
        let is = |pipe: &Path| pipe.as_os_str().as_bytes() == path;
        if is(&self.stdout) {
            Some(Stream::Stdout)
        } else {
            is(&self.stderr).then_some(Stream::Stderr)
        }
    }

    /// Takes what was told. A line counts from when the write of its end began: others may read it from then on.
    pub(crate) fn tell(&mut self, call: &Call, stream: Stream, bytes: &[u8]) -> Vec<Event> {
        let begun = &mut self.begun[usize::from(stream == Stream::Stderr)];
        begun.extend(bytes);
        let mut events = Vec::new();
        while let Some(end) = begun.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = begun.drain(..=end).collect();
            let text = String::from_utf8_lossy(&line[..end]).into_owned();
            events.push(Event {
                at: call.began,
                began: call.began,
                shown: format!("{stream:?} says {text:?}"),
                change: Change::Mark(Mark { stream, text }),
            });
        }
        events
    }
}
