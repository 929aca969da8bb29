//! What clients that are not ours send to the agent over the network: their own bytes, from the wire to a look-up.

use std::process::{Command, Output};
use std::time::Duration;

use edgetrail_tests::aws::Client;
use edgetrail_tests::deployment::Deployment;
use edgetrail_tests::port::free_port;
use edgetrail_tests::process::{Process, succeed, text, workspace};
use edgetrail_tests::{skip, wait};
use serde_json::{Value, json};

/// Records of an eventName, as look-ups give them.
fn looked_up(deployment: &Deployment, name: &str) -> Vec<Value> {
    let attribute = format!("AttributeKey=EventName,AttributeValue={name}");
    let answer = deployment.aws().json(&["cloudtrail", "lookup-events", "--lookup-attributes", &attribute]);
    let events = answer["Events"].as_array().cloned().unwrap_or_default();
    events.iter().map(|event| serde_json::from_str(event["CloudTrailEvent"].as_str().unwrap()).unwrap()).collect()
}

pub(crate) fn wait_for(deployment: &Deployment, name: &str, count: usize) -> Vec<Value> {
    wait::until(&format!("{count} {name} in the history"), Duration::from_secs(60), || {
        let records = looked_up(deployment, name);
        (records.len() >= count).then_some(records)
    })
}

/// The status that curl was answered.
fn posted(url: &str, arguments: &[&str], body: &Value) -> String {
    let mut curl = Command::new("curl");
    curl.args(["-sS", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "40", "--data-binary", &body.to_string()]);
    String::from_utf8(succeed(curl.args(arguments).arg(url)).stdout).unwrap()
}

#[test]
fn the_audit_webhook_s_batches_are_looked_up() {
    let port = free_port();
    let deployment =
        Deployment::with_settings(&format!("[sources.kubernetes]\nlisten = [\"127.0.0.1:{port}\"]\ncluster = \"prod\"\n"));
    // Look-ups go back 90 days.
    let now = jiff::Timestamp::now().to_string();
    let event = |stage: &str| {
        json!({"level": "Request", "auditID": "5fe6", "stage": stage, "verb": "create",
            "requestURI": "/api/v1/namespaces/shop/pods/web-1/exec?command=sh&container=app",
            "user": {"username": "alice@example.com", "groups": ["system:masters"]}, "sourceIPs": ["192.0.2.7"], "userAgent": "kubectl/v1.31",
            "objectRef": {"resource": "pods", "namespace": "shop", "name": "web-1", "subresource": "exec"},
            "responseStatus": {"code": 101}, "requestReceivedTimestamp": now, "stageTimestamp": now})
    };
    let list = json!({"kind": "EventList", "apiVersion": "audit.k8s.io/v1", "metadata": {},
        "items": [event("RequestReceived"), event("ResponseStarted"), event("ResponseComplete"), {"not": "an event"}]});
    let url = format!("http://127.0.0.1:{port}/audit");
    // Sent again, as after an answer that was lost: the same events.
    for _ in 0..2 {
        assert_eq!(posted(&url, &["-H", "content-type: application/json"], &list), "200");
    }
    let records = wait_for(&deployment, "ExecPod", 1);
    assert_eq!(records.len(), 1, "{records:#?}");
    let record = &records[0];
    assert_eq!(record["userIdentity"]["userName"], "alice@example.com");
    assert_eq!(record["requestParameters"]["command"], json!(["sh"]));
    assert_eq!(record["resources"][0]["ARN"], "arn:aws:kubernetes:dc-local-1:111122223333:prod/pods/shop/web-1");
    assert_eq!(wait_for(&deployment, "UnparsedObservation", 1).len(), 1);
    let by_user =
        ["cloudtrail", "lookup-events", "--lookup-attributes", "AttributeKey=Username,AttributeValue=alice@example.com"];
    assert_eq!(deployment.aws().json(&by_user)["Events"].as_array().unwrap().len(), 1);
}

#[test]
fn opentelemetry_s_own_exporters_are_answered_and_their_records_looked_up() {
    let port = free_port();
    let deployment = Deployment::with_settings(&format!("[sources.otlp]\nlisten = [\"127.0.0.1:{port}\"]\n"));
    let python = workspace().join(".venv/bin/python");
    let mut exporter = Command::new(python);
    exporter.arg(workspace().join("tests/clients/otlp_exporter.py")).arg(format!("127.0.0.1:{port}")).arg("order.refund");
    let output = exporter.output().expect("python is installed: run `make setup`");
    assert!(output.status.success(), "{}", text(&output));
    let records = wait_for(&deployment, "OrderRefund", 4);
    let mut wires: Vec<_> =
        records.iter().map(|record| record["requestParameters"]["attributes"]["wire"].as_str().unwrap()).collect();
    wires.sort_unstable();
    assert_eq!(wires, ["grpc", "grpc-gzip", "http", "http-gzip"]);
    for record in &records {
        assert_eq!((&record["eventSource"], &record["userIdentity"]["userName"]), (&json!("shop.otlp"), &json!("alice")));
        assert_eq!((&record["sourceIPAddress"], &record["userAgent"]), (&json!("192.0.2.7"), &json!("shop/7")));
        assert_eq!(record["requestParameters"]["body"], json!({"order": "o-1", "items": [1, 2]}));
        assert_eq!(record["requestParameters"]["attributes"]["password"], "HIDDEN_DUE_TO_SECURITY_REASONS");
    }
    // JSON, which these exporters lack.
    let request = json!({"resourceLogs": [{"scopeLogs": [{"logRecords": [{"eventName": "order.pay"}]}]}]});
    let url = format!("http://127.0.0.1:{port}/v1/logs");
    assert_eq!(posted(&url, &["-H", "content-type: application/json"], &request), "200");
    assert_eq!(wait_for(&deployment, "OrderPay", 1).len(), 1);
}

/// sudo with a sudoers file of its own, in a mount namespace: the machine's is not touched.
fn sudo(sudoers: &std::path::Path, words: &[&str]) -> Output {
    let mut shell = Command::new("unshare");
    let script = "mount --bind \"$0\" /etc/sudoers && exec \"$@\"";
    shell.args(["-m", "sh", "-c", script]).arg(sudoers).args(words).output().expect("unshare can be run")
}

#[test]
fn sudo_tells_the_agent_before_it_runs_a_command_and_runs_none_without_it() {
    if skip::unless_root("EDGETRAIL_SKIP_SUDO", "a real sudo under a sudoers file of its own") {
        return;
    }
    let port = free_port();
    let mut deployment = Deployment::with_settings(&format!("[sources.sudo]\nlisten = [\"127.0.0.1:{port}\"]\n"));
    let sudoers = tempfile::NamedTempFile::new().unwrap();
    let rules = format!(
        "Defaults log_servers = 127.0.0.1:{port}\nDefaults !ignore_logfile_errors\nDefaults:nobody !authenticate\nroot ALL=(ALL:ALL) NOPASSWD: ALL\nnobody ALL=(root) NOPASSWD: /bin/true\n"
    );
    std::fs::write(sudoers.path(), rules).unwrap();
    std::fs::set_permissions(sudoers.path(), std::os::unix::fs::PermissionsExt::from_mode(0o440)).unwrap();
    let ran = sudo(sudoers.path(), &["sudo", "-n", "-u", "nobody", "id", "-u"]);
    assert!(ran.status.success(), "{}", text(&ran));
    let refused = sudo(sudoers.path(), &["setpriv", "--reuid=nobody", "--clear-groups", "sudo", "-n", "/bin/false"]);
    assert!(!refused.status.success(), "{}", text(&refused));
    let records = wait_for(&deployment, "RunCommand", 2);
    assert_eq!(records.len(), 2, "{records:#?}");
    let (denied, run): (Vec<&Value>, Vec<&Value>) = records.iter().partition(|record| record["errorCode"] == "AccessDenied");
    assert_eq!((denied.len(), run.len()), (1, 1), "{records:#?}");
    let command = run[0]["requestParameters"]["command"].as_str().unwrap();
    assert!(command.starts_with('/') && command.ends_with("/id -u"), "{command}");
    assert_eq!(run[0]["requestParameters"]["user"], "nobody");
    assert_eq!(run[0]["userIdentity"]["sessionContext"]["sessionIssuer"]["userName"], "root");
    assert_eq!(denied[0]["userIdentity"]["userName"], "nobody");
    // Nobody but root is sudo.
    let forged = Command::new("setpriv")
        .args(["--reuid=nobody", "--clear-groups", "sudo_sendlog", "-h", "127.0.0.1", "-p", &port.to_string(), "/nonexistent"])
        .output();
    assert!(forged.is_ok_and(|output| !output.status.success()));
    deployment.kill_agent(0);
    let ran = sudo(sudoers.path(), &["sudo", "-n", "-u", "nobody", "id", "-u"]);
    assert!(!ran.status.success(), "it ran without being recorded: {}", text(&ran));
}

/// Both are told by the same sudo; what only its log says comes from there.
#[test]
fn sudos_own_log_and_its_log_server_make_one_record_of_a_command() {
    if skip::unless_root("EDGETRAIL_SKIP_SUDO", "a real sudo under a sudoers file of its own") {
        return;
    }
    let port = free_port();
    let dir = tempfile::tempdir().unwrap();
    let (log, sudoers) = (dir.path().join("sudo.json"), dir.path().join("sudoers"));
    let deployment = Deployment::with_settings(&format!(
        "[sources.sudo]\nlisten = [\"127.0.0.1:{port}\"]\n[[sources.file]]\npaths = [\"{}\"]\nformat = \"sudo\"\nstart = \"beginning\"\n",
        log.display()
    ));
    let write_rules = |servers: &str| {
        let rules = format!(
            "{servers}Defaults logfile={},log_format=json,log_exit_status,!syslog\nroot ALL=(ALL:ALL) NOPASSWD: ALL\n",
            log.display()
        );
        std::fs::write(&sudoers, rules).unwrap();
        std::fs::set_permissions(&sudoers, std::os::unix::fs::PermissionsExt::from_mode(0o440)).unwrap();
    };
    write_rules(&format!("Defaults log_servers = 127.0.0.1:{port}\n"));
    for word in ["one", "two"] {
        let ran = sudo(&sudoers, &["sudo", "-n", "-u", "nobody", "echo", word]);
        assert!(ran.status.success(), "{}", text(&ran));
    }
    // In the log alone, behind the others: whatever was made of these is there before it.
    std::fs::remove_file(&sudoers).unwrap();
    write_rules("");
    let ran = sudo(&sudoers, &["sudo", "-n", "-u", "nobody", "echo", "three"]);
    assert!(ran.status.success(), "{}", text(&ran));
    let said = |record: &Value| {
        record["requestParameters"]["command"].as_str().unwrap_or_default().rsplit(' ').next().unwrap().to_owned()
    };
    let records = wait::until("the command that only the log tells", Duration::from_secs(60), || {
        let records = looked_up(&deployment, "RunCommand");
        records.iter().any(|record| said(record) == "three").then_some(records)
    });
    let mut words: Vec<String> = records.iter().map(said).collect();
    words.sort();
    assert_eq!(words, ["one", "three", "two"], "{records:#?}");
    for record in &records {
        let source = if said(record) == "three" { "file" } else { "sudo" };
        assert_eq!(record["additionalEventData"]["edgetrail"]["source"], source, "{record:#}");
        assert_eq!(record["requestParameters"]["user"], "nobody");
        assert_eq!(record["userIdentity"]["sessionContext"]["sessionIssuer"]["userName"], "root");
    }
}

/// An integration's own call, from the unmodified AWS CLI to the trail's log files.
#[test]
fn an_audit_event_that_the_aws_cli_puts_is_delivered_as_it_was_put() {
    let port = free_port();
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        path.display().to_string()
    };
    write("secret", "a secret of the shop's own");
    let keys = write("keys", "AKIAGATEWAY000000001 shop secret\n");
    let channel = "arn:aws:cloudtrail:dc-local-1:111122223333:channel/shop";
    let deployment = Deployment::with_settings(&format!(
        "[sources.api]\nlisten = [\"127.0.0.1:{port}\"]\naccess_keys = \"{keys}\"\nchannels = [{{ arn = \"{channel}\" }}]\nanswer_after = \"receipt\"\n"
    ));
    let client = Client {
        endpoint: format!("http://127.0.0.1:{port}"),
        s3_endpoint: None,
        region: "dc-local-1".to_owned(),
        access_key: "AKIAGATEWAY000000001".to_owned(),
        secret: "a secret of the shop's own".to_owned(),
        ca_bundle: None,
    };
    let event = json!({"version": "1", "userIdentity": {"type": "User", "principalId": "carol"}, "UID": "u", "eventSource": "shop.example",
        "eventName": "CancelOrder", "eventTime": "2026-01-31T12:00:00", "recipientAccountId": "111122223333"});
    let events = write("events", &json!([{"id": "one", "eventData": event.to_string()}]).to_string());
    let answer = client.json(&[
        "cloudtrail-data",
        "put-audit-events",
        "--channel-arn",
        channel,
        "--audit-events",
        &format!("file://{events}"),
    ]);
    assert_eq!(answer["failed"], json!([]), "{answer}");
    let id = answer["successful"][0]["eventID"].clone();
    let record = wait::until("the event in a log file", Duration::from_secs(60), || {
        edgetrail_tests::delivered::records(&deployment.trail())
            .into_iter()
            .map(|(_, record)| record)
            .find(|record| record["eventID"] == id)
    });
    assert_eq!((&record["eventCategory"], &record["eventData"]), (&json!("ActivityAuditLog"), &event));
}

#[test]
fn the_examples_for_clients_record_their_event_and_may_be_repeated() {
    let deployment = Deployment::with_one_agent();
    let examples = workspace().join("examples/clients");
    let mut expected = 0;
    for (program, arguments, file) in [
        ("sh", &[][..], "post_event.sh"),
        ("python3", &[], "post_event.py"),
        ("node", &[], "post_event.mjs"),
        ("go", &["run"], "post_event.go"),
    ] {
        let optional = program == "node" || program == "go";
        if optional && skip::by_name("EDGETRAIL_SKIP_CLIENTS", &format!("{file} is not run")) {
            continue;
        }
        let there = Command::new(program).arg("version").output().is_ok();
        assert!(there, "{file} needs {program}: install it, or set EDGETRAIL_SKIP_CLIENTS=1");
        let mut answers = Vec::new();
        // No name of a file: `go run` takes an argument that ends in .go for one.
        let id = format!("id-{}", file.replace('.', "-"));
        for _ in 0..2 {
            let mut client = Command::new(program);
            client.args(arguments).arg(examples.join(file)).arg(&id).env("EDGETRAIL_SOCKET", deployment.socket());
            answers.push(succeed(&mut client).stdout);
        }
        assert_eq!(answers[0], answers[1], "{file}: the same id is the same event");
        expected += 1;
    }
    assert!(expected >= 2, "a shell and Python are everywhere");
    let records = wait_for(&deployment, "CreateInvoice", expected);
    assert_eq!(records.len(), expected);
}

#[test]
fn another_container_posts_with_its_token() {
    let port = free_port();
    let tokens = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(tokens.path(), "shop 0123456789abcdef0123456789abcdef\n").unwrap();
    let settings = format!("[sources.api]\nlisten = [\"127.0.0.1:{port}\"]\ntoken_file = \"{}\"\n", tokens.path().display());
    let deployment = Deployment::with_settings(&settings);
    let url = format!("http://127.0.0.1:{port}/v1/events");
    let event = json!({"eventSource": "shop.example", "eventName": "RefundOrder", "userIdentity": {"type": "Root"}});
    assert_eq!(posted(&url, &[], &event), "401");
    assert_eq!(posted(&url, &["-H", "authorization: Bearer 0123456789abcdef0123456789abcdee"], &event), "401");
    let trace = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    assert_eq!(posted(&url, &["-H", "authorization: Bearer 0123456789abcdef0123456789abcdef", "-H", trace], &event), "200");
    let records = wait_for(&deployment, "RefundOrder", 1);
    assert_eq!(records.len(), 1);
    assert_eq!(records[0]["userIdentity"]["invokedBy"], "shop");
    let data = &records[0]["additionalEventData"];
    assert_eq!(data["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(data["edgetrail"]["claimedUserIdentity"]["type"], "Root");
}

/// That nothing is captured is itself to be seen: the agent lives, says so, and why.
#[test]
fn an_agent_whose_sources_are_all_unavailable_stays_up_and_reports_them() {
    let mut deployment = Deployment::with_one_agent();
    deployment.kill_agent(0);
    let folder = deployment.dir().join("agent-0/agent.d");
    std::fs::create_dir_all(&folder).unwrap();
    let settings = "[sources.api]\nenabled = false\n[sources.kubernetes]\nlisten = [\"127.0.0.1:0\"]\ncertificate = \"/nonexistent\"\nkey = \"/nonexistent\"\n";
    std::fs::write(folder.join("zz.toml"), settings).unwrap();
    let mut agent = Process::start("agent", deployment.agent_command(0).arg("run"), &deployment.dir().join("agent-0.log"));
    let records = wait_for(&deployment, "ReportSource", 1);
    assert_eq!(records[0]["requestParameters"]["source"], "kubernetes", "{records:#?}");
    assert!(records[0]["requestParameters"]["reason"].as_str().unwrap().contains("/nonexistent"), "{records:#?}");
    let status = deployment.status(0);
    let kubernetes = status["sources"].as_array().unwrap().iter().find(|source| source["source"] == "kubernetes").unwrap();
    assert_eq!(kubernetes["on"], false, "{status:#}");
    assert!(agent.running(), "the agent ended: {}", agent.printed());
}

/// A service that knows nothing of Edgetrail: Python's own file server.
fn file_server(dir: &std::path::Path, port: u16) -> std::process::Child {
    let mut server = Command::new("python3");
    server.args(["-m", "http.server", &port.to_string(), "--bind", "127.0.0.1", "--directory"]).arg(dir);
    server.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().expect("python3 can be run")
}

#[test]
fn what_a_service_is_asked_through_the_proxy_is_looked_up_and_closed_means_closed() {
    let (listen, closed, behind) = (free_port(), free_port(), free_port());
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("orders")).unwrap();
    std::fs::write(dir.path().join("orders/7"), "an order").unwrap();
    let document = dir.path().join("orders.yaml");
    std::fs::write(
        &document,
        "openapi: 3.1.0\npaths:\n  /orders/{orderId}:\n    get: {operationId: getOrder}\n    delete: {operationId: cancelOrder}\n",
    )
    .unwrap();
    let section = |listen: u16, name: &str, more: &str| {
        format!(
            "[[sources.proxy]]\nlisten = [\"127.0.0.1:{listen}\"]\nupstream = \"http://127.0.0.1:{behind}\"\nservice = \"{name}\"\nopenapi = \"{}\"\n{more}\n",
            document.display()
        )
    };
    let strict = "when_unavailable = \"closed\"\nanswer_after = \"receipt\"\nhold_max = \"30s\"";
    let settings = section(listen, "orders.example", "") + &section(closed, "strict.example", strict);
    let deployment = Deployment::with_settings(&settings);
    let mut server = file_server(dir.path(), behind);
    wait::until("the file server", Duration::from_secs(20), || std::net::TcpStream::connect(("127.0.0.1", behind)).ok());
    let ask = |port: u16, arguments: &[&str]| {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "40"]).args(arguments);
        let answer = succeed(curl.arg(format!("http://127.0.0.1:{port}/orders/7?token=s3cr3t")));
        String::from_utf8(answer.stdout).unwrap()
    };
    // {"alg":"none"} and {"sub":"alice"}: a claim, for no keys are configured.
    let token = "Authorization: Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSJ9.";
    assert_eq!(ask(listen, &["-H", token, "-A", "shop/7"]), "200");
    assert_eq!(ask(listen, &["-X", "DELETE", "-H", "X-Request-Id: r-1"]), "501");
    // Answered after the collector's receipt.
    assert_eq!(ask(closed, &[]), "200");
    let records = wait_for(&deployment, "GetOrder", 2);
    let of = |name: &str| records.iter().find(|record| record["eventSource"] == name).unwrap();
    let record = of("orders.example");
    assert_eq!((&record["userIdentity"]["userName"], &record["userAgent"]), (&json!("alice"), &json!("shop/7")));
    assert_eq!(record["additionalEventData"]["edgetrail"]["caller"], json!({"by": "jwt:sub", "verified": false}));
    assert_eq!(record["requestParameters"]["pathParameters"], json!({"orderId": "7"}));
    assert_eq!(record["requestParameters"]["query"]["token"], "HIDDEN_DUE_TO_SECURITY_REASONS");
    assert_eq!((&record["responseElements"]["status"], &record["responseElements"]["bytes"]), (&json!(200), &json!(8)));
    assert_eq!(of("strict.example")["readOnly"], true);
    let cancelled = wait_for(&deployment, "CancelOrder", 1).remove(0);
    assert_eq!((&cancelled["errorCode"], &cancelled["requestID"]), (&json!("NotImplemented"), &json!("r-1")));
    let by_user = ["cloudtrail", "lookup-events", "--lookup-attributes", "AttributeKey=Username,AttributeValue=alice"];
    assert_eq!(deployment.aws().json(&by_user)["Events"].as_array().unwrap().len(), 1);
    // The service goes away: the proxy answers for it, and says so.
    server.kill().unwrap();
    server.wait().unwrap();
    assert_eq!(ask(listen, &["-X", "PUT"]), "502");
    let failed = wait_for(&deployment, "PutResource", 1).remove(0);
    assert_eq!((&failed["errorCode"], &failed["responseElements"]["answeredBy"]), (&json!("BadGateway"), &json!("proxy")));
}
