//! The guide of clusters does what it says.

use std::fs;

use crate::agents::{Agent, insert};
use crate::reader::Reader;
use crate::servers::Server;
use crate::shards::Shards;

const GUIDE: &str = include_str!("../../../../docs/guide-cluster.md");
const HOSTS: [&str; 2] = ["db1.example.com", "db2.example.com"];

/// The files of the guide: blocks whose first line names one.
fn files(guide: &str) -> Vec<(&str, &str)> {
    let blocks = guide.split("```yaml\n# ").skip(1);
    let files = blocks.map(|block| {
        let block = block.split("```").next().unwrap();
        block.split_once('\n').unwrap()
    });
    files.collect()
}

#[test]
fn the_guide_of_clusters_is_true() {
    let shards = Shards::new(1);
    for (server, from) in shards.servers.iter().zip([0, 1000]) {
        for month in 1..=2 {
            insert(server, month, from);
        }
    }
    let mut reader = Reader::new(&[]);
    let repository = reader.path("repository").display().to_string();
    let targets: Vec<String> = shards.servers.iter().map(Server::target).collect();
    let address = |target: &str| {
        let address = target.split(['@', '/']).rev().find(|it| it.contains(':'));
        address.unwrap().replace("127.0.0.1", "localhost")
    };
    reader
        .replacements
        .push(("/mnt/backups".to_owned(), repository));
    for (host, target) in HOSTS.iter().zip(&targets) {
        reader
            .replacements
            .push((format!("{host}:8123"), address(target)));
    }
    // Its name in certificates and of their files; where its agent listens comes before.
    let hosts = HOSTS.map(|host| (host.to_owned(), "localhost".to_owned()));
    reader.replacements.extend(hosts.clone());
    let mut agents = Vec::new();
    let mut is_written = false;
    reader.follow(GUIDE, |reader, command| {
        if command.starts_with("mendb agent ") {
            let target = &targets[agents.len()];
            let line = reader.here(command).replace("0.0.0.0:7443", "127.0.0.1:0");
            let line = line.replace("localhost:8123", &address(target));
            let mut agent = reader.shell(&format!("exec {line}"));
            agent.env(
                "XDG_STATE_HOME",
                reader.path(&format!("agent-{}", agents.len())),
            );
            agents.push(Agent::start(&mut agent));
            return true;
        }
        if agents.len() == HOSTS.len() && !is_written {
            is_written = true;
            for (host, agent) in HOSTS.iter().zip(&agents) {
                let here = format!("localhost:{}", agent.port);
                reader
                    .replacements
                    .insert(0, (format!("{host}:7443"), here));
            }
            let all = files(GUIDE);
            assert_eq!(all.len(), 2);
            for (name, text) in all {
                fs::write(reader.path(name), reader.here(text)).unwrap();
            }
        }
        false
    });
    assert!(is_written);
}
