//! Whose a backup is, where it does not say: backups from before mendb noted their target.

use mendb_model::TargetMark;
use mendb_model::manifest::Manifest;
use mendb_model::name::{BackupId, BackupKind};
use mendb_service::{Purpose, Whose};

use crate::world::{World, edit, fill};

/// A full backup beside the one labelled `full`, some seconds later, that says another thing of itself.
fn another(world: &World, seconds: i64, change: impl FnOnce(&mut Manifest)) -> BackupId {
    let chain = world.service.chain("shop", Some("full")).unwrap();
    let mut manifest = chain[0].manifest.clone();
    let second = manifest.backup_id.unix_seconds() + seconds;
    manifest.backup_id = BackupId::new(second, BackupKind::Full).unwrap();
    manifest.label = None;
    manifest.operation_id = "backup-of-nobody".to_owned();
    for table in &mut manifest.tables {
        for (_, data) in table.sharded_tables_mut() {
            for shard in 0..data.totals().count {
                let shard = data.drafted_shard(shard.try_into().unwrap());
                shard.unwrap().segments.clear();
            }
        }
    }
    change(&mut manifest);
    let put = world.service.repository().put_manifest(&manifest, "nobody");
    world.service.runtime().block_on(put).unwrap();
    manifest.backup_id
}

fn chosen(world: &World, purpose: Purpose) -> (String, Whose) {
    let chosen = world.service.chosen("shop", None, purpose).unwrap();
    let last = chosen.chain.last().unwrap();
    (last.manifest.backup_id.to_string(), chosen.whose)
}

#[test]
fn a_backup_of_before_is_ours_where_the_journal_knows_it_and_else_is_not_picked_to_overwrite() {
    let world = World::new();
    fill(&world, 100);
    let operation = world.backup(BackupKind::Full, "full");
    world.done(&operation);
    let known = another(&world, 1, |manifest| {
        manifest.target = None;
        manifest.operation_id = operation.operation_id.to_string();
    });
    assert_eq!(
        chosen(&world, Purpose::Overwrite),
        (known.to_string(), Whose::Ours)
    );
    let unknown = another(&world, 2, |manifest| manifest.target = None);
    for purpose in [Purpose::Overwrite, Purpose::Compare, Purpose::Create] {
        assert_eq!(chosen(&world, purpose).0, known.to_string());
    }
    let theirs = another(&world, 3, |manifest| {
        manifest.target = Some(TargetMark {
            target_id: "another".to_owned(),
            url: "mendb:///elsewhere".to_owned(),
            host: None,
        });
    });
    assert_eq!(chosen(&world, Purpose::Overwrite).0, known.to_string());
    for id in [&unknown, &theirs] {
        let named = world
            .service
            .chosen("shop", Some(id.as_str()), Purpose::Overwrite);
        assert_ne!(named.unwrap().whose, Whose::Ours);
    }
    // The journal forgets, and the change stream of the chain is named after another backup.
    world.service.forget(&operation.operation_id).unwrap();
    let ours = chosen(&world, Purpose::Overwrite);
    assert_eq!(ours.1, Whose::Ours);
    assert_ne!(ours.0, known.to_string());
}

#[test]
fn increments_go_on_beside_backups_of_others() {
    let world = World::new();
    fill(&world, 100);
    world.done(&world.backup(BackupKind::Full, "full"));
    edit(&world, 1);
    another(&world, 1, |manifest| {
        manifest.target.as_mut().unwrap().target_id = "another".to_owned();
    });
    another(&world, 2, |manifest| manifest.target = None);
    let operation = world.backup(BackupKind::Incremental, "increment");
    world.done(&operation);
    let chain = world.service.chain("shop", Some("increment")).unwrap();
    assert_eq!(chain[0].manifest.label.as_deref(), Some("full"));
    assert_eq!(chosen(&world, Purpose::Compare).1, Whose::Ours);
}
