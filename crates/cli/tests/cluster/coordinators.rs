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
    assert!(refused.contains("certificate of this machine"), "{refused}");

    let mut fooled = cluster.command(&["restore", "monday", "--in-place", "--dry-run"]);
    fooled.env(
        "MENDB_CLUSTER_TLS_CA",
        cluster.certificates.path("other.crt"),
    );
    let refused = told(&fooled.output().unwrap());
    assert!(refused.contains("does not answer"), "{refused}");
    assert!(refused.contains("cluster.tls_ca has signed"), "{refused}");
    // What listens there is the server.
    let list = std::fs::read_to_string(cluster.list()).unwrap();
    let server = cluster.shards.servers[0].target();
    let port = server.trim_end_matches('/').rsplit(':').next().unwrap();
    let agent = list.lines().find(|line| line.contains("agent:")).unwrap();
    let wrong = cluster.shards.path("wrong.yml");
    std::fs::write(
        &wrong,
        list.replace(agent, &format!("    agent: 127.0.0.1:{port}")),
    )
    .unwrap();
    let refused = cluster
        .shards
        .command(&["--repository", &cluster.repository()]);
    let refused = told(&cluster.with_certificates(
        refused,
        &["backup", "shop", "--cluster", &wrong.display().to_string()],
    ));
    assert!(refused.contains("speaks no TLS"), "{refused}");
    assert_eq!(cluster.unfinished(), None);

    cluster.ok(&["restore", "monday", "--in-place", "--dry-run"]);
}

#[test]
fn what_an_agent_needs_is_looked_at_beside_it_and_what_is_missing_is_named() {
    let cluster = Cluster::backed_up();
    let check = |more: &[&str]| {
        let mut command = cluster.agent_command(0, "0");
        let output = command.arg("--check").args(more).output().unwrap();
        (output.status.code(), told(&output))
    };
    let (code, text) = check(&[]);
    assert_eq!(code, Some(0), "{text}");
    for subject in ["TLS", "--tls-cert", "settings", "disk default", "journal"] {
        assert!(text.contains(&format!("\n{subject} ")), "{subject}: {text}");
    }
    assert!(text.contains("is read and written (id "), "{text}");
    let left = std::fs::read_dir(cluster.shards.path("repository")).unwrap();
    let left = left.map(|entry| entry.unwrap().file_name());
    assert!(
        !left
            .into_iter()
            .any(|name| name.to_string_lossy().starts_with("check-"))
    );

    let (code, text) = check(&["--data-path", "/nowhere"]);
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("/nowhere"), "{text}");
    let other = cluster
        .certificates
        .path("by-other.key")
        .display()
        .to_string();
    let mut command = cluster.agent_command(0, "0");
    let line: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
    let line = line.into_iter().map(|arg| match arg.to_string_lossy() {
        key if key.ends_with("by-ours.key") => other.clone().into(),
        _ => arg,
    });
    command = std::process::Command::new(env!("CARGO_BIN_EXE_mendb"));
    let output = command
        .args(line)
        .args(["--check", "--output", "json"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", told(&output));
    let checked: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let tls = &checked["findings"][0];
    assert_eq!(
        (&tls["subject"], &tls["grade"]),
        (&"TLS".into(), &"missing".into())
    );
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
