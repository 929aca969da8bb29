//! 10, 11, 14: names that are paths, text that is markup, queries that are filters, hands on the agent's files.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

use edgetrail_link::tls;
use edgetrail_link::uplink::{Endpoint, channel};
use edgetrail_link::wire::enrollment_client::EnrollmentClient;
use edgetrail_link::wire::{self, JoinRequest, from_agent, from_collector};
use edgetrail_tests::posting::{Caller, post_one};
use edgetrail_tests::process::{succeed, text};
use edgetrail_tests::{delivered, wait};
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};
use tonic::Code;

use crate::abused::Abused;
use crate::host::Host;
use crate::rogue::{Rogue, block_on, token};

/// Trails are configured by the operator, and tags are not built: of names, an outsider gives hosts, sources and keys.
#[test]
fn t10_names_that_are_paths_lead_nowhere() {
    let abused = Abused::start();
    let deployment = &abused.deployment;
    abused.withstands(|| {
        let token = token(deployment, &["--uses", "20"]);
        block_on(async {
            let tls = tls::pinned_client_config(token.pin.parse().unwrap()).unwrap();
            let endpoint = Endpoint { host: "127.0.0.1".to_owned(), port: deployment.api_port() };
            let mut door = EnrollmentClient::new(channel(&endpoint, tls).await.unwrap());
            let csr = CertificateParams::default().serialize_request(&KeyPair::generate().unwrap()).unwrap().der().to_vec();
            for host in ["../../escaped", "a/b", "a\0b", "a\nb", "a\u{1b}[2Jb", "", &"x".repeat(4096)] {
                let (token, version) = (token.text.clone(), "1".to_owned());
                let (csr, agent_id) = (csr.clone().into(), vec![9; 16].into());
                let refused = door.join(JoinRequest { token, csr, agent_id, host: host.to_owned(), version }).await;
                assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument, "{host:?}");
            }
        });
        for (account, region) in [("../../../x", "dc-local-1"), ("111122223333", "../x"), ("111122223333", "a\nb"), ("1111", "R")]
        {
            let create =
                deployment.collector_command().args(["token", "create", "--account", account, "--region", region]).output();
            assert!(!create.unwrap().status.success(), "{account}/{region}");
        }
        for name in ["../../escaped", "a\0b", "a\r\nb", "\u{0430}dmin", &"n".repeat(4096)] {
            let event = json!({ "eventSource": "../../escaped.example", "eventName": name, "awsRegion": "../../x" });
            let answer = Caller::connect(deployment.socket()).unwrap().post(event.to_string().as_bytes()).unwrap();
            assert!(matches!(answer.status, 200 | 400), "{name:?}: {}", answer.body);
        }
        let target = deployment.dir().join("fetched");
        for key in ["../collector/control.sqlite", "AWSLogs/../../collector/pki/ca.key", "/etc/passwd"] {
            let target = target.display().to_string();
            let fetched = deployment.aws().run(&["s3api", "get-object", "--bucket", deployment.bucket(), "--key", key, &target]);
            assert!(!fetched.status.success() && !deployment.dir().join("fetched").exists(), "{key}: {}", text(&fetched));
        }
    });
    // Every object of the trail lies under its own account and region.
    let allowed = |path: &std::path::Path| {
        let path = path.display().to_string();
        path.contains("/edgetrail/AWSLogs/111122223333/") && path.contains("/dc-local-1/") && !path.contains("..")
    };
    for (path, _) in delivered::records(&deployment.trail()) {
        assert!(allowed(&path), "{}", path.display());
    }
}

/// Hex-encoded values of the kernel's audit records are the normalizer's own tests.
#[test]
fn t11_text_that_is_markup_stays_text() {
    let abused = Abused::start();
    let deployment = &abused.deployment;
    let nasty = "x\r\n2026-01-01T00:00:00Z ERROR forged line\u{1b}[31m\u{1b}]0;title\u{7}\u{202e}\u{0}end";
    let nested = [
        r#"{"eventSource":"a.example","eventName":"Deep","requestParameters":"#,
        &"[".repeat(20_000),
        "1",
        &"]".repeat(20_000),
        "}",
    ]
    .concat();
    abused.withstands(|| {
        post_one(deployment.socket(), &json!({ "eventSource": "tests.example", "eventName": "Nasty", "userAgent": nasty, "requestParameters": { "text": nasty } }));
        let long = json!({ "eventSource": "tests.example", "eventName": "Long", "requestParameters": { "text": "y".repeat(1 << 20) } });
        for body in [long.to_string(), nested.clone()] {
            let answer = Caller::connect(deployment.socket()).unwrap().post(body.as_bytes()).unwrap();
            assert!(matches!(answer.status, 200 | 400 | 413), "{}", answer.status);
        }
        block_on(async {
            let rogue = Rogue::join(deployment).await;
            let mut conversation = rogue.attach().await.unwrap();
            let resume = wire::Resume { agent_version: format!("1{nasty}"), ..wire::Resume::default() };
            conversation.say(from_agent::Message::Resume(resume)).await;
            assert!(matches!(conversation.hear().await, Some(from_collector::Message::Resumed(_))));
            let mut stream = rogue.stream();
            conversation.say(from_agent::Message::Opening(stream.opening.clone())).await;
            conversation.hear().await;
            // Quarantined, with a reason that quotes it.
            conversation.batch(stream.batch_of(&[nasty.to_owned(), format!("{{\"eventName\": \"{nasty}")])).await;
            conversation.receipted().await;
        });
    });
    let record = wait::until("the nasty record", Duration::from_secs(30), || {
        delivered::records(&deployment.trail()).into_iter().find(|(_, record)| record["eventName"] == "Nasty")
    });
    assert_eq!(record.1["requestParameters"]["text"], nasty, "as it came");
    let shown = text(&succeed(deployment.collector_command().args(["agents", "list"])));
    let each: BTreeSet<String> =
        shown.lines().skip(1).filter_map(|line| line.split_whitespace().next().map(str::to_owned)).collect();
    let details = each.iter().map(|agent| text(&succeed(deployment.collector_command().args(["agents", "show", agent]))));
    let printed = [deployment.collector_printed(), deployment.agent_printed(0), shown].into_iter().chain(details);
    for printed in printed {
        assert!(!printed.contains('\u{1b}') && !printed.contains('\u{7}'), "control characters: {printed:?}");
        assert!(!printed.lines().any(|line| line.starts_with("2026-01-01T00:00:00Z ERROR forged")), "a forged line: {printed}");
    }
}

/// What is done to a running agent, and with keys of one's own: see `hands`. `auditctl -D` is a kernel test.
#[test]
fn t14_queries_find_only_what_they_may_and_a_deleted_buffer_shows() {
    let abused = Abused::start();
    let deployment = &abused.deployment;
    let mut host = Host::join(deployment, deployment.ingest_port());
    post_one(&host.socket(), &json!({ "eventSource": "tests.example", "eventName": "BeforeDeletion" }));
    wait::until("its delivery", Duration::from_secs(30), || {
        delivered::records(&deployment.trail()).into_iter().find(|(_, record)| record["eventName"] == "BeforeDeletion")
    });
    host.stop();
    for name in ["buffer.sqlite", "buffer.sqlite-wal", "buffer.sqlite-shm"] {
        drop(std::fs::remove_file(host.directory.path().join("state").join(name)));
    }
    host.start(deployment.ingest_port());
    abused.withstands(|| {
        for value in ["' OR 1=1 --", "%", "*", "\"; DROP TABLE events; --"] {
            let attribute = json!([{ "AttributeKey": "EventName", "AttributeValue": value }]).to_string();
            let answer = deployment.aws().json(&["cloudtrail", "lookup-events", "--lookup-attributes", &attribute]);
            assert_eq!(answer["Events"], json!([]), "{value}");
        }
        // Unsigned, by hundreds at a time.
        let tls = rustls::ClientConfig::builder()
            .with_root_certificates({
                let mut roots = rustls::RootCertStore::empty();
                tls::read_certificates(&deployment.ca()).unwrap().into_iter().for_each(|root| roots.add(root).unwrap());
                roots
            })
            .with_no_client_auth();
        let tls = Arc::new(tls);
        let body = r#"{"MaxResults":50}"#;
        let request = format!(
            "POST / HTTP/1.1\r\nHost: localhost\r\nX-Amz-Target: com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101.LookupEvents\r\n\
             Content-Type: application/x-amz-json-1.1\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        let statuses: Vec<String> = std::thread::scope(|scope| {
            let call = || {
                let connection = rustls::ClientConnection::new(Arc::clone(&tls), "localhost".try_into().unwrap()).ok()?;
                let tcp = std::net::TcpStream::connect(("127.0.0.1", deployment.api_port())).ok()?;
                let mut stream = rustls::StreamOwned::new(connection, tcp);
                stream.write_all(request.as_bytes()).ok()?;
                let mut answer = vec![0; 64];
                let read = stream.read(&mut answer).ok()?;
                Some(String::from_utf8_lossy(answer.get(..read)?).lines().next()?.to_owned())
            };
            let calls: Vec<_> = (0..200).map(|_| scope.spawn(call)).collect();
            calls.into_iter().filter_map(|call| call.join().unwrap()).collect()
        });
        assert!(!statuses.is_empty() && statuses.iter().all(|status| status.contains(" 40")), "{statuses:?}");
    });
    let gap: Value = wait::until("the visible trace", Duration::from_secs(30), || {
        let records = delivered::records(&deployment.trail());
        records.into_iter().map(|(_, record)| record).find(|record| record["eventName"] == "ReportGap")
    });
    eprintln!("the deleted buffer shows as {}", gap["requestParameters"]);
}
