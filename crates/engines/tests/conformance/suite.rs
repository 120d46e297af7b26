//! The promises of the `Engine` contract: those that rows and parts have in common.

use mendb_engines::{Engine, LockKind, Remedy, Result};

/// A database with an engine on it. It has a table `t` with some data.
pub trait Subject {
    fn engine(&self) -> &dyn Engine;
    /// Changes the data of `t`, differently for each round.
    fn edit(&self, round: i64);
    /// What identifies the contents of a table as its users see it; `None` when they see nothing of it.
    fn contents(&self, table: &str) -> Option<String>;
    /// Freezes `t` for an operation.
    fn freeze(&self, operation: &str);
    /// What identifies the contents of `t` as the operation froze it, read through the contract.
    fn frozen_contents(&self, operation: &str) -> Result<String>;
    /// Brings what one operation froze of `t` beside the live data for another, to be its table `r`.
    fn stage(&self, frozen_by: &str, operation: &str);
    /// Makes what was staged live, as far as that is not the engine's own commit.
    fn apply(&self, operation: &str);
}

type Promise = fn(&dyn Subject);

/// Every promise, by name.
pub const ALL: [(&str, Promise); 5] = [
    (
        "a snapshot stays as it was while writers go on",
        a_snapshot_stays,
    ),
    (
        "a snapshot that is not there asks to be taken again",
        a_lost_snapshot,
    ),
    (
        "what is staged is seen by nobody until it is committed",
        staged_is_hidden,
    ),
    (
        "undoing leaves nothing, and nothing is undone twice",
        undo_is_complete,
    ),
    (
        "operations do not get in each other's way",
        operations_are_apart,
    ),
];

fn a_snapshot_stays(subject: &dyn Subject) {
    let before = subject.contents("t");
    subject.freeze("b1");
    assert_eq!(subject.frozen_contents("b1").ok(), before);
    subject.edit(1);
    assert_ne!(subject.contents("t"), before, "the edit edits");
    assert_eq!(subject.frozen_contents("b1").ok(), before);
    assert!(subject.engine().is_frozen("b1").unwrap());
    subject.engine().thaw("b1").unwrap();
    subject.engine().thaw("b1").unwrap();
    assert!(!subject.engine().is_frozen("b1").unwrap());
}

fn a_lost_snapshot(subject: &dyn Subject) {
    assert!(!subject.engine().is_frozen("b1").unwrap());
    let lost = subject.frozen_contents("b1").unwrap_err();
    assert_eq!(lost.remedy, Remedy::Refreeze, "{lost}");
    subject.freeze("b1");
    subject.edit(1);
    subject.freeze("b1");
    assert_eq!(subject.frozen_contents("b1").ok(), subject.contents("t"));
}

fn staged_is_hidden(subject: &dyn Subject) {
    subject.freeze("b1");
    subject.stage("b1", "r1");
    subject.stage("b1", "r1");
    assert_eq!(subject.contents("r"), None);
    let engine = subject.engine();
    let locked = |operation: &str| {
        let locks = engine.locks().unwrap();
        locks
            .iter()
            .any(|lock| lock.operation == operation && lock.kind == LockKind::Restore)
    };
    assert!(locked("r1"));
    subject.apply("r1");
    engine.make_live("r1").unwrap();
    engine.make_live("r1").unwrap();
    assert_eq!(subject.contents("r"), subject.contents("t"));
    assert!(!locked("r1"));
}

fn undo_is_complete(subject: &dyn Subject) {
    let engine = subject.engine();
    let before = subject.contents("t");
    engine.drop_staged("r1").unwrap();
    subject.freeze("b1");
    subject.stage("b1", "r1");
    engine.drop_staged("r1").unwrap();
    engine.drop_staged("r1").unwrap();
    assert_eq!(subject.contents("r"), None);
    assert!(
        engine
            .locks()
            .unwrap()
            .iter()
            .all(|lock| lock.operation != "r1")
    );
    assert_eq!(subject.contents("t"), before);
}

fn operations_are_apart(subject: &dyn Subject) {
    subject.freeze("b1");
    let before = subject.frozen_contents("b1").unwrap();
    subject.stage("b1", "r1");
    let engine = subject.engine();
    engine.drop_staged("r2").unwrap();
    engine.make_live("r3").unwrap();
    engine.thaw("b2").unwrap();
    assert_eq!(subject.frozen_contents("b1").ok().as_ref(), Some(&before));
    subject.apply("r1");
    engine.make_live("r1").unwrap();
    assert_eq!(subject.contents("r"), Some(before));
}
