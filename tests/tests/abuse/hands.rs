//! 14: hands on a running agent, by root and by others, and whoever calls the API with a key of its own.
//!
//! That root deletes the kernel's audit rules under a capturing agent is a kernel test.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::{Duration, Instant};

use edgetrail_link::tls;
use edgetrail_proto::limits::{HEARTBEAT_INTERVAL, SILENCE_MAX};
use edgetrail_tests::deployment::Deployment;
use edgetrail_tests::posting::post_one;
use edgetrail_tests::process::{succeed, text, workspace};
use edgetrail_tests::{delivered, skip, wait};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::abused::{Abused, is_soaking};
use crate::host::Host;

const NOBODY: &str = "65534";

/// Look-ups at once: twice what the API takes of one address, and more.
const LOOK_UPS: usize = 1000;

fn delivered_one(deployment: &Deployment, name: &str) -> Value {
    wait::until(name, Duration::from_secs(60), || {
        let records = delivered::records(&deployment.trail());
        records.into_iter().map(|(_, record)| record).find(|record| record["eventName"] == name)
    })
}

/// As a user that is nobody, with no group and no capability.
fn as_nobody(words: &[&str]) -> Output {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", "--bounding-set=-all", "--inh-caps=-all"]).args(words);
    command.output().expect("setpriv can be run")
}

/// The silence is seen while it lasts, by the collector; afterwards too, by the auditor: that takes longer than a
/// heartbeat, and is waited for where `EDGETRAIL_SOAK` is given.
#[test]
fn t14_an_agent_that_is_held_still_is_missed_and_goes_on() {
    let mut deployment = Deployment::with_one_agent();
    post_one(deployment.socket(), &json!({ "eventSource": "tests.example", "eventName": "BeforeStop" }));
    delivered_one(&deployment, "BeforeStop");
    let process = rustix::process::Pid::from_raw(i32::try_from(deployment.agent_id(0)).unwrap()).unwrap();
    rustix::process::kill_process(process, Signal::STOP).unwrap();
    let stopped = Instant::now();
    wait::until("its silence to be noticed", SILENCE_MAX + Duration::from_secs(10), || {
        deployment.collector_printed().contains("agent detached").then_some(())
    });
    eprintln!("noticed after {:?}", stopped.elapsed());
    if is_soaking() {
        let longer = HEARTBEAT_INTERVAL + SILENCE_MAX + Duration::from_secs(5);
        wait::until("a heartbeat's time", longer * 2, || (stopped.elapsed() > longer).then_some(()));
    }
    rustix::process::kill_process(process, Signal::CONT).unwrap();
    post_one(deployment.socket(), &json!({ "eventSource": "tests.example", "eventName": "AfterStop" }));
    delivered_one(&deployment, "AfterStop");
    deployment.wait_until_all_digested();
    deployment.stop_agents_and_logging();
    let output = deployment.verify(&["-o", "json"]);
    let said: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output)));
    assert_eq!(said["integrity"], true, "{said:#}");
    let silent = said["report"]["findings"].as_array().unwrap().iter().any(|finding| finding["check"] == "stream-silent");
    assert_eq!(silent, is_soaking(), "{said:#}");
}

/// The socket's mode says who may; who may is recorded as who it is, whatever it claims to be.
#[test]
fn t14_another_user_is_refused_at_the_socket_or_recorded_as_itself() {
    if skip::unless_root("EDGETRAIL_SKIP_USERS", "another user at the agent's socket") {
        return;
    }
    let deployment = Deployment::with_settings("[sources.api]\nmode = \"0666\"\n");
    let closed = Host::join(&deployment, deployment.ingest_port());
    // The directories are this test's own: what is tried is the socket.
    for directory in [deployment.dir(), closed.directory.path()] {
        std::fs::set_permissions(directory, PermissionsExt::from_mode(0o755)).unwrap();
    }
    let post = |socket: &std::path::Path, name: &str| {
        let event = json!({ "eventSource": "tests.example", "eventName": name, "userIdentity": { "type": "Root" } }).to_string();
        let socket = socket.display().to_string();
        let url = "http://localhost/v1/events";
        as_nobody(&["curl", "-sS", "-f", "--unix-socket", &socket, "-H", "content-type: application/json", "-d", &event, url])
    };
    let refused = post(&closed.socket(), "FromNobodyRefused");
    assert!(!refused.status.success(), "{}", text(&refused));
    let taken = post(deployment.socket(), "FromNobody");
    assert!(taken.status.success(), "{}", text(&taken));
    let record = delivered_one(&deployment, "FromNobody");
    let identity = &record["userIdentity"];
    assert_ne!(identity["type"], "Root", "{record:#}");
    assert!(identity["principalId"].as_str().is_some_and(|id| id.split(':').next() == Some(NOBODY)), "{record:#}");
    assert_eq!(record["additionalEventData"]["edgetrail"]["claimedUserIdentity"]["type"], "Root", "{record:#}");
    let records = delivered::records(&deployment.trail());
    assert!(records.iter().all(|(_, record)| record["eventName"] != "FromNobodyRefused"));
}

/// PTRACE_ATTACH, and the memory through /proc.
const TRACE: &str = "
import ctypes, sys
pid = int(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
if libc.ptrace(16, pid, 0, 0) == 0: sys.exit('attached')
if ctypes.get_errno() != 1: sys.exit(f'errno {ctypes.get_errno()}')
try:
    open(f'/proc/{pid}/mem', 'rb')
    sys.exit('its memory is open')
except PermissionError:
    print('refused')
";

#[test]
fn t14_another_user_can_not_trace_the_agent() {
    if skip::unless_root("EDGETRAIL_SKIP_USERS", "another user that traces the agent") {
        return;
    }
    let deployment = Deployment::with_one_agent();
    let traced = as_nobody(&["/usr/bin/python3", "-c", TRACE, &deployment.agent_id(0).to_string()]);
    assert!(traced.status.success() && text(&traced).contains("refused"), "{}", text(&traced));
    post_one(deployment.socket(), &json!({ "eventSource": "tests.example", "eventName": "Untraced" }));
    delivered_one(&deployment, "Untraced");
}

/// A key calls in its own account: what others have is not there.
#[test]
fn t14_a_key_of_another_account_finds_nothing_of_this_one() {
    let deployment = Deployment::with_one_agent();
    post_one(deployment.socket(), &json!({ "eventSource": "tests.example", "eventName": "OfThisAccount" }));
    let looked_up = |client: &edgetrail_tests::aws::Client| {
        let attribute = "AttributeKey=EventName,AttributeValue=OfThisAccount";
        client.json(&["cloudtrail", "lookup-events", "--lookup-attributes", attribute])["Events"].as_array().unwrap().len()
    };
    let own = deployment.aws();
    wait::until("the event in the history", Duration::from_secs(30), || (looked_up(&own) == 1).then_some(()));
    let made = succeed(deployment.collector_command().args([
        "access-key",
        "create",
        "--name",
        "other",
        "--account",
        "999999999999",
        "-o",
        "json",
    ]));
    let key: Value = serde_json::from_slice(&made.stdout).unwrap();
    let mut other = deployment.aws();
    other.access_key = key["access_key_id"].as_str().unwrap().to_owned();
    other.secret = key["secret_access_key"].as_str().unwrap().to_owned();
    assert_eq!(looked_up(&other), 0, "another account's events are found");
    let all = other.json(&["cloudtrail", "lookup-events"])["Events"].as_array().unwrap().clone();
    assert!(all.iter().all(|event| !event.to_string().contains(deployment.account())), "{all:#?}");
    let arn = format!("arn:aws:cloudtrail:dc-local-1:{}:trail/default", deployment.account());
    for call in [&["get-trail-status", "--name", &arn][..], &["stop-logging", "--name", &arn], &["delete-trail", "--name", &arn]]
    {
        let output = other.run(&[&["cloudtrail"], call].concat());
        assert!(!output.status.success(), "{call:?}: {}", text(&output));
    }
    let status = own.json(&["cloudtrail", "get-trail-status", "--name", &arn]);
    assert_eq!(status["IsLogging"], true, "{status:#}");
}

/// Each is signed, and asks for all there is. Beyond what one address may, connections are closed; nothing else happens.
#[test]
fn t14_a_thousand_signed_look_ups_at_once_move_nobody() {
    let abused = Abused::start();
    let deployment = &abused.deployment;
    let client = deployment.aws();
    let port = deployment.api_port().to_string();
    let mut sign = Command::new(workspace().join(".venv/bin/python3"));
    sign.arg(workspace().join("tests/tests/abuse/sign_lookup.py"));
    let signed = succeed(sign.args([&client.access_key, &client.secret, &client.region, &port]));
    let signed: Value = serde_json::from_slice(&signed.stdout).unwrap();
    let body = signed["body"].as_str().unwrap();
    let head: Vec<&str> = signed["head"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let request =
        format!("POST / HTTP/1.1\r\n{}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", head.join("\r\n"), body.len());
    let roots = tls::read_certificates(&deployment.ca()).unwrap();
    let tls = tls_of(&roots, rustls::DEFAULT_VERSIONS);
    abused.withstands_starved(|| {
        let call = || {
            // Of this thread alone: who calls from another machine costs this one nothing.
            let _nice = rustix::process::nice(19);
            let connection = rustls::ClientConnection::new(Arc::clone(&tls), "localhost".try_into().unwrap()).ok()?;
            let tcp = TcpStream::connect(("127.0.0.1", deployment.api_port())).ok()?;
            tcp.set_read_timeout(Some(Duration::from_secs(60))).ok()?;
            let mut stream = rustls::StreamOwned::new(connection, tcp);
            stream.write_all(request.as_bytes()).ok()?;
            let mut answer = vec![0; 64];
            let read = stream.read(&mut answer).ok()?;
            Some(String::from_utf8_lossy(answer.get(..read)?).lines().next()?.to_owned())
        };
        let statuses: Vec<String> = std::thread::scope(|scope| {
            let spawn = |_| std::thread::Builder::new().stack_size(256 * 1024).spawn_scoped(scope, call).unwrap();
            let calls: Vec<_> = (0..LOOK_UPS).map(spawn).collect();
            calls.into_iter().filter_map(|call| call.join().unwrap()).collect()
        });
        let answered = statuses.iter().filter(|status| status.contains(" 200 ")).count();
        eprintln!("{LOOK_UPS} look-ups at once: {answered} answered, {} told to wait", statuses.len() - answered);
        assert!(answered >= 100, "{statuses:?}");
        assert!(
            statuses.iter().all(|status| [" 200 ", " 400 ", " 429 ", " 503 "].iter().any(|code| status.contains(code))),
            "{statuses:?}"
        );
    });
}

/// A client that trusts these roots and speaks these versions alone.
pub(crate) fn tls_of(
    roots: &[rustls::pki_types::CertificateDer<'static>],
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> Arc<rustls::ClientConfig> {
    let mut store = rustls::RootCertStore::empty();
    roots.iter().for_each(|root| store.add(root.clone()).unwrap());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
    Arc::new(builder.with_root_certificates(store).with_no_client_auth())
}
