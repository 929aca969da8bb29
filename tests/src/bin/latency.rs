//! What a proxy adds to a request: the same keep-alive requests, one by one, straight to a service and through the proxy.
//!
//! Usage: latency SERVICE PROXY REQUESTS BODY. Is the service itself, on SERVICE; asks in rounds, straight and through in
//! turn, so that whatever else the machine does falls on both. Prints one line of JSON, times in microseconds.
#![forbid(unsafe_code)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::Context as _;

/// Requests of one round, before the other way has its turn.
const ROUND: usize = 200;

/// Requests before those that count: connections, caches and the allocator are warm then.
const WARM: usize = 1000;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [service, proxy, requests, body] = arguments.as_slice() else {
        anyhow::bail!("usage: latency SERVICE PROXY REQUESTS BODY");
    };
    let (requests, body): (usize, usize) = (requests.parse()?, body.parse()?);
    let listener = TcpListener::bind(service).context("the service can't listen")?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || serve(stream));
        }
    });
    let request = request(body);
    let (mut straight, mut through) = (connect(service)?, connect(proxy)?);
    for stream in [&mut straight, &mut through] {
        for _ in 0..WARM {
            ask(stream, &request)?;
        }
    }
    let (mut direct, mut proxied) = (Vec::new(), Vec::new());
    while direct.len() < requests {
        for (stream, times) in [(&mut straight, &mut direct), (&mut through, &mut proxied)] {
            for _ in 0..ROUND {
                let began = Instant::now();
                ask(stream, &request)?;
                times.push(began.elapsed());
            }
        }
    }
    let (direct, proxied) = (shares(direct), shares(proxied));
    let line = serde_json::json!({
        "requests": requests, "body": body, "direct": {"p50": direct.0, "p99": direct.1}, "proxy": {"p50": proxied.0, "p99": proxied.1},
        "added": {"p50": proxied.0 - direct.0, "p99": proxied.1 - direct.1},
    });
    println!("{line}");
    Ok(())
}

/// With a body of so many bytes, a GET where there is none.
fn request(body: usize) -> Vec<u8> {
    let common = "Host: orders.example\r\nUser-Agent: bench/1\r\nX-Request-Id: 5f0c\r\nAccept: application/json\r\n";
    if body == 0 {
        return format!("GET /v1/orders/4711?expand=items HTTP/1.1\r\n{common}\r\n").into_bytes();
    }
    let text = format!("{{\"item\":\"{}\"}}", "x".repeat(body.saturating_sub(11)));
    let head = format!("Content-Type: application/json\r\nContent-Length: {}\r\n", text.len());
    format!("POST /v1/orders HTTP/1.1\r\n{common}{head}\r\n{text}").into_bytes()
}

fn connect(address: &str) -> anyhow::Result<BufReader<TcpStream>> {
    let stream = TcpStream::connect(address).with_context(|| format!("nobody listens on {address}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    Ok(BufReader::new(stream))
}

fn ask(stream: &mut BufReader<TcpStream>, request: &[u8]) -> anyhow::Result<()> {
    stream.get_mut().write_all(request)?;
    let head = message(stream)?.context("the connection ended")?;
    anyhow::ensure!(head.contains(" 200 "), "answered {head}");
    Ok(())
}

/// A message's first line, its body read and thrown away; `None` at the end.
fn message(stream: &mut BufReader<TcpStream>) -> std::io::Result<Option<String>> {
    let (mut first, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        if line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("content-length")) {
            length = value.trim().parse().map_err(|_| std::io::Error::other(format!("{name} is no number")))?;
        }
        if first.is_empty() {
            first = line;
        }
    }
    std::io::copy(&mut stream.take(length), &mut std::io::sink())?;
    Ok(Some(first))
}

/// Answers each request at once.
fn serve(stream: TcpStream) {
    let answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 39\r\n\r\n{\"id\":4711,\"status\":\"shipped\",\"n\":123}\n";
    let mut stream = BufReader::new(stream);
    let is_ready = stream.get_ref().set_nodelay(true).is_ok();
    while is_ready && matches!(message(&mut stream), Ok(Some(_))) {
        if stream.get_mut().write_all(answer).is_err() {
            return;
        }
    }
}

/// The median and the 99th of a hundred, microseconds.
fn shares(mut times: Vec<Duration>) -> (f64, f64) {
    times.sort_unstable();
    let at = |hundredths: usize| times.get(times.len() * hundredths / 100).copied().unwrap_or_default().as_secs_f64() * 1e6;
    let rounded = |micros: f64| (micros * 10.0).round() / 10.0;
    (rounded(at(50)), rounded(at(99)))
}
