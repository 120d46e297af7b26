//! Tells others what happened, as the settings name them: a webhook, and a command of this machine.
//!
//! *Order*: what happened is noted in the store before anybody is told. Ends of operations are read from the journals,
//! from where they were read last, so that none is lost over a crash. *Retry*: with a backoff, until it is heard or
//! given up ([`MOST_ATTEMPTS`]); each way has a thread, so that one that hangs keeps no other waiting. Who is told may
//! be told again, under the same id: a crash can come between the telling and its note.

use std::sync::Arc;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use mendb_model::key::to_hex;
use mendb_server::store::hook::{Delivery, Way};
use mendb_server::store::schedule::Schedule;
use mendb_service::env;
use mendb_service::journal::Journal;
use mendb_service::journal::operation_end::OperationEnd;
use serde_json::{Value, json};
use sha2::Sha256;

use super::desk::ProgramDesk;
use crate::failure::Failure;
use crate::human;
use crate::operations::record::OperationRecord;
use crate::owner::Owner;
use crate::program_of_user::run_program;
use crate::settings::hooks::{Happening, Hooks};

/// How often it is looked what has ended, and what is to be told.
const LOOK_EVERY_MS: u64 = 1000;
/// So many ends are read at a time.
const ENDS_AT_ONCE: u32 = 100;
/// After so many attempts it is given up: half a day after what happened.
const MOST_ATTEMPTS: u32 = 22;
/// The pause after a first attempt; it doubles with each further one, up to the second.
const PAUSE_MS: (u64, u64) = (2000, 3_600_000);
/// A webhook has to answer in this time.
const POST_LIMIT: Duration = Duration::from_secs(15);
/// A command has to end in this time.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);

/// Notes what ends until the server does, and tells it in threads of their own.
pub fn run(desk: &Arc<ProgramDesk>) {
    for way in [Way::Url, Way::Command] {
        let of_thread = Arc::clone(desk);
        let thread = std::thread::Builder::new()
            .name(format!("hook-{}", way.name()))
            .spawn(move || deliver_all(&of_thread, way));
        if let Err(error) = thread {
            tracing::error!(%error, way = way.name(), "nobody is told what happens: no thread");
        }
    }
    let begun_ms = env::now_ms();
    let mut told = None;
    while !desk.house.is_stopping() {
        let noted = note_ends(desk, begun_ms);
        let why = noted.err().map(|failure| failure.message);
        if let Some(why) = why.as_ref().filter(|why| told.as_ref() != Some(*why)) {
            tracing::error!(why, "what has ended cannot be read, so that nobody is told");
        }
        told = why;
        desk.house.wait_for(LOOK_EVERY_MS);
    }
}

/// Who is told of something now.
fn ways(hooks: &Hooks, happening: Happening) -> Vec<Way> {
    if !hooks.events.contains(&happening) {
        return Vec::new();
    }
    let url = hooks.url.as_ref().map(|_| Way::Url);
    let command = hooks.command.as_ref().map(|_| Way::Command);
    url.into_iter().chain(command).collect()
}

/// Notes the operations that have ended since this was done last.
fn note_ends(desk: &ProgramDesk, begun_ms: u64) -> Result<(), Failure> {
    let hooks = desk.settings().0.hooks;
    note_ends_of(desk, &hooks, "", desk.house.target.journal(), begun_ms)?;
    for (owner, journal) in desk.repository_journals()? {
        if let Owner::Repository(directory) = owner {
            let name = directory.to_string_lossy();
            note_ends_of(desk, &hooks, &name, &journal, begun_ms)?;
        }
    }
    Ok(())
}

fn note_ends_of(
    desk: &ProgramDesk,
    hooks: &Hooks,
    name: &str,
    journal: &Journal,
    begun_ms: u64,
) -> Result<(), Failure> {
    let seen = desk.store.end_seen(name)?;
    let mut last = match seen {
        Some(seen) => seen,
        // What was over before there was anybody to tell it is no news.
        None => journal.last_end_before(begun_ms)?,
    };
    if seen.is_none() {
        desk.store.see_end(name, last)?;
    }
    loop {
        let ends = journal.ends_after(last, ENDS_AT_ONCE)?;
        let Some(newest) = ends.last().map(|end| end.end_id) else {
            return Ok(());
        };
        for end in &ends {
            note_end(desk, hooks, name, journal, end)?;
        }
        last = newest;
        desk.store.see_end(name, last)?;
    }
}

fn note_end(
    desk: &ProgramDesk,
    hooks: &Hooks,
    name: &str,
    journal: &Journal,
    end: &OperationEnd,
) -> Result<(), Failure> {
    let happening = match end.state.as_str() {
        "done" => Happening::Success,
        "failed" => Happening::Failure,
        _ => return Ok(()),
    };
    let ways = ways(hooks, happening);
    if ways.is_empty() {
        return Ok(());
    }
    let operation = match journal.operation_head(&end.operation_id) {
        Ok(operation) => operation,
        // Its record was removed meanwhile.
        Err(mendb_service::Error::UnknownOperation(_)) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let record = OperationRecord::new(&operation);
    let key = format!("operation\0{name}\0{}", end.end_id);
    let what = record.sentence();
    let about = json!({ "operation": record, "schedule": null });
    note(
        desk,
        &ways,
        happening,
        &key,
        (end.at_ms, what.trim()),
        about,
    )
}

/// Notes something about a scheduled run: how one ended that has made no operation, or that it is late.
///
/// # Errors
/// The store cannot be written.
pub fn note_run(
    desk: &ProgramDesk,
    schedule: &Schedule,
    due_ms: u64,
    happening: Happening,
    outcome: &str,
) -> Result<(), Failure> {
    let ways = ways(&desk.settings().0.hooks, happening);
    if ways.is_empty() {
        return Ok(());
    }
    let key = format!(
        "schedule\0{}\0{due_ms}\0{}",
        schedule.name,
        happening.name()
    );
    let due_at = human::time(due_ms);
    let what = format!("schedule {} of {due_at}: {outcome}", schedule.name);
    let about = json!({
        "operation": null,
        "schedule": {
            "name": schedule.name,
            "work": schedule.work.name(),
            "collection": schedule.collection,
            "due_at": due_at,
            "outcome": outcome,
        },
    });
    note(desk, &ways, happening, &key, (env::now_ms(), &what), about)
}

fn note(
    desk: &ProgramDesk,
    ways: &[Way],
    happening: Happening,
    key: &str,
    (at_ms, what): (u64, &str),
    about: Value,
) -> Result<(), Failure> {
    let place = desk.store.path().to_string_lossy().into_owned();
    let id = blake3::hash(format!("{place}\0{key}").as_bytes()).to_hex();
    let id = &id.as_str()[..32];
    let mut body = json!({
        "id": id,
        "event": happening.name(),
        "at": human::time(at_ms),
        "host": crate::service::host(),
        "what": what,
    });
    if let (Value::Object(body), Value::Object(about)) = (&mut body, about) {
        body.extend(about);
    }
    Ok(desk
        .store
        .put_delivery(id, ways, at_ms, &body.to_string())?)
}

/// Tells what is to be told one way, until the server ends.
fn deliver_all(desk: &ProgramDesk, way: Way) {
    while !desk.house.is_stopping() {
        match desk.store.due_deliveries(way, env::now_ms()) {
            Ok(due) => {
                for delivery in due {
                    if desk.house.is_stopping() {
                        return;
                    }
                    deliver(desk, &delivery);
                }
            }
            Err(error) => tracing::error!(%error, "what is to be told cannot be read"),
        }
        desk.house.wait_for(LOOK_EVERY_MS);
    }
}

fn deliver(desk: &ProgramDesk, delivery: &Delivery) {
    let hooks = desk.settings().0.hooks;
    let told = match (delivery.way, &hooks.url, &hooks.command) {
        (Way::Url, Some(url), _) => post(url, &hooks, delivery),
        (Way::Command, _, Some(program)) => {
            let named = [("MENDB_EVENT_ID", delivery.event.as_str())];
            run_program(program, &named, delivery.body.as_bytes(), COMMAND_LIMIT)
        }
        (Way::Url, None, _) | (Way::Command, _, None) => {
            Err("the settings name nobody any more".to_owned())
        }
    };
    let noted = match told {
        Ok(()) => desk.store.end_delivery(delivery.delivery_id),
        Err(why) => {
            let next_ms = next_attempt_ms(delivery.attempts, env::now_ms());
            tracing::warn!(
                way = delivery.way.name(),
                id = delivery.event,
                why,
                is_given_up = next_ms.is_none(),
                "somebody was not told what happened"
            );
            desk.store
                .fail_delivery(delivery.delivery_id, &why, next_ms)
        }
    };
    if let Err(error) = noted {
        tracing::error!(%error, "how the telling went cannot be kept");
    }
}

/// When it is tried again after so many attempts that failed before the last one; never after too many.
fn next_attempt_ms(failed_before: u32, now_ms: u64) -> Option<u64> {
    if failed_before + 1 >= MOST_ATTEMPTS {
        return None;
    }
    let pause_ms = PAUSE_MS.0 << failed_before.min(20);
    Some(now_ms + pause_ms.min(PAUSE_MS.1))
}

/// What a post is signed with: of its time and its body, so that neither can be another's.
fn signature(secret: &str, at_s: u64, body: &str) -> Result<String, String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes())
        .map_err(|error| format!("hooks.secret signs nothing: {error}"))?;
    mac.update(format!("{at_s}.{body}").as_bytes());
    let signed = to_hex(&mac.finalize().into_bytes());
    Ok(format!("t={at_s},v1={signed}"))
}

fn post(url: &str, hooks: &Hooks, delivery: &Delivery) -> Result<(), String> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    // What the address holds may be a secret.
    let why = |error: reqwest::Error| mendb_model::describe_error(&error.without_url());
    let client = reqwest::blocking::Client::builder()
        .timeout(POST_LIMIT)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(why)?;
    let mut request = client
        .post(url)
        .header("Content-Type", "application/json")
        .header("User-Agent", concat!("mendb/", env!("CARGO_PKG_VERSION")))
        .header("Mendb-Event-Id", &delivery.event)
        .body(delivery.body.clone());
    if !hooks.secret.is_empty() {
        let signed = signature(hooks.secret.reveal(), env::now_ms() / 1000, &delivery.body)?;
        request = request.header("Mendb-Signature", signed);
    }
    let response = request.send().map_err(why)?;
    match response.status().is_success() {
        true => Ok(()),
        false => Err(format!("it answered {}", response.status())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_post_is_signed_as_others_would() {
        // printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac secret
        let signed = signature("secret", 1_700_000_000, "{\"a\":1}").unwrap();
        assert_eq!(
            signed,
            "t=1700000000,v1=49f24e537407743fa4a0242bb63b94b9a47ee99cbbe071ccd8a22550ae411686"
        );
        assert_ne!(
            signed,
            signature("other", 1_700_000_000, "{\"a\":1}").unwrap()
        );
    }

    #[test]
    fn it_is_tried_for_half_a_day_at_growing_distances() {
        let mut now_ms = 0;
        let mut pauses = Vec::new();
        for failed in 0.. {
            let Some(next_ms) = next_attempt_ms(failed, now_ms) else {
                break;
            };
            pauses.push(next_ms - now_ms);
            now_ms = next_ms;
        }
        assert_eq!(pauses.len(), 21);
        assert!(pauses.is_sorted());
        assert_eq!((pauses[0], pauses[20]), (2000, 3_600_000));
        let hours = now_ms / 3_600_000;
        assert!((10..=14).contains(&hours), "{hours}");
    }
}
