//! Backups that somebody removes or folds between their listing and their proof.

use std::sync::Arc;

use clap::Parser;
use mendb_server::{Listener, Told};
use tokio::sync::mpsc::Receiver;

use super::*;
use crate::cli::run_words;
use crate::failure::FailureKind;
use crate::output::{Output, OutputFormat};
use crate::settings::Sources;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    verify: VerifyCommand,
}

/// A directory with a table, its collection `world`, and what commands tell.
struct Place {
    _directory: tempfile::TempDir,
    context: Context,
    /// Somebody listens.
    _told: Receiver<Told>,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let sources = Sources {
            directory: directory.path().to_owned(),
            ..Sources::default()
        };
        let (settings, entries) = sources.resolve().unwrap();
        let (listener, told) = Listener::new();
        let context = Context {
            settings,
            entries,
            output: Output {
                format: OutputFormat::Text,
                quiet: false,
                listener: Some(Arc::new(listener)),
            },
            session: None,
            shared: None,
        };
        let cities = directory.path().join("cities.csv");
        std::fs::write(&cities, "name,people\nBern,146348\nLyon,520774\n").unwrap();
        let place = Self {
            _directory: directory,
            context,
            _told: told,
        };
        place.run(&[
            "table",
            "import",
            "cities",
            cities.to_str().unwrap(),
            "--create",
            "--key",
            "name",
        ]);
        place.run(&["collection", "create", "world", "--table", "cities"]);
        place
    }

    fn run(&self, words: &[&str]) {
        let words: Vec<String> = std::iter::once("mendb")
            .chain(words.iter().copied())
            .map(str::to_owned)
            .collect();
        run_words(&words, &self.context).unwrap();
    }

    fn backups(&self) -> Vec<Listed> {
        let runtime = self.context.runtime().unwrap();
        let repository = self.context.open_repository(&runtime).unwrap();
        runtime.block_on(repository.list("world")).unwrap()
    }

    /// Proves backups as they were listed before; what is told of it.
    fn prove(&self, backups: Vec<Listed>, named: Named) -> Result<(Verdict, String), Failure> {
        let runtime = self.context.runtime()?;
        let repository = self.context.open_repository(&runtime)?;
        let verify = Line::parse_from(["mendb", "world"]).verify;
        let named = ("world", backups, named);
        let proof = verify.prove(&self.context, &repository, runtime.handle(), named)?;
        Ok((proof.verdict(), proof.describe()))
    }
}

/// The ids of two backups in one second are given one after the other; a label tells them apart.
fn backed_up(labels: &[&str]) -> Place {
    let place = Place::new();
    for label in labels {
        place.run(&["backup", "world", "--label", label]);
    }
    place
}

#[test]
fn a_backup_that_is_removed_before_it_is_read_is_no_damage_and_is_told() {
    let place = backed_up(&["a", "b", "c"]);
    let listed = place.backups();
    let removed = listed[1].0.clone();
    place.run(&["delete", "b"]);
    let (verdict, shown) = place.prove(listed, Named::Collection).unwrap();
    assert_eq!(verdict, Verdict::Done, "{shown}");
    let told = format!("{removed} was removed while it was read");
    assert!(shown.contains(&told), "{shown}");
    assert_eq!(shown.matches("whole\n").count(), 2, "{shown}");
}

#[test]
fn a_backup_that_was_meant_and_is_removed_is_absent() {
    let place = backed_up(&["a"]);
    let listed = place.backups();
    place.run(&["delete", "a"]);
    let failure = place.prove(listed, Named::Backup).unwrap_err();
    assert_eq!(failure.kind, FailureKind::FixInput, "{failure}");
    assert!(
        failure.message.contains("was removed while it was read"),
        "{failure}"
    );
}

#[test]
fn an_increment_that_is_folded_meanwhile_is_read_as_it_is_now() {
    let place = backed_up(&["a"]);
    place.run(&["backup", "world", "--incremental", "--label", "b"]);
    let listed = place.backups();
    place.run(&["prune", "world", "--keep-last", "1"]);
    assert_eq!(place.backups().len(), 1);
    let (verdict, shown) = place.prove(listed, Named::Collection).unwrap();
    assert_eq!(verdict, Verdict::Done, "{shown}");
    assert_eq!(shown.matches("whole\n").count(), 1, "{shown}");
}

#[test]
fn what_is_damaged_stays_damaged_when_it_is_looked_at_again() {
    let place = backed_up(&["a"]);
    let listed = place.backups();
    let repository = place
        .context
        .settings
        .repository
        .strip_prefix("file://")
        .unwrap();
    let backup = std::path::Path::new(repository)
        .join("collections/world")
        .join(listed[0].0.as_str());
    let mut segments = std::fs::read_dir(backup.join("cities")).unwrap();
    let segment = segments.next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&segment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let (verdict, shown) = place.prove(listed, Named::Collection).unwrap();
    assert_eq!(verdict, Verdict::Drift, "{shown}");
    assert!(shown.contains("damaged"), "{shown}");
}
