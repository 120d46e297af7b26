//! Coordinators and agents that die in the middle.

use serde_json::Value;

use crate::agents::{Cluster, insert, told};
use crate::points::points;

/// Every so manieth step of the coordinator: each takes some seconds.
const FEW: usize = 4;

const MEND: [&str; 3] = ["restore", "monday", "--in-place"];

fn goes_on(cluster: &Cluster, id: &str) {
    let output = cluster
        .command(&["operation", "watch", id])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", told(&output));
}

#[test]
fn a_backup_whose_coordinator_and_agent_die_is_one_backup_in_the_end() {
    let mut cluster = Cluster::new();
    for server in &cluster.shards.servers {
        insert(server, 1, 0);
    }
    let mut went_on = 0;
    for point in points(FEW) {
        let is_stopped = cluster.stopped_at(&["backup", "shop"], point);
        if let Some(id) = cluster.unfinished() {
            cluster.restart_agent((point % 2) as usize);
            goes_on(&cluster, &id);
            went_on += 1;
        }
        assert_eq!(cluster.unfinished(), None);
        let operations = cluster.ok(&["operation", "list"]);
        let listed = cluster.ok(&["list"]);
        let whole = |backup: &&Value| backup["complete"] == true;
        assert_eq!(
            listed.as_array().unwrap().iter().filter(whole).count(),
            operations.as_array().unwrap().len(),
            "stopped at step {point}"
        );
        if !is_stopped {
            assert!(went_on > 1, "{went_on}");
            return;
        }
    }
}

#[test]
fn a_mend_whose_coordinator_and_agent_die_is_completed() {
    let mut cluster = Cluster::backed_up();
    let whole = cluster.rows();
    for point in points(FEW) {
        let two = &cluster.shards.servers[1];
        two.query("ALTER TABLE shop.sales DROP PARTITION 202401");
        insert(two, 2, 3000 + point);
        let is_stopped = cluster.stopped_at(&MEND, point);
        cluster.restart_agent(1);
        match cluster.unfinished() {
            Some(id) => goes_on(&cluster, &id),
            None => drop(cluster.ok(&MEND)),
        }
        assert_eq!(cluster.rows(), whole, "stopped at step {point}");
        if !is_stopped {
            return;
        }
    }
}

#[test]
fn a_mend_that_is_given_up_leaves_every_shard_as_it_was() {
    let cluster = Cluster::backed_up();
    for point in points(FEW) {
        for server in &cluster.shards.servers {
            insert(server, 2, 4000 + point);
        }
        let damaged = cluster.rows();
        if !cluster.stopped_at(&MEND, point) {
            assert_ne!(cluster.rows(), damaged);
            return;
        }
        if let Some(id) = cluster.unfinished() {
            let output = cluster
                .command(&["operation", "cancel", &id])
                .output()
                .unwrap();
            assert!(output.status.success(), "{}", told(&output));
            assert_eq!(cluster.rows(), damaged, "stopped at step {point}");
        }
    }
}
