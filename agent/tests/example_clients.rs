//! The example clients against an agent that answers as told: an event that was not kept is no success.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;

/// Answers one request with this body.
fn answer(stream: UnixStream, body: &str) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().map_err(std::io::Error::other)?;
        }
        if line.trim().is_empty() {
            break;
        }
    }
    reader.read_exact(&mut vec![0; length])?;
    let reply = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    reader.get_mut().write_all(reply.as_bytes())
}

#[test]
fn a_client_fails_where_its_event_was_not_kept_and_names_it_where_it_was() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/clients");
    let kept = r#"{"eventIDs":["0190b2a4-0000-7000-8000-000000000001"]}"#;
    for (program, arguments, file) in [
        ("sh", &[][..], "post_event.sh"),
        ("python3", &[], "post_event.py"),
        ("node", &[], "post_event.mjs"),
        ("go", &["run"], "post_event.go"),
    ] {
        if Command::new(program).arg("version").output().is_err() {
            eprintln!("SKIPPED: {file}, for there is no {program} here");
            continue;
        }
        for (body, is_kept) in [(kept, true), (r#"{"eventIDs":[null]}"#, false)] {
            let directory = tempfile::tempdir().unwrap();
            let socket = directory.path().join("api.sock");
            let listener = UnixListener::bind(&socket).unwrap();
            let output = std::thread::scope(|scope| {
                let answering = scope.spawn(|| answer(listener.accept().unwrap().0, body));
                let mut client = Command::new(program);
                client.args(arguments).arg(examples.join(file)).arg("id-1").env("EDGETRAIL_SOCKET", &socket);
                let output = client.output().unwrap();
                // A client that never called is not waited for.
                drop(UnixStream::connect(&socket));
                answering.join().unwrap().unwrap();
                output
            });
            let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            assert_eq!(output.status.success(), is_kept, "{file}: {out} {error}");
            assert_eq!(out.contains("0190b2a4"), is_kept, "{file}: {out}");
            assert!(is_kept || error.contains("not kept"), "{file}: {error}");
        }
    }
}
