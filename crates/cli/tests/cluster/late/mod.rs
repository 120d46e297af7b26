//! Agents that stop before anything that they do to their server, and wake when another replica has done their part.
//!
//! Every statement that changes something is kept back once on its way to the server, and gets there when the other
//! replica has done its part: that is later than where the process were stopped before it sent it. Before every rename
//! and every link in the directory of the server the process is stopped once. `MENDB_STOP_POINTS=all` plays each; a run of
//! all tests takes a few of them.

mod gate;
mod stopper;

use std::process::{Output, Stdio};

use gate::Gate;
use stopper::Stopper;

use crate::agents::{Cluster, told};
use crate::replicas::sync;
use crate::rounds::{left, signal};
use crate::take_over::{LOST, damage, damaged, take_over};

/// Every so manieth statement or rename: each takes some seconds.
const FEW: usize = 5;
/// No operation of these tests has so many: an enumeration must end by itself.
const MOST: u64 = 400;

const MEND: [&str; 3] = ["restore", "monday", "--in-place"];
const BACKUP: [&str; 2] = ["backup", "shop"];

fn points() -> impl Iterator<Item = u64> {
    let every = match std::env::var_os("MENDB_STOP_POINTS") {
        None => FEW,
        Some(which) if which == "all" => 1,
        Some(which) => panic!("MENDB_STOP_POINTS is {which:?}: it can only be \"all\""),
    };
    (1..MOST).step_by(every)
}

/// Before what the agent is stopped.
enum Before {
    Statement(Gate),
    Rename(Stopper),
}

impl Before {
    fn stop(&self, nth: u64) {
        match self {
            Self::Statement(gate) => gate.keep(nth),
            Self::Rename(stopper) => stopper.stop_before(nth),
        }
    }

    /// What it is stopped before.
    fn stopped(&self) -> Option<String> {
        match self {
            Self::Statement(gate) => gate.kept(),
            Self::Rename(stopper) => stopper.stopped_before(),
        }
    }

    /// Has a statement that was kept back come to its server.
    fn let_go(&self) {
        match self {
            Self::Statement(gate) => gate.open(),
            Self::Rename(stopper) => stopper.let_go(),
        }
    }
}

/// A damaged cluster, one of whose agents can be stopped.
struct Story {
    cluster: Cluster,
    before: Before,
    whole: Vec<String>,
    /// What there is on the servers beside the table.
    clean: Vec<String>,
    /// What the agent was stopped before and another replica has done its part.
    taken_over: Vec<String>,
    /// What it was stopped before and was waited for.
    waited_for: Vec<String>,
}

impl Story {
    fn of_statements() -> Self {
        Self::new(|cluster| {
            let gate = Gate::before(&cluster.shards.servers[LOST]);
            cluster.restart_agent_through(&gate.target, LOST, |_| {});
            Before::Statement(gate)
        })
    }

    fn of_renames() -> Self {
        Self::new(|cluster| {
            let server = &cluster.shards.servers[LOST];
            let directory = cluster.shards.path("stopper");
            std::fs::create_dir(&directory).unwrap();
            let stopper = Stopper::build(&directory, server.data_path());
            let target = server.target();
            cluster.restart_agent_through(&target, LOST, |command| stopper.load(command));
            Before::Rename(stopper)
        })
    }

    fn new(before: impl FnOnce(&mut Cluster) -> Before) -> Self {
        let (mut cluster, whole) = damaged();
        Self {
            clean: left(&cluster),
            before: before(&mut cluster),
            cluster,
            whole,
            taken_over: Vec::new(),
            waited_for: Vec::new(),
        }
    }

    /// Runs a command whose agent is stopped, with its coordinator gone. Returns before what; `None` where nothing is left
    /// that it could be stopped before: then it has ended.
    fn stopped(&self, arguments: &[&str], nth: u64) -> Option<String> {
        self.before.stop(nth);
        let mut command = self.cluster.command(arguments);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut coordinator = command.spawn().unwrap();
        let what = loop {
            if let Some(what) = self.before.stopped() {
                break what;
            }
            if let Some(ended) = coordinator.try_wait().unwrap() {
                assert!(ended.success(), "{arguments:?}");
                self.before.let_go();
                return None;
            }
            std::thread::yield_now();
        };
        coordinator.kill().unwrap();
        coordinator.wait().unwrap();
        signal(self.cluster.agent_process(LOST), "-STOP");
        Some(what)
    }

    /// Has the agent wake. A statement that was on its way comes to the server before.
    fn wake(&self) {
        self.before.let_go();
        signal(self.cluster.agent_process(LOST), "-CONT");
    }

    fn is_as(&self, wanted: &[String], what: &str) {
        assert_eq!(sync(&self.cluster), wanted, "{what}");
    }

    /// Has the other replica do the part of an agent that is stopped. Returns what came of that where it was done.
    fn taken_over(&mut self, id: &str, wanted: &[String], what: &str) -> Result<(), String> {
        let output: Output = take_over(&self.cluster, id);
        if !output.status.success() {
            return Err(told(&output));
        }
        self.is_as(wanted, what);
        self.wake();
        // What it had begun is given up before the next that it is asked.
        self.cluster.ok(&BACKUP);
        self.is_as(wanted, what);
        assert_eq!(left(&self.cluster), self.clean, "{what}");
        self.taken_over.push(what.to_owned());
        Ok(())
    }

    /// Has the agent that was stopped go on, and the operation with it.
    fn waited_for(&mut self, id: Option<&str>, what: &str) {
        self.wake();
        if let Some(id) = id {
            self.cluster.ok(&["operation", "watch", id]);
            self.waited_for.push(what.to_owned());
        }
    }

    fn said(&self, of: &str) {
        println!("{of}: {} taken over", self.taken_over.len());
        self.taken_over.iter().for_each(|what| println!("  {what}"));
        println!("{of}: {} waited for", self.waited_for.len());
        self.waited_for.iter().for_each(|what| println!("  {what}"));
    }

    /// All of a backup.
    fn plays_backups(mut self) {
        for point in points() {
            damage(&self.cluster, point);
            let as_it_is = sync(&self.cluster);
            let Some(what) = self.stopped(&BACKUP, point) else {
                break;
            };
            let what = format!("before {point}: {what}");
            let id = self.cluster.unfinished();
            let refused = match &id {
                None => None,
                Some(id) => self.taken_over(id, &as_it_is, &what).err(),
            };
            if let Some(why) = &refused {
                assert!(why.contains("no other replica can go on"), "{what}: {why}");
            }
            if id.is_none() || refused.is_some() {
                self.waited_for(id.as_deref(), &what);
            }
            self.is_as(&as_it_is, &what);
            let listed = self.cluster.ok(&["list"]);
            for backup in listed.as_array().unwrap() {
                assert_eq!(backup["complete"], true, "{what}: {listed}");
            }
            let newest = listed.as_array().unwrap().iter();
            let newest = newest.max_by_key(|backup| backup["backup_id"].to_string());
            let newest = newest.unwrap()["backup_id"].as_str().unwrap();
            let verify = ["verify", newest, "--live", "--replicas"];
            self.cluster.ok(&verify);
            assert_eq!(left(&self.cluster), self.clean, "{what}");
        }
        self.said("backup");
        assert!(!self.taken_over.is_empty());
    }

    /// All of a mend.
    fn plays_mends(mut self) {
        let whole = self.whole.clone();
        for point in points() {
            damage(&self.cluster, point);
            let Some(what) = self.stopped(&MEND, point) else {
                break;
            };
            let what = format!("before {point}: {what}");
            let id = self.cluster.unfinished();
            let refused = match &id {
                None => None,
                Some(id) => self.taken_over(id, &whole, &what).err(),
            };
            if let Some(why) = &refused {
                let is_known = why.contains("in which only the agent of a shard knows");
                assert!(is_known, "{what}: {why}");
            }
            if id.is_none() || refused.is_some() {
                self.waited_for(id.as_deref(), &what);
            }
            if id.is_none() {
                self.cluster.ok(&MEND);
            }
            self.is_as(&whole, &what);
            let verify = ["verify", "monday", "--live", "--replicas"];
            self.cluster.ok(&verify);
            assert_eq!(left(&self.cluster), self.clean, "{what}");
        }
        self.is_as(&whole, "at the end");
        self.said("mend");
        assert!(!self.taken_over.is_empty() && !self.waited_for.is_empty());
    }

    /// All of an undo, which no other replica can do.
    fn plays_undos(mut self) {
        for point in points() {
            // Each begins with the same.
            self.cluster.ok(&MEND);
            damage(&self.cluster, point);
            let as_it_was = sync(&self.cluster);
            let mended = self.cluster.ok(&MEND);
            let undo = ["undo", mended["operation_id"].as_str().unwrap()];
            let Some(what) = self.stopped(&undo, point) else {
                self.is_as(&as_it_was, "not stopped");
                break;
            };
            let what = format!("before {point}: {what}");
            let id = self.cluster.unfinished();
            if let Some(id) = &id {
                let refused = told(&take_over(&self.cluster, id));
                assert!(refused.contains("what an undo brings back"), "{refused}");
            }
            self.waited_for(id.as_deref(), &what);
            if id.is_none() {
                self.cluster.ok(&undo);
            }
            self.is_as(&as_it_was, &what);
            self.cluster.ok(&BACKUP);
            assert_eq!(left(&self.cluster), self.clean, "{what}");
        }
        self.said("undo");
        assert!(!self.waited_for.is_empty());
    }
}

#[test]
fn a_statement_of_a_backup_that_comes_after_another_replica_took_over_changes_nothing() {
    Story::of_statements().plays_backups();
}

#[test]
fn an_agent_that_stops_before_any_rename_of_a_backup_changes_nothing_when_it_wakes() {
    Story::of_renames().plays_backups();
}

#[test]
fn a_statement_of_a_mend_that_comes_after_another_replica_took_over_changes_nothing() {
    Story::of_statements().plays_mends();
}

#[test]
fn an_agent_that_stops_before_any_rename_of_a_mend_changes_nothing_when_it_wakes() {
    Story::of_renames().plays_mends();
}

#[test]
fn before_whatever_statement_of_an_undo_its_agent_stops_it_ends_as_it_was_before_the_mend() {
    Story::of_statements().plays_undos();
}

#[test]
fn before_whatever_rename_of_an_undo_its_agent_stops_it_ends_as_it_was_before_the_mend() {
    Story::of_renames().plays_undos();
}
