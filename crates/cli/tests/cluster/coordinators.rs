//! Who may give orders to agents.

use crate::agents::{Cluster, told};

#[test]
fn a_second_coordinator_is_refused_by_name_and_so_is_who_shows_no_certificate_of_ours() {
    let cluster = Cluster::backed_up();
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();

    let elsewhere = cluster.shards.path("elsewhere");
    let mut second = cluster.command_in(
        &elsewhere,
        &["restore", "monday", "--in-place", "--dry-run"],
    );
    let output = second.output().unwrap();
    let refused = told(&output);
    assert_eq!(output.status.code(), Some(1), "{refused}");
    // The label is one of another coordinator's, and by its id the agents refuse it.
    assert!(refused.contains("cluster pair"), "{refused}");
    let listed = cluster.ok(&["list"]);
    let id = listed[0]["backup_id"].as_str().unwrap();
    let mut second = cluster.command_in(&elsewhere, &["restore", id, "--in-place", "--dry-run"]);
    let refused = told(&second.output().unwrap());
    let by_name = format!("takes orders of the coordinator {}", host.trim());
    assert!(refused.contains(&by_name), "{refused}");

    let mut stranger = cluster.command(&["restore", "monday", "--in-place", "--dry-run"]);
    for (name, file) in [("CERT", "by-other.crt"), ("KEY", "by-other.key")] {
        let path = cluster.certificates.path(file);
        stranger.env(format!("MENDB_CLUSTER_TLS_{name}"), path);
    }
    let refused = told(&stranger.output().unwrap());
    assert!(refused.contains("does not answer"), "{refused}");

    let mut fooled = cluster.command(&["restore", "monday", "--in-place", "--dry-run"]);
    fooled.env(
        "MENDB_CLUSTER_TLS_CA",
        cluster.certificates.path("other.crt"),
    );
    let refused = told(&fooled.output().unwrap());
    assert!(refused.contains("does not answer"), "{refused}");

    cluster.ok(&["restore", "monday", "--in-place", "--dry-run"]);
}

#[test]
fn an_agent_that_is_beside_another_server_does_nothing_for_it() {
    let mut cluster = Cluster::backed_up();
    let rows = cluster.rows();
    cluster.swap_agents();
    for order in [
        &["restore", "monday", "--in-place"][..],
        &["restore", "monday", "--in-place", "--dry-run"],
        &["backup", "shop"],
    ] {
        let refused = cluster.fails(order);
        assert!(
            refused.contains("it is the agent of the server "),
            "{refused}"
        );
        assert_eq!(cluster.unfinished(), None);
    }
    assert_eq!(cluster.rows(), rows);
    cluster.swap_agents();
    cluster.ok(&["backup", "shop"]);
}
