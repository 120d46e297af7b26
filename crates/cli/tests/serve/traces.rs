//! Operations come to a collector of OpenTelemetry as traces.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};

use serde_json::{Value, json};

use crate::mendb::Ran;
use crate::server::{Server, World};

/// Where a collector takes traces, and what it gets.
fn collector() -> (String, Receiver<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (send, got) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let mut length = 0;
            loop {
                let mut line = String::new();
                stream.read_line(&mut line).unwrap();
                let line = line.trim().to_ascii_lowercase();
                if let Some(bytes) = line.strip_prefix("content-length: ") {
                    length = bytes.parse().unwrap();
                }
                if line.is_empty() {
                    break;
                }
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            let answer = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}";
            stream.get_mut().write_all(answer.as_bytes()).unwrap();
            if send.send(serde_json::from_slice(&body).unwrap()).is_err() {
                return;
            }
        }
    });
    (url, got)
}

/// All spans that came.
fn spans(got: &Receiver<Value>) -> Vec<Value> {
    let mut spans = Vec::new();
    for sent in got.try_iter() {
        for resource in sent["resourceSpans"].as_array().unwrap() {
            let named = json!({"key": "service.name", "value": {"stringValue": "mendb"}});
            let attributes = resource["resource"]["attributes"].as_array().unwrap();
            assert!(attributes.contains(&named), "{resource}");
            for scope in resource["scopeSpans"].as_array().unwrap() {
                spans.extend(scope["spans"].as_array().unwrap().iter().cloned());
            }
        }
    }
    spans
}

/// The root of the trace that all of these are, each attempt below it.
fn root(spans: &[Value]) -> &Value {
    let is_root = |span: &&Value| span["parentSpanId"].as_str().is_none_or(str::is_empty);
    let roots: Vec<&Value> = spans.iter().filter(is_root).collect();
    let [root] = roots[..] else {
        panic!("{spans:#?}");
    };
    let attempts: Vec<&Value> = (spans.iter())
        .filter(|span| span["name"] == "attempt")
        .collect();
    assert!(!attempts.is_empty(), "{spans:#?}");
    for span in attempts {
        assert_eq!(span["traceId"], root["traceId"], "{span:#}");
        assert_eq!(span["parentSpanId"], root["spanId"], "{span:#}");
    }
    root
}

#[test]
fn an_operation_is_a_trace_of_its_attempts() {
    let world = World::new();
    let (url, got) = collector();
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str()),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
    ];
    let mut backup = world.mendb.command("backup world --output json");
    let ran: Ran = backup.envs(variables).output().unwrap().into();
    assert_eq!(ran.code, 0, "{ran:?}");
    let by_command = spans(&got);
    assert_eq!(root(&by_command)["name"], "full_backup");
    assert_eq!(root(&by_command)["status"]["code"], 1, "{by_command:#?}");

    let server = Server::start(&world.mendb, "serve --listen 127.0.0.1:0", &variables);
    world.done(&server, "/v1/collections/world/backups", &json!({}));
    let (code, said, _) = server.end();
    assert_eq!(code, Some(0), "{said}");
    let by_server = spans(&got);
    assert_eq!(root(&by_server)["name"], "full_backup");
    assert_ne!(root(&by_server)["traceId"], root(&by_command)["traceId"]);
}

#[test]
fn a_collector_that_is_not_there_is_said_and_harms_nothing() {
    let world = World::new();
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr();
    let url = format!("http://{}", gone.unwrap());
    let mut backup = world.mendb.command("backup world");
    let ran: Ran = backup
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        .output()
        .unwrap()
        .into();
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stderr.contains("traces are lost"), "{ran:?}");
    let mut backup = world.mendb.command("backup world");
    let ran: Ran = backup
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", "no address")
        .output()
        .unwrap()
        .into();
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.stderr.contains("OTEL_EXPORTER_OTLP_"), "{ran:?}");
}
