//! A wire between two processes: each message is a line of JSON.
//!
//! A manifest in the making is large, and all tasks of a step share it. So the pipe sends it once, on a line of its own
//! before the first message that needs it, and messages name it by its number.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError};

use mendb_model::manifest::Manifest;
use serde::{Deserialize, Serialize};

use super::{End, Message, StepRequest, pair};

/// Manifests that are known at both ends at a time: one of each operation that goes on.
const DRAFTS: usize = 64;

/// A line.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    /// A manifest, and its number.
    Draft(u64, #[serde(with = "super::shared")] Arc<Manifest>),
    /// A message, and the number of its manifest.
    Message(Option<u64>, Box<Message>),
}

/// The end of a wire whose other end is in another process, which reads what is written here and writes what is read
/// here. What cannot be read or written ends it: then the other end is gone.
///
/// # Errors
/// The system gives no thread.
pub fn connect(
    input: impl Read + Send + 'static,
    output: impl Write + Send + 'static,
) -> io::Result<End> {
    let (own, End { out, inbox }) = pair();
    let reading = std::thread::Builder::new().name("wire-in".to_owned());
    reading.spawn(move || report(read(BufReader::new(input), &out)))?;
    let writing = std::thread::Builder::new().name("wire-out".to_owned());
    writing.spawn(move || report(write(BufWriter::new(output), &inbox)))?;
    Ok(own)
}

fn report(ended: io::Result<()>) {
    if let Err(error) = ended {
        tracing::warn!(%error, "a wire to another process is broken");
    }
}

fn read(input: impl BufRead, out: &Sender<Message>) -> io::Result<()> {
    let mut drafts: VecDeque<(u64, Arc<Manifest>)> = VecDeque::new();
    for line in input.lines() {
        match serde_json::from_str(&line?)? {
            Line::Draft(number, draft) => {
                drafts.push_back((number, draft));
                if drafts.len() > DRAFTS {
                    drafts.pop_front();
                }
            }
            Line::Message(number, mut message) => {
                if let (Some(number), Some(step)) = (number, step_of(&mut message)) {
                    let known = drafts.iter().find(|(known, _)| *known == number);
                    step.draft = known.map(|(_, draft)| Arc::clone(draft));
                }
                if out.send(*message).is_err() {
                    break;
                }
            }
        }
    }
    Ok(())
}

fn write(mut output: impl Write, inbox: &Receiver<Message>) -> io::Result<()> {
    let mut drafts: VecDeque<(u64, Arc<Manifest>)> = VecDeque::new();
    let mut last = 0;
    loop {
        let mut message = match inbox.try_recv() {
            Ok(message) => message,
            Err(TryRecvError::Disconnected) => break,
            Err(TryRecvError::Empty) => {
                output.flush()?;
                match inbox.recv() {
                    Ok(message) => message,
                    Err(_) => break,
                }
            }
        };
        let draft = step_of(&mut message).and_then(|step| step.draft.take());
        let mut number = None;
        if let Some(draft) = draft {
            let known = drafts.iter().find(|(_, known)| Arc::ptr_eq(known, &draft));
            number = known.map(|(number, _)| *number);
            if number.is_none() {
                last += 1;
                number = Some(last);
                line(&mut output, &Line::Draft(last, Arc::clone(&draft)))?;
                drafts.push_back((last, draft));
                if drafts.len() > DRAFTS {
                    drafts.pop_front();
                }
            }
        }
        line(&mut output, &Line::Message(number, Box::new(message)))?;
    }
    output.flush()
}

fn line(output: &mut impl Write, line: &Line) -> io::Result<()> {
    serde_json::to_writer(&mut *output, line)?;
    output.write_all(b"\n")
}

/// What a message says of a step, if it does.
fn step_of(message: &mut Message) -> Option<&mut StepRequest> {
    match message {
        Message::Request(request) => Some(&mut request.of_step),
        Message::Allocate(step) => Some(step),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use mendb_model::name::{BackupId, BackupKind};
    use mendb_model::operation::{BackupRequest, Request};

    use super::*;
    use crate::wire::TaskRequest;

    fn ends() -> (End, End) {
        let (one, other) = UnixStream::pair().unwrap();
        let end = |stream: UnixStream| connect(stream.try_clone().unwrap(), Closing(stream));
        (end(one).unwrap(), end(other).unwrap())
    }

    /// Tells the other process that nothing more comes.
    struct Closing(UnixStream);

    impl Write for Closing {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            self.0.flush()
        }
    }

    impl Drop for Closing {
        fn drop(&mut self) {
            let _ = self.0.shutdown(std::net::Shutdown::Write);
        }
    }

    fn request(draft: Option<Arc<Manifest>>, attempt: u32) -> Message {
        let backup_id = BackupId::new(0, BackupKind::Full).unwrap();
        let request = Request::Backup(BackupRequest {
            collection: "shop".into(),
            backup_id,
            label: None,
            tables: vec!["orders".into()],
            parent: None,
            stream: "shop/1".into(),
            since_version: None,
            old_streams: Vec::new(),
            keeps_changes: false,
            found: None,
        });
        let mut request = TaskRequest::preview(request).unwrap();
        request.attempt = attempt;
        request.last_key = Some(vec![0, 255, b'\n']);
        request.of_step.draft = draft;
        Message::Request(Box::new(request))
    }

    fn draft() -> Arc<Manifest> {
        let manifest = serde_json::json!({
            "format_version": 2,
            "tool_version": "",
            "collection": "shop",
            "backup_id": BackupId::new(0, BackupKind::Full).unwrap(),
            "label": null,
            "operation_id": "backup-1",
            "parent": null,
            "snapshot_version": 1,
            "tables": [],
        });
        Arc::new(serde_json::from_value(manifest).unwrap())
    }

    #[test]
    fn tasks_of_a_step_share_their_manifest_at_the_other_end_too() {
        let (one, other) = ends();
        let (first, second) = (draft(), draft());
        for (attempt, draft) in [&first, &first, &second, &first].into_iter().enumerate() {
            let message = request(Some(Arc::clone(draft)), attempt as u32);
            one.out.send(message).unwrap();
        }
        one.out.send(request(None, 9)).unwrap();
        let came: Vec<Message> = (0..5).map(|_| other.inbox.recv().unwrap()).collect();
        let draft_of = |at: usize| match &came[at] {
            Message::Request(request) => request.draft.clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!(came[0], request(Some(draft()), 0));
        assert_eq!(came[4], request(None, 9));
        let [a, b, c, d] = [0, 1, 2, 3].map(|at| draft_of(at).unwrap());
        assert!(Arc::ptr_eq(&a, &b) && Arc::ptr_eq(&a, &d) && !Arc::ptr_eq(&a, &c));
    }

    #[test]
    fn an_end_that_is_dropped_or_sends_nonsense_is_gone_for_the_other() {
        let (one, other) = ends();
        one.out.send(request(None, 1)).unwrap();
        drop(one);
        assert_eq!(other.inbox.recv().unwrap(), request(None, 1));
        assert!(other.inbox.recv().is_err());
        let (mut raw, stream) = UnixStream::pair().unwrap();
        let end = connect(stream.try_clone().unwrap(), stream).unwrap();
        raw.write_all(b"{\"message\": 7}\n").unwrap();
        assert!(end.inbox.recv().is_err());
    }
}
