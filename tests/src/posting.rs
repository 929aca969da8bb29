//! A caller of the agent's socket: plain HTTP/1.1 over a Unix socket, as any program would.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// One kept-alive connection.
#[derive(Debug)]
pub struct Caller {
    stream: BufReader<UnixStream>,
}

#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    /// Seconds, where the answer says when to come back.
    pub retry_after_s: Option<u64>,
    pub body: String,
}

impl Caller {
    pub fn connect(socket: &Path) -> std::io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// POSTs a body to /v1/events and reads the whole answer.
    pub fn post(&mut self, body: &[u8]) -> std::io::Result<Answer> {
        let head = format!(
            "POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        self.exchange(&[head.as_bytes(), body].concat())
    }

    /// Sends these bytes, whatever they are, and reads the whole answer.
    pub fn exchange(&mut self, request: &[u8]) -> std::io::Result<Answer> {
        // Who refuses a request does not read it to its end.
        let sent = self.stream.get_mut().write_all(request);
        self.read_answer().or_else(|error| sent.and(Err(error)))
    }

    /// The same, and nothing follows.
    pub fn exchange_last(&mut self, request: &[u8]) -> std::io::Result<Answer> {
        let stream = self.stream.get_mut();
        stream.write_all(request)?;
        stream.shutdown(std::net::Shutdown::Write)?;
        self.read_answer()
    }

    fn read_answer(&mut self) -> std::io::Result<Answer> {
        let cut = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let status = line.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(cut)?;
        let mut length = 0u64;
        let mut retry_after_s = None;
        loop {
            let mut header = String::new();
            if self.stream.read_line(&mut header)? == 0 {
                return Err(cut());
            }
            if header == "\r\n" {
                break;
            }
            let header = header.to_ascii_lowercase();
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse().map_err(|_| cut())?;
            }
            if let Some(value) = header.strip_prefix("retry-after:") {
                retry_after_s = Some(value.trim().parse().map_err(|_| cut())?);
            }
        }
        let mut body = String::new();
        (&mut self.stream).take(length.min(ANSWER_BYTES_MAX)).read_to_string(&mut body)?;
        Ok(Answer { status, retry_after_s, body })
    }
}

/// Posts one event on a connection of its own; panics unless it is answered 200.
pub fn post_one(socket: &Path, event: &serde_json::Value) -> Answer {
    let mut caller = Caller::connect(socket).unwrap_or_else(|error| panic!("{} does not answer: {error}", socket.display()));
    let answer = caller.post(event.to_string().as_bytes()).expect("the agent answers");
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer
}
