//! Two targets with one collection name on one repository: each goes by its own backups.

use crate::mendb::Mendb;

/// Two targets, `a` and `b`, whose table has one row each, `froma` and `fromb`.
struct Pair(Mendb);

impl Pair {
    fn new() -> Self {
        let pair = Self(Mendb::new());
        for target in ["a", "b"] {
            pair.ok(
                target,
                "table create t --column id:int64 --column v:utf8 --key id",
            );
            pair.put(target, &format!("from{target}"));
            pair.ok(target, "collection create c --table t");
        }
        pair
    }

    fn put(&self, target: &str, value: &str) {
        let line = format!("--target {target} table import t - --format csv --quiet");
        let ran = self.0.run_with(&line, &format!("id,v\n1,{value}\n"));
        assert_eq!(ran.code, 0, "{}", ran.stderr);
    }

    fn line(target: &str, line: &str) -> String {
        format!("--target {target} --repository repository {line}")
    }

    fn ok(&self, target: &str, line: &str) -> String {
        self.0.ok(&Self::line(target, line))
    }

    fn json(&self, target: &str, line: &str) -> serde_json::Value {
        self.0.json(&Self::line(target, line))
    }

    fn fails(&self, target: &str, line: &str) -> String {
        self.0.fails(1, &Self::line(target, line))
    }

    fn row(&self, target: &str) -> String {
        self.ok(target, "table export t")
    }

    /// The ids of the backups, oldest first.
    fn ids(&self) -> Vec<String> {
        let listed = self.json("a", "list c");
        let listed = listed.as_array().unwrap().iter();
        let id = |record: &serde_json::Value| record["backup_id"].as_str().unwrap().to_owned();
        listed.map(id).collect()
    }
}

#[test]
fn a_mend_without_a_name_brings_the_rows_of_its_own_target_back() {
    let pair = Pair::new();
    pair.ok("a", "backup c");
    pair.ok("b", "backup c");
    pair.put("a", "changed");
    pair.ok("a", "restore c --in-place");
    assert!(pair.row("a").contains("froma"), "{}", pair.row("a"));
    assert!(pair.row("b").contains("fromb"));
}

#[test]
fn a_list_and_a_backup_say_whose_they_are() {
    let pair = Pair::new();
    pair.ok("a", "backup c");
    pair.ok("b", "backup c");
    let listed = pair.json("a", "list c");
    let of = |at: usize| listed[at]["target"].clone();
    assert_ne!(of(0)["target_id"], of(1)["target_id"]);
    for (at, directory) in [(0, "/a"), (1, "/b")] {
        let url = of(at)["url"].as_str().unwrap().to_owned();
        assert!(
            url.starts_with("mendb:///") && url.ends_with(directory),
            "{url}"
        );
    }
    let text = pair.ok("a", "list c");
    let id = of(1)["target_id"].as_str().unwrap()[..8].to_owned();
    assert!(text.contains(&id), "{text}");
    let shown = pair.ok("a", &format!("show c/{}", pair.ids()[1]));
    assert!(shown.contains(&id), "{shown}");
    let shown = pair.json("a", &format!("show c/{}", pair.ids()[1]));
    assert_eq!(shown["target"], of(1));
}

#[test]
fn the_backup_of_another_target_takes_the_place_of_rows_only_where_its_id_is_named() {
    let pair = Pair::new();
    pair.ok("b", "backup c --label theirs");
    let id = pair.ids().remove(0);
    for line in [
        "restore c --in-place".to_owned(),
        "restore c --in-place --dry-run".to_owned(),
        "restore c --in-place --to theirs".to_owned(),
        "restore theirs --in-place".to_owned(),
    ] {
        let said = pair.fails("a", &line);
        assert!(said.contains("another target, mendb:///"), "{line}: {said}");
        assert!(said.contains(&format!("--to {id}")), "{line}: {said}");
    }
    assert!(pair.row("a").contains("froma"));
    let plan = pair.json("a", &format!("restore c --in-place --dry-run --to {id}"));
    assert!(plan["of_target"]["url"].as_str().unwrap().ends_with("/b"));
    let plan = pair.ok("a", &format!("restore c --in-place --dry-run --to {id}"));
    assert!(
        plan.contains("the backup is of another target, mendb:///"),
        "{plan}"
    );
    let done = pair.json("a", &format!("restore c --in-place --to {id}"));
    assert!(done["of_target"]["url"].as_str().unwrap().ends_with("/b"));
    assert!(pair.row("a").contains("fromb"));
    let mend = done["operation_id"].as_str().unwrap().to_owned();
    pair.ok("a", &format!("undo {mend}"));
    assert!(pair.row("a").contains("froma"));
}

#[test]
fn increments_of_two_targets_go_on_each_with_its_own_chain() {
    let pair = Pair::new();
    pair.ok("a", "backup c");
    let said = pair.fails("b", "backup c --incremental");
    assert!(said.contains("no backup of this target"), "{said}");
    pair.ok("b", "backup c");
    for (target, value) in [("a", "a2"), ("b", "b2"), ("a", "a3")] {
        pair.put(target, value);
        pair.ok(target, "backup c --incremental");
    }
    let listed = pair.json("a", "list c");
    let parent = |at: usize| listed[at]["parent"].as_str().unwrap().to_owned();
    let ids = pair.ids();
    assert_eq!(
        [parent(2), parent(3), parent(4)],
        [&ids[0], &ids[1], &ids[2]].map(Clone::clone)
    );
    pair.ok("a", "table drop t");
    pair.ok("a", "restore c");
    assert!(pair.row("a").contains("a3"));
    let said = pair.fails("a", "chain compact c");
    assert!(said.contains("several targets"), "{said}");
    pair.ok("a", &format!("chain compact c --to {}", ids[4]));
}

#[test]
fn an_empty_target_takes_the_newest_of_the_one_target_that_wrote_and_says_whose() {
    let pair = Pair::new();
    pair.put("a", "older");
    pair.ok("a", "backup c");
    pair.put("a", "newest");
    pair.ok("a", "backup c --incremental");
    let ran = pair.0.run(&Pair::line("empty", "restore c"));
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("of another target, mendb:///"),
        "{}",
        ran.stderr
    );
    assert!(pair.row("empty").contains("newest"));
    // Where two have written, there is no telling.
    pair.ok("b", "backup c");
    let said = pair.fails("emptier", "restore c");
    assert!(said.contains("/a on") || said.contains("/a ("), "{said}");
    assert!(said.contains("/b on") || said.contains("/b ("), "{said}");
    assert!(
        said.contains("name the one that is meant by its id"),
        "{said}"
    );
    pair.ok("emptier", &format!("restore c --to {}", pair.ids()[0]));
    assert!(pair.row("emptier").contains("older"));
}

#[test]
fn what_compares_with_the_newest_backup_compares_with_its_own() {
    let pair = Pair::new();
    pair.ok("a", "backup c");
    pair.ok("b", "backup c");
    pair.ok("a", "diff c");
    pair.ok("a", "verify c --live");
    let theirs = pair.ids().remove(1);
    let ran = pair
        .0
        .run(&Pair::line("a", &format!("verify {theirs} --live")));
    assert_eq!(ran.code, 3);
    assert!(ran.stderr.contains("of another target"), "{}", ran.stderr);
    let ran = pair.0.run(&Pair::line("a", &format!("diff {theirs}")));
    assert_eq!(ran.code, 3);
    assert!(ran.stdout.contains("of another target"), "{}", ran.stdout);
    // Without one of its own it says so.
    pair.ok("a", &format!("delete c/{}", pair.ids()[0]));
    let said = pair.fails("a", "diff c");
    assert!(said.contains("no backup of this target"), "{said}");
    let ran = pair.0.run(&Pair::line("a", "verify c --live"));
    assert_eq!(ran.code, 3);
    assert!(ran.stderr.contains("of another target"), "{}", ran.stderr);
}

#[test]
fn a_plan_is_carried_out_on_the_target_that_it_was_made_for() {
    let pair = Pair::new();
    pair.ok("a", "backup c");
    pair.put("a", "fromb");
    pair.ok("a", "restore c --in-place --plan plan.json");
    let said = pair.fails("b", "restore --plan plan.json");
    assert!(
        said.contains("planned for another target, mendb:///"),
        "{said}"
    );
    assert!(pair.row("b").contains("fromb"));
    pair.ok("a", "restore --plan plan.json");
    assert!(pair.row("a").contains("froma"));
}

#[test]
fn a_target_that_moved_is_still_itself_and_a_manifest_of_before_is_known_by_the_journal() {
    let pair = Pair::new();
    pair.ok("a", "backup c");
    std::fs::rename(pair.0.path().join("a"), pair.0.path().join("moved")).unwrap();
    pair.put("moved", "changed");
    pair.ok("moved", "backup c --incremental");
    pair.ok("moved", "restore c --in-place");
    assert!(pair.row("moved").contains("changed"));
}
