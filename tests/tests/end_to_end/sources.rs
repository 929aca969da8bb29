//! Sources that others write to or lie on the disk: real input, through both programs, to a look-up.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use edgetrail_tests::deployment::Deployment;
use edgetrail_tests::port::free_port;
use edgetrail_tests::process::{Process, succeed};
use edgetrail_tests::{skip, wait};
use serde_json::{Value, json};

use crate::receivers::wait_for;

/// A CA in a folder, and whom it knows.
struct Authority {
    dir: PathBuf,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Authority {
    fn new(dir: &Path) -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
        std::fs::write(dir.join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Self { dir: dir.to_owned(), issuer: rcgen::Issuer::new(params, key) }
    }

    fn ca(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// The files of a certificate and its key.
    fn issue(&self, name: &str) -> (PathBuf, PathBuf) {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let (certificate, private) = (self.dir.join(format!("{name}.pem")), self.dir.join(format!("{name}.key")));
        std::fs::write(&certificate, params.signed_by(&key, &self.issuer).unwrap().pem()).unwrap();
        std::fs::write(&private, key.serialize_pem()).unwrap();
        (certificate, private)
    }
}

/// `openssl s_client` with a message on its input; whether it was content.
fn openssl(port: u16, ca: &Path, own: Option<&(PathBuf, PathBuf)>, message: &str) -> bool {
    let mut client = Command::new("openssl");
    client.args(["s_client", "-quiet", "-no_ign_eof", "-verify_return_error", "-servername", "localhost", "-connect"]);
    client.arg(format!("127.0.0.1:{port}")).arg("-CAfile").arg(ca);
    if let Some((certificate, key)) = own {
        client.arg("-cert").arg(certificate).arg("-key").arg(key);
    }
    let mut running =
        client.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("openssl can be run");
    let sent = running.stdin.take().unwrap().write_all(message.as_bytes()).is_ok();
    sent && running.wait().unwrap().success()
}

/// The message; rsyslog keeps the space behind a tag as its first byte.
fn said(record: &Value) -> &str {
    record["requestParameters"]["message"].as_str().unwrap_or_default().trim_start()
}

#[test]
fn syslog_of_real_senders_over_every_door_is_looked_up_and_tls_names_them() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path());
    let (certificate, key) = authority.issue("logs");
    let (udp, tcp, tls) = (free_port(), free_port(), free_port());
    let unix = dir.path().join("in.sock");
    let deployment = Deployment::with_settings(&format!(
        "[sources.syslog]\nudp = [\"127.0.0.1:{udp}\"]\ntcp = [\"127.0.0.1:{tcp}\"]\ntls = [\"127.0.0.1:{tls}\"]\nunix_datagram = [\"{}\"]\n\
         certificate = \"{}\"\nkey = \"{}\"\nclient_ca = \"{}\"\n",
        unix.display(),
        certificate.display(),
        key.display(),
        authority.ca().display()
    ));
    wait::until("the TLS door", Duration::from_secs(30), || std::net::TcpStream::connect(("127.0.0.1", tls)).ok());
    let log = |arguments: &[&str], message: &str| {
        succeed(Command::new("logger").args(["-p", "auth.info", "-t", "shop"]).args(arguments).arg(message));
    };
    log(&["--udp", "--server", "127.0.0.1", "--port", &udp.to_string()], "over UDP");
    log(&["--tcp", "--octet-count", "--server", "127.0.0.1", "--port", &tcp.to_string()], "over TCP");
    log(&["-u", unix.to_str().unwrap()], "over a socket");
    // What another host's sshd says is a login there.
    let sshd = format!(
        "<38>{} db-7 sshd[7]: Accepted publickey for alice from 192.0.2.7 port 51234 ssh2: ED25519 SHA256:abc\n",
        jiff::Zoned::now().strftime("%b %e %H:%M:%S")
    );
    std::net::TcpStream::connect(("127.0.0.1", tcp)).unwrap().write_all(sshd.as_bytes()).unwrap();
    let client = authority.issue("web-1");
    // With TLS 1.3 a client may be gone before it learns that it was refused: what counts is that nothing of it comes.
    let _refused = openssl(tls, &authority.ca(), None, "<38>1 - web shop - - - nobody's\n");
    assert!(openssl(tls, &authority.ca(), Some(&client), "<38>1 - web shop - - - over TLS\n"));
    let mut expected = vec!["over UDP", "over TCP", "over a socket", "over TLS"];
    // rsyslog with its own TLS, as a host would forward all it hears.
    let mut forwarder = None;
    if !skip::by_name("EDGETRAIL_SKIP_CLIENTS", "rsyslog does not send over TLS") {
        forwarder = Some(forward(dir.path(), &authority, tls));
        log(&["-u", dir.path().join("rsyslog.sock").to_str().unwrap()], "over rsyslog");
        expected.push("over rsyslog");
    }
    let records = wait_for(&deployment, "LogMessage", expected.len());
    let mut told: Vec<&str> = records.iter().map(said).collect();
    told.sort_unstable();
    expected.sort_unstable();
    assert_eq!(told, expected, "{records:#?}");
    for record in &records {
        let named = match said(record) {
            "over TLS" => json!("CN=web-1"),
            "over rsyslog" => json!("CN=forwarder"),
            _ => Value::Null,
        };
        let mark = &record["additionalEventData"]["edgetrail"];
        assert_eq!(mark["caller"]["certificate"]["subject"], named, "{record:#}");
        assert_eq!((&record["eventSource"], &mark["source"]), (&json!("shop.syslog"), &json!("syslog")));
    }
    let logins = wait_for(&deployment, "Login", 1);
    assert_eq!((&logins[0]["userIdentity"]["userName"], &logins[0]["sourceIPAddress"]), (&json!("alice"), &json!("192.0.2.7")));
    drop(forwarder);
}

/// rsyslog, which forwards what comes to a socket of its own.
fn forward(dir: &Path, authority: &Authority, port: u16) -> Process {
    let (certificate, key) = authority.issue("forwarder");
    let (config, socket) = (dir.join("rsyslog.conf"), dir.join("rsyslog.sock"));
    let ca = authority.ca();
    let [dir, ca, certificate, key] = [dir, &ca, &certificate, &key].map(Path::display);
    let text = format!(
        "global(workDirectory=\"{dir}\" DefaultNetstreamDriverCAFile=\"{ca}\" DefaultNetstreamDriverCertFile=\"{certificate}\" DefaultNetstreamDriverKeyFile=\"{key}\")\n\
         module(load=\"imuxsock\" SysSock.Use=\"off\")\n\
         input(type=\"imuxsock\" Socket=\"{}\")\n\
         action(type=\"omfwd\" target=\"127.0.0.1\" port=\"{port}\" protocol=\"tcp\" TCP_Framing=\"octet-counted\" template=\"RSYSLOG_SyslogProtocol23Format\" \
         StreamDriver=\"gtls\" StreamDriverMode=\"1\" StreamDriverAuthMode=\"x509/name\" StreamDriverPermittedPeers=\"localhost\")\n",
        socket.display()
    );
    std::fs::write(&config, text).unwrap();
    let mut command = Command::new("rsyslogd");
    command.arg("-n").arg("-f").arg(&config).arg("-i").arg(config.with_extension("pid"));
    let process = Process::start("rsyslog", &mut command, &config.with_extension("log"));
    wait::until("rsyslog's socket", Duration::from_secs(30), || {
        UnixStream::connect(&socket).ok().map(drop).or_else(|| socket.exists().then_some(()))
    });
    process
}

/// An entry of Vault's audit devices; look-ups go back 90 days.
fn vault_entry(kind: &str, id: &str, path: &str) -> String {
    let mut entry = json!({"time": jiff::Timestamp::now().to_string(), "type": kind,
        "auth": {"accessor": "hmac-sha256:a", "display_name": "ldap-alice", "policies": ["default"], "entity_id": "e-1", "token_type": "service"},
        "request": {"id": id, "operation": "update", "path": path, "mount_type": "system", "remote_address": "192.0.2.7"}});
    if kind == "response" {
        entry["response"] = json!({});
    }
    entry.to_string() + "\n"
}

#[test]
fn vault_s_file_and_socket_devices_are_looked_up_a_record_for_each_pair() {
    let dir = tempfile::tempdir().unwrap();
    let (file, socket) = (dir.path().join("audit.log"), dir.path().join("vault.sock"));
    let deployment = Deployment::with_settings(&format!(
        "[sources.vault]\nunix = \"{}\"\n[[sources.file]]\npaths = [\"{}\"]\nmapping = \"vault\"\nstart = \"beginning\"\n",
        socket.display(),
        file.display()
    ));
    let pair = |id: &str, policy: &str| {
        let path = format!("sys/policies/acl/{policy}");
        vault_entry("request", id, &path) + &vault_entry("response", id, &path)
    };
    let mut device = wait::until("Vault's socket", Duration::from_secs(30), || UnixStream::connect(&socket).ok());
    device.write_all(pair("r-1", "by-socket").as_bytes()).unwrap();
    // Rotated between the entries of a pair.
    let entries = pair("r-2", "by-file");
    let (request, response) = entries.split_once('\n').unwrap();
    std::fs::write(&file, format!("{request}\n")).unwrap();
    std::fs::rename(&file, dir.path().join("audit.log.1")).unwrap();
    std::fs::write(&file, response).unwrap();
    let records = wait_for(&deployment, "WritePolicy", 2);
    assert_eq!(records.len(), 2, "{records:#?}");
    for (policy, source) in [("by-socket", "vault"), ("by-file", "file")] {
        let record = records.iter().find(|record| record["requestParameters"].to_string().contains(policy)).unwrap();
        assert_eq!(record["userIdentity"]["userName"], "ldap-alice", "{record:#}");
        assert_eq!((&record["eventSource"], &record["sourceIPAddress"]), (&json!("vault.hashicorp"), &json!("192.0.2.7")));
        assert_eq!(record["additionalEventData"]["edgetrail"]["source"], source);
    }
}

/// A stand-in for Docker's daemon, for none runs where these tests do: it answers as its API does, and tells of one
/// container that is started.
struct DaemonStandIn {
    over: Arc<AtomicBool>,
    serving: Option<std::thread::JoinHandle<()>>,
}

impl DaemonStandIn {
    fn listen(socket: &Path) -> Self {
        let listener = UnixListener::bind(socket).unwrap();
        listener.set_nonblocking(true).unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&over);
        let serving = std::thread::spawn(move || {
            let mut streams = Vec::new();
            while !stop.load(Ordering::SeqCst) {
                match listener.accept() {
                    Ok((stream, _)) => streams.extend(Self::answer(stream)),
                    Err(_) => std::thread::park_timeout(Duration::from_millis(10)),
                }
            }
        });
        Self { over, serving: Some(serving) }
    }

    /// Gives the stream back where it is to stay open: more events might come.
    fn answer(mut stream: UnixStream) -> Option<UnixStream> {
        stream.set_nonblocking(false).ok()?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).ok()?;
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).ok()?;
        if !head.contains("/events?") {
            let body = if head.contains("/containers/c0ffee/json") {
                json!({"Config": {"Cmd": ["nginx"], "Env": ["DB_PASSWORD=x"]}, "HostConfig": {"Privileged": true, "Binds": ["/:/host"]}, "Mounts": []})
            } else {
                json!([])
            };
            let body = body.to_string();
            write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len()).ok()?;
            return None;
        }
        write!(stream, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").ok()?;
        if head.contains("until=") {
            write!(stream, "0\r\n\r\n").ok()?;
            return None;
        }
        let now = jiff::Timestamp::now();
        let event = json!({"Type": "container", "Action": "start", "Actor": {"ID": "c0ffee", "Attributes": {"image": "nginx:1", "name": "web"}},
            "scope": "local", "time": now.as_second(), "timeNano": u64::try_from(now.as_nanosecond()).ok()?})
        .to_string();
        write!(stream, "{:x}\r\n{event}\n\r\n", event.len() + 1).ok()?;
        Some(stream)
    }
}

impl Drop for DaemonStandIn {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        drop(self.serving.take().map(std::thread::JoinHandle::join));
    }
}

#[test]
fn a_container_that_docker_starts_is_looked_up_with_what_it_may_do() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("docker.sock");
    let _daemon = DaemonStandIn::listen(&socket);
    let deployment = Deployment::with_settings(&format!("[sources.docker]\nsockets = [\"{}\"]\n", socket.display()));
    let records = wait_for(&deployment, "StartContainer", 1);
    assert_eq!(records.len(), 1, "{records:#?}");
    let record = &records[0];
    assert_eq!(record["eventSource"], "dockerd.docker", "{record:#}");
    assert!(record.to_string().contains("c0ffee") && record.to_string().contains("nginx:1"), "{record:#}");
    assert!(record["requestParameters"].to_string().contains("privileged"), "{record:#}");
    assert!(!record.to_string().contains("DB_PASSWORD=x"), "{record:#}");
}

#[test]
fn the_files_of_a_cloudtrail_directory_are_looked_up_under_their_own_ids() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("AWSLogs/111122223333/CloudTrail/dc-local-1/2026/01/01");
    std::fs::create_dir_all(&folder).unwrap();
    let deployment = Deployment::with_settings(&format!("[[sources.cloudtrail]]\ndirectory = \"{}\"\n", dir.path().display()));
    let record = |id: &str, name: &str| {
        json!({"eventVersion": "1.11", "userIdentity": {"type": "IAMUser", "principalId": "AIDAEXAMPLE", "arn": "arn:aws:iam::111122223333:user/carol",
            "accountId": "111122223333", "userName": "carol"},
            "eventTime": jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(), "eventSource": "s3.amazonaws.com", "eventName": name,
            "awsRegion": "dc-local-1", "sourceIPAddress": "192.0.2.7", "userAgent": "aws-cli/2", "requestParameters": {"bucketName": "b"},
            "responseElements": null, "requestID": "R", "eventID": id, "readOnly": false, "eventType": "AwsApiCall", "managementEvent": true,
            "recipientAccountId": "111122223333", "eventCategory": "Management"})
    };
    let ids = ["6a1b2c3d-0000-4000-8000-000000000001", "6a1b2c3d-0000-4000-8000-000000000002"];
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(json!({"Records": [record(ids[0], "DeleteBucket")]}).to_string().as_bytes()).unwrap();
    // As a copy under way leaves it for a moment.
    let packed = packed.finish().unwrap();
    std::fs::write(folder.join("a.json.gz"), &packed[..packed.len() / 2]).unwrap();
    std::fs::write(folder.join("b.json"), json!({"Records": [record(ids[1], "CreateBucket")]}).to_string()).unwrap();
    assert_eq!(wait_for(&deployment, "CreateBucket", 1)[0]["eventID"], ids[1]);
    std::fs::write(folder.join("a.json.gz"), &packed).unwrap();
    let records = wait_for(&deployment, "DeleteBucket", 1);
    assert_eq!(
        (records.len(), &records[0]["eventID"], &records[0]["userIdentity"]["userName"]),
        (1, &json!(ids[0]), &json!("carol"))
    );
}
