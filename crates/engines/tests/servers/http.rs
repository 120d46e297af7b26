//! As much of HTTP/1.1 as a query needs: one request a connection, answers with a length, in chunks
//! or until the end.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::TcpStream;

/// A query, or one with data.
pub struct Request<'a> {
    pub port: u16,
    pub user: (&'a str, &'a str),
    /// The query, if the body is data.
    pub query: Option<&'a str>,
    pub body: &'a [u8],
}

pub struct Reply {
    pub status: u16,
    head: String,
    pub body: Vec<u8>,
}

impl Request<'_> {
    pub fn send(&self) -> io::Result<Reply> {
        // An error in the middle of a result has a status only if the server waits for its end.
        let mut path = String::from("/?wait_end_of_query=1");
        if let Some(query) = self.query {
            path.push_str("&query=");
            percent_encode(query, &mut path);
        }
        let (user, password) = self.user;
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        write!(
            stream,
            "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\
             X-ClickHouse-User: {user}\r\nX-ClickHouse-Key: {password}\r\n\
             Content-Length: {}\r\n\r\n",
            self.body.len()
        )?;
        stream.write_all(self.body)?;
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            // A server that answers without having read the body resets the connection behind its answer,
            // which is whole, as is looked at below.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset && !answer.is_empty() => {}
            read => drop(read?),
        }
        let (head, body) = split(&answer)?;
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        let length = header(&head, "content-length").and_then(|length| length.parse().ok());
        let body = if header(&head, "transfer-encoding").is_some() {
            joined(body)?
        } else if length.is_some_and(|length: usize| length != body.len()) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        } else {
            body.to_vec()
        };
        Ok(Reply {
            status: status.ok_or(io::ErrorKind::InvalidData)?,
            head,
            body,
        })
    }
}

impl Reply {
    /// A header, by its name in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }
}

fn split(answer: &[u8]) -> io::Result<(String, &[u8])> {
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    Ok((head, &answer[end + 4..]))
}

fn header<'a>(head: &'a str, wanted: &str) -> Option<&'a str> {
    head.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case(wanted))
        .map(|(_, value)| value.trim())
}

/// The content of chunks. Without the last, empty one it is an error: the server ended before.
fn joined(mut chunks: &[u8]) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    loop {
        let end = chunks.windows(2).position(|bytes| bytes == b"\r\n");
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        let size = String::from_utf8_lossy(&chunks[..end]);
        let size = usize::from_str_radix(size.trim(), 16).map_err(io::Error::other)?;
        if size == 0 {
            return Ok(content);
        }
        let chunk = chunks.get(end + 2..end + 2 + size);
        content.extend_from_slice(chunk.ok_or(io::ErrorKind::UnexpectedEof)?);
        chunks = chunks.get(end + 4 + size..).unwrap_or_default();
    }
}

fn percent_encode(text: &str, encoded: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("a String takes everything");
        }
    }
}
