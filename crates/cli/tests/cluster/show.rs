//! `mendb cluster show`.

use serde_json::Value;

use crate::servers::{Flavor, Server, ServerOptions};
use crate::shards::Shards;

fn json(printed: &str) -> Value {
    serde_json::from_str(printed).unwrap()
}

#[test]
fn each_server_of_a_list_tells_of_itself_and_one_that_is_gone_is_named() {
    let mut shards = Shards::new(1);
    let list = shards.list();
    let show = ["cluster", "show", "--cluster", &list, "--output", "json"];
    let told = json(&shards.ends(0, &show).0);
    assert_eq!(
        (&told["cluster"], &told["shards"]),
        (&"pair".into(), &2.into())
    );
    for (server, shard) in told["servers"]
        .as_array()
        .unwrap()
        .iter()
        .zip(["one", "two"])
    {
        assert_eq!(server["shard"], shard);
        assert!(
            server["version"].as_str().unwrap().starts_with("18."),
            "{server}"
        );
        assert_eq!(server["macros"]["shard"], shard);
        assert_eq!(
            server["disks"],
            Value::Array(Vec::new()),
            "it is too old to tell"
        );
        let replicated = &server["replicated"][0];
        assert_eq!(replicated["table"], "shop.sales");
        assert_eq!(replicated["is_read_only"], false);
        assert_eq!(
            (&replicated["delay_s"], &replicated["queue"]),
            (&0.into(), &0.into())
        );
    }
    let text = shards.ends(0, &show[..4]).0;
    assert!(
        text.starts_with("cluster pair: 2 servers in 2 shards\n"),
        "{text}"
    );
    assert!(text.contains("replica=r1 shard=two"), "{text}");

    shards.servers[1].kill();
    let told = json(&shards.ends(3, &show).0);
    assert_eq!(told["servers"][0]["macros"]["shard"], "one");
    let why = told["servers"][1]["unreachable"].as_str().unwrap();
    assert!(why.contains("Connection refused"), "{why}");
    let text = shards.ends(3, &show[..4]).0;
    assert!(text.contains(" is not reachable: "), "{text}");
}

#[test]
fn a_cluster_is_found_by_the_name_that_the_target_knows_it_by() {
    let options = ServerOptions {
        more_config: "<remote_servers><here><shard><replica><host>127.0.0.1</host><port>9</port></replica></shard>\
             <shard><replica><host>127.0.0.7</host><port>9</port></replica></shard></here></remote_servers>"
            .to_owned(),
        ..ServerOptions::default()
    };
    let server = Server::start(Flavor::V18, options);
    let directory = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_mendb"));
        command
            .current_dir(directory.path())
            .args(["--target", &server.target(), "cluster", "show", "--cluster"])
            .args(arguments);
        command.output().unwrap()
    };
    // Nobody answers at the second address.
    let output = run(&["here", "--output", "json"]);
    assert_eq!(output.status.code(), Some(3));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let servers = told["servers"].as_array().unwrap();
    assert!(
        servers[0]["version"].as_str().unwrap().starts_with("18."),
        "{told}"
    );
    assert!(
        servers[1]["server"]
            .as_str()
            .unwrap()
            .starts_with("127.0.0.7:"),
        "{told}"
    );
    assert!(servers[1]["unreachable"].is_string(), "{told}");

    let output = run(&["elsewhere"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("knows no cluster elsewhere: it knows here"),
        "{said}"
    );
}

#[test]
fn what_a_keeper_that_is_lost_makes_of_replicas_is_told() {
    let mut shards = Shards::new(1);
    let list = shards.list();
    shards.keeper.kill();
    let question = "SELECT toUInt8(is_readonly OR is_session_expired) FROM system.replicas";
    for server in &shards.servers {
        // The server notices within its session.
        let mut looks = 0..300;
        while server.query(question) != "1\n" {
            assert!(
                looks.next().is_some(),
                "a server does not notice its keeper"
            );
            server.query("SELECT sleep(0.1)");
        }
    }
    let (text, _) = shards.ends(3, &["cluster", "show", "--cluster", &list]);
    assert_eq!(
        text.matches("replica r1 of shop.sales is read-only")
            .count(),
        2,
        "{text}"
    );
}
