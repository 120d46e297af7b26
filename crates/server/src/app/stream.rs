//! Answers that go on: events, and what a command tells.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Response};
use futures::stream;
use tokio::sync::mpsc::Receiver;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::{App, plain};
use crate::events::{After, Event, Events};
use crate::header::single;
use crate::listener::Told;
use crate::problem::Problem;

/// After so long without an event something is sent, so that a connection that is gone is noticed.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);
/// What operations that move do within so long is told together.
const TOGETHER: Duration = Duration::from_secs(1);

/// A reader of events.
struct Reader {
    events: Arc<Events>,
    news: watch::Receiver<u64>,
    stop: watch::Receiver<bool>,
    after: After,
    of: Option<String>,
    is_over: bool,
    is_first: bool,
    /// Whether it was told something a moment ago.
    is_told: bool,
    _place: OwnedSemaphorePermit,
}

impl App {
    /// Events from where the client was, of one operation or of all.
    pub(super) fn events(
        &self,
        headers: &HeaderMap,
        of: Option<String>,
    ) -> Result<Response<Body>, Problem> {
        let place = Arc::clone(&self.readers).try_acquire_owned();
        let place = place.map_err(|_| Problem::busy("too many clients read events"))?;
        let events = Arc::clone(&self.settings.events);
        let last = single(headers, "last-event-id")?;
        let reader = Reader {
            after: events.after(last),
            news: events.watch(),
            events,
            stop: self.settings.stop.clone(),
            of,
            is_over: false,
            is_first: true,
            is_told: false,
            _place: place,
        };
        let stream = stream::unfold(reader, |mut reader| async move {
            let text = reader.next().await?;
            Some((Ok::<_, std::convert::Infallible>(text), reader))
        });
        Ok(plain("text/event-stream", Body::from_stream(stream)))
    }
}

impl Reader {
    /// The next events as text; none at the end.
    async fn next(&mut self) -> Option<Bytes> {
        if self.is_over {
            return None;
        }
        if std::mem::take(&mut self.is_first) {
            // The head of the answer leaves with its first bytes.
            return Some(Bytes::from_static(b"retry: 1000\n\n"));
        }
        if std::mem::take(&mut self.is_told) {
            self.rest().await;
        }
        loop {
            self.news.borrow_and_update();
            let (events, last) = self.events.since(self.after, self.of.as_deref());
            self.after = After::Number(last);
            if let Some(first) = events.first() {
                self.is_over = self.of.is_some() && events.iter().any(Event::is_over);
                self.is_told = true;
                return Some(match events.len() {
                    1 => first.text.clone(),
                    _ => events.iter().flat_map(|event| event.text.clone()).collect(),
                });
            }
            let waited = tokio::select! {
                waited = tokio::time::timeout(SIGN_OF_LIFE, self.news.changed()) => waited,
                _ = self.stop.wait_for(|stop| *stop) => return None,
            };
            match waited {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return None,
                Err(_) => return Some(Bytes::from_static(b": alive\n\n")),
            }
        }
    }

    /// Lets events gather, unless there is one that nobody should wait for.
    async fn rest(&mut self) {
        let After::Number(told) = self.after else {
            return;
        };
        let urgent = self.news.wait_for(|urgent| *urgent > told);
        tokio::select! {
            _ = tokio::time::timeout(TOGETHER, urgent) => {}
            _ = self.stop.wait_for(|stop| *stop) => {}
        }
    }
}

/// The rows that a command tells, as they come. What fails before the first of them is answered; what fails later cuts
/// the answer off, so that nobody takes it for whole.
pub(super) async fn rows(mut told: Receiver<Told>) -> Result<Response<Body>, Problem> {
    let mut kind = "application/octet-stream";
    let first = loop {
        match told.recv().await {
            Some(Told::Kind(of_rows)) => kind = of_rows,
            Some(Told::Bytes(piece)) => break Some(piece),
            Some(Told::Ended(end)) => match end.problem {
                Some(problem) => return Err(problem),
                None => break None,
            },
            Some(_) => {}
            None => return Err(Problem::defect("a thread of the server died")),
        }
    };
    let pieces = stream::unfold((first, Some(told)), |(first, told)| async move {
        let mut told = told?;
        if let Some(piece) = first {
            return Some((Ok(piece), (None, Some(told))));
        }
        loop {
            match told.recv().await {
                Some(Told::Bytes(piece)) => return Some((Ok(piece), (None, Some(told)))),
                Some(Told::Ended(end)) if end.problem.is_none() => return None,
                Some(Told::Ended(_)) | None => {
                    let cut_off = std::io::Error::other("the rows end here, and are not all");
                    return Some((Err(cut_off), (None, None)));
                }
                Some(_) => {}
            }
        }
    });
    Ok(plain(kind, Body::from_stream(pieces)))
}

/// What a command tells, as lines of JSON.
pub(super) fn lines(told: Receiver<Told>) -> Response<Body> {
    let stream = stream::unfold(Some(told), |told| async move {
        let mut told = told?;
        let (line, goes_on) = match told.recv().await {
            Some(Told::Ended(end)) => (serde_json::json!({ "end": *end }), false),
            Some(other) => (line(other), true),
            None => {
                let end = serde_json::json!({ "exit_code": 1, "text": "error: a thread of the server died" });
                (serde_json::json!({ "end": end }), false)
            }
        };
        let text = format!("{line}\n");
        Some((
            Ok::<_, std::convert::Infallible>(text),
            goes_on.then_some(told),
        ))
    });
    plain("application/x-ndjson", Body::from_stream(stream))
}

fn line(told: Told) -> serde_json::Value {
    match told {
        Told::Data(text) => serde_json::json!({ "data": text }),
        Told::Note(text) => serde_json::json!({ "note": text }),
        Told::Begun(operation_id) => serde_json::json!({ "begun": operation_id }),
        Told::Progress {
            operation_id,
            line,
            percent,
        } => {
            serde_json::json!({ "progress": { "operation_id": operation_id, "line": line, "percent": percent } })
        }
        // Rows go as they are: who wants lines asked for something else.
        Told::Kind(_) | Told::Bytes(_) => serde_json::json!({}),
        Told::Planned(plan) => serde_json::json!({ "planned": plan }),
        Told::More(after) => serde_json::json!({ "more": after }),
        Told::Ended(end) => serde_json::json!({ "end": *end }),
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;

    use super::*;
    use crate::events::Pace;

    fn reader(events: &Arc<Events>, stop: &watch::Sender<bool>) -> Reader {
        let place = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        Reader {
            events: Arc::clone(events),
            news: events.watch(),
            stop: stop.subscribe(),
            after: events.after(None),
            of: None,
            is_over: false,
            is_first: false,
            is_told: false,
            _place: place,
        }
    }

    #[tokio::test]
    async fn what_moves_soon_after_another_is_told_together_and_an_end_at_once() {
        let events = Arc::new(Events::new("boot"));
        let stop = watch::Sender::new(false);
        let mut reader = reader(&events, &stop);
        events.tell("a", Pace::Moves, "1");
        let first = reader.next().await.unwrap();
        assert_eq!(first, "id: boot-1\nevent: operation\ndata: 1\n\n");
        let (together, ()) = tokio::join!(reader.next(), async {
            events.tell("a", Pace::Moves, "2");
            events.tell("b", Pace::Moves, "3");
            events.tell("a", Pace::Moves, "4");
        });
        let together = String::from_utf8(together.unwrap().to_vec()).unwrap();
        assert_eq!(together.matches("event:").count(), 2, "{together}");
        assert!(
            together.contains("data: 3") && together.contains("data: 4"),
            "{together}"
        );
        // An end does not wait: it is there as soon as it is told, with what came before it.
        let (end, ()) = tokio::join!(reader.next(), async {
            events.tell("a", Pace::Moves, "5");
            events.tell("b", Pace::Over, "6");
        });
        let end = String::from_utf8(end.unwrap().to_vec()).unwrap();
        assert!(end.contains("data: 5") && end.contains("data: 6"), "{end}");
    }
}
