//! Backups and their ids: none is given twice, and nothing goes that another backup stands on.

use std::fs;

use crate::mendb::Mendb;

fn world() -> Mendb {
    let mendb = Mendb::new();
    mendb.ok("table create t --column id:int64 --column v:utf8 --key id");
    put(&mendb, "1,a");
    mendb.ok("collection create c --table t");
    mendb
}

fn put(mendb: &Mendb, row: &str) {
    let line = "table import t - --format csv --quiet";
    let ran = mendb.run_with(line, &format!("id,v\n{row}\n"));
    assert_eq!(ran.code, 0, "{}", ran.stderr);
}

fn ids(mendb: &Mendb) -> Vec<String> {
    let ran = mendb.run("list c --output json");
    let listed: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let listed = listed.as_array().unwrap().iter();
    let id = |record: &serde_json::Value| record["backup_id"].as_str().unwrap().to_owned();
    listed.map(id).collect()
}

#[test]
fn a_backup_that_was_deleted_leaves_its_id_to_no_other() {
    let mendb = world();
    mendb.ok("backup c");
    let mut given = ids(&mendb);
    for kind in ["--incremental", "", "--incremental"] {
        put(&mendb, "2,b");
        mendb.ok(&format!("backup c {kind}"));
        let id = ids(&mendb).pop().unwrap();
        assert!(
            given.iter().all(|before| before[..15] < id[..15]),
            "{id} after {given:?}"
        );
        given.push(id.clone());
        mendb.ok(&format!("delete c/{id}"));
        let said = mendb.fails(1, "backup c --incremental");
        let cause = match kind {
            "" => "its change stream has ended",
            _ => "up to a later backup, which is not there any more",
        };
        assert!(said.contains(cause), "{said}");
        mendb.ok("backup c");
        given.extend(ids(&mendb).pop());
    }
}

#[test]
fn what_increments_stand_on_stays_although_its_manifest_is_lost() {
    let mendb = world();
    mendb.ok("backup c");
    for row in ["2,b", "3,c"] {
        put(&mendb, row);
        mendb.ok("backup c --incremental");
    }
    let ids = ids(&mendb);
    let backup = |id: &str| {
        mendb
            .path()
            .join("mendb-data/repository/collections/c")
            .join(id)
    };
    let files = |id: &str| fs::read_dir(backup(id).join("t")).unwrap().count();
    for lost in [&ids[0], &ids[1]] {
        let manifest = backup(lost).join("manifest.json");
        let kept = fs::read(&manifest).unwrap();
        fs::remove_file(&manifest).unwrap();
        let said = mendb.fails(1, &format!("delete c/{lost}"));
        assert!(
            said.contains("stand") && said.contains("--cascade"),
            "{said}"
        );
        assert!(files(lost) > 0);
        let listed = mendb.run("list c");
        assert_eq!(listed.code, 3);
        assert!(
            listed.stderr.contains("has lost its manifest"),
            "{}",
            listed.stderr
        );
        if lost == &ids[1] {
            // What the lost one stands on is not known any more.
            let said = mendb.fails(1, &format!("delete c/{} --cascade", ids[0]));
            assert!(
                said.contains(&ids[1]) && said.contains("cannot be told"),
                "{said}"
            );
        }
        fs::write(&manifest, kept).unwrap();
        mendb.ok("verify c");
    }
    let manifest = backup(&ids[1]).join("manifest.json");
    fs::write(&manifest, "{}").unwrap();
    let said = mendb.fails(1, &format!("delete c/{}", ids[0]));
    assert!(said.contains("cannot be told"), "{said}");
    let gone = mendb.json(&format!("delete c/{} --cascade", ids[1]));
    assert_eq!(gone["deleted"].as_array().unwrap().len(), 2);
    mendb.ok(&format!("delete c/{}", ids[0]));
}

#[test]
fn what_is_left_of_a_lost_backup_goes_with_what_stands_on_it_where_that_is_asked_for() {
    let mendb = world();
    mendb.ok("backup c");
    put(&mendb, "2,b");
    mendb.ok("backup c --incremental");
    let ids = ids(&mendb);
    let collection = mendb.path().join("mendb-data/repository/collections/c");
    fs::remove_file(collection.join(&ids[0]).join("manifest.json")).unwrap();
    mendb.ok(&format!("delete c/{} --cascade", ids[0]));
    // Nobody who was making it can seal it any more, as the mark of it stays for the time of grace.
    let left = fs::read_dir(&collection).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().path()).collect();
    assert_eq!(left, [collection.join(&ids[0])]);
    let left = fs::read_dir(&left[0]).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["manifest.json"]);
    let listed = mendb.ok("list");
    assert!(!listed.contains(&ids[0]), "{listed}");
}

#[test]
fn a_backup_that_is_not_there_is_answered_with_what_may_have_been_meant() {
    let mendb = world();
    mendb.ok("backup c --label monday");
    for line in ["restore c --to Monday", "restore c --in-place --to mon"] {
        let said = mendb.fails(1, line);
        assert!(said.contains("has no backup"), "{line}: {said}");
        let meant = format!("did you mean {} (monday)?", ids(&mendb)[0]);
        assert!(said.contains(&meant), "{line}: {said}");
    }
    let said = mendb.fails(1, "restore c --to sunday");
    assert!(
        said.contains("hint: mendb list c shows its backups"),
        "{said}"
    );
}
