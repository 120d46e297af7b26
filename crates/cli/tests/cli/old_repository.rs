//! A repository that an older version wrote, in `fixtures/repository-1`: a full backup `one` and an increment
//! `two` of a table with an index, written by mendb at commit 8f9bd14.

use crate::mendb::Mendb;

/// What the digests of the table and its index were when the increment was taken.
const ROWS: &str = "50:99d8586672a20791e6750b7d0bec60f3";
const INDEX: &str = "50:06f4f623187b3e9dd11155005d283e21";

fn world() -> Mendb {
    let mendb = Mendb::new().with("MENDB_REPOSITORY", "repository");
    mendb.bring("repository-1", "repository");
    mendb
}

fn is_as_it_was(mendb: &Mendb) {
    let digests = mendb.ok("table digest flights");
    assert!(
        digests.contains(ROWS) && digests.contains(INDEX),
        "{digests}"
    );
}

#[test]
fn backups_of_the_first_format_are_listed_verified_restored_and_mended_from() {
    let mendb = world();
    let listed = mendb.json("list c");
    let labels: Vec<&str> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|b| b["label"].as_str().unwrap())
        .collect();
    assert_eq!(labels, ["one", "two"]);
    mendb.ok("verify c");
    mendb.ok("restore c");
    is_as_it_was(&mendb);
    mendb.ok("verify c --live");
    mendb.ok("collection create c --table flights");
    mendb.write("damage.csv", "id,name,amount\n3,none,1\n99,none,2\n");
    mendb.ok("table import flights damage.csv");
    // It is of another target, and so named by its id.
    mendb.ok("restore c --in-place --to 20261129132208Z_incremental");
    is_as_it_was(&mendb);
}

#[test]
fn a_repository_of_the_first_format_goes_on_and_becomes_the_second_with_the_first_deletion() {
    let mendb = world();
    mendb.ok("restore c");
    mendb.ok("collection create c --table flights");
    mendb.ok("backup c --label three");
    let header = |mendb: &Mendb| mendb.read("repository/mendb.json");
    assert!(header(&mendb).contains("\"format_version\": 1"));
    mendb.ok("delete one --cascade");
    assert!(header(&mendb).contains("\"format_version\": 2"));
    mendb.ok("verify c");
    mendb.ok("table drop flights");
    mendb.ok("restore c");
    is_as_it_was(&mendb);
}

#[test]
fn an_increment_of_the_first_format_is_told_to_be_unproved_and_proved_by_folding_its_chain() {
    let mendb = world();
    let unproved = |command: &str| -> Vec<Option<String>> {
        let proof = mendb.json(command);
        let backups = proof["backups"].as_array().unwrap().iter();
        let unproved = backups.map(|backup| backup["unproved"].as_str().map(str::to_owned));
        unproved.collect()
    };
    let told = unproved("verify c");
    let [None, Some(reason)] = &told[..] else {
        panic!("{told:?}");
    };
    assert!(reason.contains("an older mendb"), "{reason}");
    let text = mendb.ok("verify c");
    assert!(text.contains("mendb verify --fold proves it"), "{text}");
    assert_eq!(unproved("verify c --fold"), [None, None]);
    assert!(!mendb.ok("verify c --fold").contains("not proved"));

    mendb.ok("restore c");
    mendb.ok("collection create c --table flights");
    mendb.ok("backup c --label three");
    mendb.write("more.csv", "id,name,amount\n3,other,1\n99,new,2\n");
    mendb.ok("table import flights more.csv");
    mendb.ok("backup c --incremental --label four");
    assert_eq!(unproved("verify four"), [None, None]);
}
