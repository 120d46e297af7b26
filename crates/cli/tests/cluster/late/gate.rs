//! A proxy in front of a server, which keeps one statement back that changes something.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use crate::servers::Server;

/// How statements begin that change nothing.
const QUESTIONS: [&str; 4] = ["SELECT", "EXISTS", "SHOW", "SYSTEM FLUSH LOGS"];

/// What stands at the gate.
#[derive(Debug, Default)]
struct Standing {
    /// So many changes are let through before the one that is kept; `None` keeps nothing back.
    before: Option<u64>,
    /// The one that is kept back.
    kept: Option<String>,
    /// The server has answered it.
    is_done: bool,
}

type Shared = Arc<(Mutex<Standing>, Condvar)>;

/// The gate of a server. It lasts as long as the process.
pub struct Gate {
    /// What has the agent ask here in place of the server.
    pub target: String,
    shared: Shared,
}

impl Gate {
    /// Stands in front of a server that keeps its port.
    pub fn before(server: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let own = listener.local_addr().unwrap().port().to_string();
        let target = server.target();
        let (_, port) = target.trim_end_matches('/').rsplit_once(':').unwrap();
        let address = format!("127.0.0.1:{port}");
        let shared = Shared::default();
        let of_thread = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (shared, address) = (Arc::clone(&of_thread), address.clone());
                // Who has ended asks nothing more.
                std::thread::spawn(move || pass(&stream?, &address, &shared));
            }
        });
        Self {
            target: target.replace(&format!(":{port}/"), &format!(":{own}/")),
            shared,
        }
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.shared.0.lock().unwrap()
    }

    /// Keeps the n-th statement back that changes something from now on, counted from one.
    pub fn keep(&self, nth: u64) {
        *self.standing() = Standing {
            before: Some(nth - 1),
            ..Standing::default()
        };
    }

    /// What is kept back.
    pub fn kept(&self) -> Option<String> {
        self.standing().kept.clone()
    }

    /// Lets it go, and waits until the server has answered; or keeps nothing back.
    pub fn open(&self) {
        let mut standing = self.standing();
        standing.before = None;
        self.shared.1.notify_all();
        while standing.kept.is_some() && !standing.is_done {
            standing = self.shared.1.wait(standing).unwrap();
        }
    }
}

/// Passes one request on, and its answer back.
fn pass(client: &TcpStream, address: &str, shared: &Shared) -> io::Result<()> {
    let (mut head, mut length) = (String::new(), 0);
    let mut reader = BufReader::new(client);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let lower = line.to_ascii_lowercase();
        if let Some(told) = lower.strip_prefix("content-length:") {
            length = told.trim().parse().map_err(io::Error::other)?;
        }
        // A connection is for one request.
        if line == "\r\n" {
            head += "connection: close\r\n\r\n";
            break;
        }
        if !lower.starts_with("connection:") {
            head += &line;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let is_kept = wait(&String::from_utf8_lossy(&body), shared);
    let answer = asked(address, head.as_bytes(), &body);
    if is_kept {
        shared.0.lock().unwrap().is_done = true;
        shared.1.notify_all();
    }
    let mut client = client;
    client.write_all(&answer?)?;
    client.shutdown(Shutdown::Both)
}

/// Waits where it is the one that is kept back, and says whether it was.
fn wait(statement: &str, shared: &Shared) -> bool {
    if changes_nothing(statement) {
        return false;
    }
    let mut standing = shared.0.lock().unwrap();
    match standing.before {
        Some(0) if standing.kept.is_none() => {}
        Some(before) if before > 0 => {
            standing.before = Some(before - 1);
            return false;
        }
        _ => return false,
    }
    standing.kept = Some(statement.to_owned());
    while standing.before.is_some() {
        standing = shared.1.wait(standing).unwrap();
    }
    true
}

fn changes_nothing(statement: &str) -> bool {
    let statement = statement.trim_start();
    QUESTIONS.iter().any(|first| statement.starts_with(first))
}

fn asked(address: &str, head: &[u8], body: &[u8]) -> io::Result<Vec<u8>> {
    let mut server = TcpStream::connect(address)?;
    server.write_all(head)?;
    server.write_all(body)?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer)?;
    Ok(answer)
}
