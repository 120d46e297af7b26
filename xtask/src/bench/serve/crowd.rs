//! Clients of a server that it has beside its work: connections that ask for nothing, and readers of events.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::thread::{self, JoinHandle};

use serde_json::Value;

use super::server::{Server, healthy};

/// Room for the stack of a thread that reads lines.
const STACK_BYTES: usize = 128 * 1024;

/// Clients that are there.
pub struct Crowd {
    idle: Vec<TcpStream>,
    readers: Vec<TcpStream>,
}

/// Readers that wait for the end of an operation.
pub struct Reading(Vec<JoinHandle<Option<u64>>>);

impl Crowd {
    /// Lets so many of each in. Each idle connection has been answered once, and each reader has the head of its
    /// answer.
    ///
    /// # Errors
    /// One was not let in.
    pub fn of(server: &Server, idle: usize, readers: usize) -> Result<Self, String> {
        let connect = || {
            let stream = server.connect();
            stream.map_err(|error| format!("the server takes no connection: {error}"))
        };
        let mut crowd = Self {
            idle: Vec::new(),
            readers: Vec::new(),
        };
        for _ in 0..readers {
            let mut stream = connect()?;
            let head = server.head("GET", "/v1/events", "");
            let mut status = [0; 12];
            stream
                .write_all(head.as_bytes())
                .and_then(|()| stream.read_exact(&mut status))
                .map_err(|error| format!("a reader of events was not let in: {error}"))?;
            if status != *b"HTTP/1.1 200" {
                let status = String::from_utf8_lossy(&status);
                return Err(format!("a reader of events was not let in: {status}"));
            }
            crowd.readers.push(stream);
        }
        for _ in 0..idle {
            crowd.idle.push(connect()?);
        }
        crowd.check()?;
        Ok(crowd)
    }

    /// Asks on each idle connection for a sign of life.
    ///
    /// # Errors
    /// One was closed.
    pub fn check(&mut self) -> Result<(), String> {
        let all = self.idle.len();
        let streams = self.idle.iter_mut();
        let gone: usize = streams.map(|stream| usize::from(!healthy(stream))).sum();
        if gone > 0 {
            return Err(format!("{gone} of {all} idle connections were closed"));
        }
        Ok(())
    }

    /// Has each reader read until an operation has begun after this, and is done.
    ///
    /// # Errors
    /// There is no thread for one.
    pub fn read(&mut self) -> Result<Reading, String> {
        let mut threads = Vec::new();
        for stream in std::mem::take(&mut self.readers) {
            let thread = thread::Builder::new()
                .stack_size(STACK_BYTES)
                .spawn(move || events_to_the_end(stream))
                .map_err(|error| format!("no thread for a reader: {error}"))?;
            threads.push(thread);
        }
        Ok(Reading(threads))
    }
}

impl Reading {
    /// How many events all of them have read.
    ///
    /// # Errors
    /// One has not heard of the end.
    pub fn events(self) -> Result<u64, String> {
        let all = self.0.len();
        let heard: Vec<u64> = self
            .0
            .into_iter()
            .filter_map(|thread| thread.join().ok().flatten())
            .collect();
        if heard.len() < all {
            let deaf = all - heard.len();
            return Err(format!("{deaf} of {all} readers have not heard of the end"));
        }
        Ok(heard.into_iter().sum())
    }
}

/// Reads events until one tells that an operation is done; how many there were.
fn events_to_the_end(stream: TcpStream) -> Option<u64> {
    let mut events = 0;
    for line in BufReader::new(stream).lines() {
        let line = line.ok()?;
        let Some(data) = line.strip_prefix("data: ") else {
            continue;
        };
        events += 1;
        let operation: Value = serde_json::from_str(data).ok()?;
        if operation["state"] == "done" {
            return Some(events);
        }
    }
    None
}
