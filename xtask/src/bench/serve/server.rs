//! A server under measure, and a small client of it.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::bench::processes;

/// A server that says nothing for so long hangs.
const PATIENCE: Duration = Duration::from_secs(60);
/// So often it is asked whether it is ready, each time after [`PAUSE`].
const TRIES: u32 = 600;
const PAUSE: Duration = Duration::from_millis(50);

/// A server that runs; it is killed when this is dropped.
pub struct Server {
    child: Child,
    address: SocketAddr,
    token: String,
}

impl Server {
    /// Starts `mendb`, which is told all but what it does, as a server whose admin has this token.
    ///
    /// # Errors
    /// It cannot be started, or is not ready in half a minute.
    pub fn start(command: &mut Command, token: &str) -> Result<Self, String> {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
        let address = free.map_err(|error| format!("there is no free port: {error}"))?;
        let child = command
            .args(["serve", "--listen", &address.to_string()])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("cannot start mendb serve: {error}"))?;
        let server = Self {
            child,
            address,
            token: token.to_owned(),
        };
        for _ in 0..TRIES {
            if server
                .connect()
                .is_ok_and(|mut stream| healthy(&mut stream))
            {
                return Ok(server);
            }
            pause(PAUSE);
        }
        Err(format!("mendb serve is not ready at {address}"))
    }

    /// A connection to it.
    ///
    /// # Errors
    /// It takes none.
    pub fn connect(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    }

    /// The head of a request of its admin.
    pub fn head(&self, method: &str, path: &str, fields: &str) -> String {
        format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n{fields}\r\n",
            self.address, self.token
        )
    }

    /// Asks for something and waits for the answer, which is JSON.
    ///
    /// # Errors
    /// It does not answer, or says that it was not done.
    pub fn ask(&self, method: &str, path: &str, body: &str) -> Result<Value, String> {
        let fields = format!(
            "Connection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n",
            body.len()
        );
        let asked = || {
            let mut stream = self.connect()?;
            stream.write_all((self.head(method, path, &fields) + body).as_bytes())?;
            let mut stream = BufReader::new(stream);
            let mut status = String::new();
            stream.read_line(&mut status)?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            io::Result::Ok((status, answer))
        };
        let (status, answer) = asked().map_err(|error| format!("{method} {path}: {error}"))?;
        // Of an answer in chunks, what is JSON stands between their sizes.
        let json = answer
            .find('{')
            .zip(answer.rfind('}'))
            .and_then(|(from, to)| answer.get(from..=to));
        match json.map(serde_json::from_str) {
            Some(Ok(value)) if status.contains(" 200 ") || status.contains(" 202 ") => Ok(value),
            _ => Err(format!("{method} {path}: {status}{answer}")),
        }
    }

    /// Has a command of it begin an operation; the operation's id.
    ///
    /// # Errors
    /// None begins.
    pub fn begin(&self, method: &str, path: &str, body: &str) -> Result<String, String> {
        let begun = self.ask(method, path, body)?;
        let id = begun["operation_id"].as_str();
        id.map(str::to_owned)
            .ok_or_else(|| format!("{method} {path} has begun nothing: {begun}"))
    }

    /// Waits until an operation is done.
    ///
    /// # Errors
    /// It is not done in the end.
    pub fn done(&self, operation: &str) -> Result<(), String> {
        let path = format!("/v1/operations/{operation}/end");
        self.ask("GET", &path, "").map(|_| ())
    }

    /// The processor time that it has used since it was started.
    pub fn processor_time(&self) -> Duration {
        processes::processor_time_of(self.child.id())
    }

    /// The most memory that it had at a time, in bytes.
    pub fn peak_bytes(&self) -> u64 {
        processes::peak_bytes(self.child.id())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether the server at the other end of a connection says that it lives; the connection stays.
pub fn healthy(stream: &mut TcpStream) -> bool {
    let Ok(address) = stream.peer_addr() else {
        return false;
    };
    let request = format!("GET /health/live HTTP/1.1\r\nHost: {address}\r\n\r\n");
    if stream.write_all(request.as_bytes()).is_err() {
        return false;
    }
    // The answer is short, and may come in two pieces: its head says how long its body is.
    let mut read = Vec::new();
    let mut buffer = [0; 2048];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return false,
            Ok(bytes) => read.extend_from_slice(&buffer[..bytes]),
        }
        if let Some(whole) = is_whole(&read) {
            return whole;
        }
    }
}

/// Whether an answer says that all is well; `None` while more of it has to come.
fn is_whole(read: &[u8]) -> Option<bool> {
    let text = std::str::from_utf8(read).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let is_length = name.eq_ignore_ascii_case("content-length");
        is_length.then(|| value.trim().parse::<usize>().ok())?
    });
    (body.len() >= length?).then(|| head.starts_with("HTTP/1.1 200 "))
}

/// Waits for a moment.
#[expect(
    clippy::disallowed_methods,
    reason = "a server takes a moment to be ready, and says so only when it is asked"
)]
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_comes_in_pieces_is_read_to_its_end() {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        assert_eq!(is_whole(&answer[..20]), None);
        assert_eq!(is_whole(&answer[..answer.len() - 1]), None);
        assert_eq!(is_whole(answer), Some(true));
        let other = b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(is_whole(other), Some(false));
    }
}
