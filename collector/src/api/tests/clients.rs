//! What the unmodified AWS CLI and boto3 see.

use std::time::Duration;

use serde_json::json;

use super::bench::{ACCOUNT, Bench, REGION, TRAIL_ARN, record};

fn skipped() -> bool {
    let skipped = std::env::var_os("EDGETRAIL_SKIP_AWSCLI").is_some();
    if skipped {
        eprintln!("SKIPPED by EDGETRAIL_SKIP_AWSCLI: the API is not tried with the AWS CLI and boto3");
    }
    skipped
}

/// Every operation and every refusal through botocore's own parser and error classes.
#[tokio::test(flavor = "multi_thread")]
async fn boto3_works_on_it_unchanged() {
    if skipped() {
        return;
    }
    let bench = Bench::start().await;
    for serial in 0..120 {
        let user = ["alice", "bob", "carol"][usize::try_from(serial % 3).unwrap()];
        let name = if serial == 77 { "CreateUser" } else { "RunCommand" };
        let record = record(serial, name, user, Duration::from_secs(1000 - u64::try_from(serial).unwrap()));
        bench.internal.record(record).await.unwrap();
    }
    bench.commit(record(500, "Login", "dave", Duration::from_secs(100))).await;
    let mut elsewhere = record(501, "Login", "dave", Duration::from_secs(100));
    elsewhere.aws_region = "dc-osaka-1".to_owned();
    bench.commit(elsewhere).await;
    bench.commit(record(502, "TooOld", "dave", Duration::from_secs(91 * 24 * 3600))).await;
    let output = bench
        .command("python3", &bench.key)
        .args(["-c", include_str!("boto3_calls.py"), &bench.foreign_key.id, &bench.foreign_key.secret])
        .output()
        .await
        .expect("python3 with boto3");
    assert!(output.status.success(), "{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_aws_cli_works_on_it_unchanged() {
    if skipped() {
        return;
    }
    let bench = Bench::start().await;
    bench.commit(record(1, "RunCommand", "alice", Duration::from_secs(5))).await;
    let caller = bench.aws(&["sts", "get-caller-identity"]).await;
    assert_eq!(caller["Arn"], format!("arn:aws:iam::{ACCOUNT}:user/alice"));

    let found = bench
        .aws(&["cloudtrail", "lookup-events", "--lookup-attributes", "AttributeKey=EventName,AttributeValue=RunCommand"])
        .await;
    assert_eq!(found["Events"].as_array().unwrap().len(), 1);
    let trails = bench.aws(&["cloudtrail", "describe-trails", "--region", "us-east-1"]).await;
    assert_eq!(trails["trailList"][0]["TrailARN"], TRAIL_ARN, "a shadow trail shows in every region");

    bench.aws(&["cloudtrail", "stop-logging", "--name", "default"]).await;
    assert_eq!(bench.aws(&["cloudtrail", "get-trail-status", "--name", "default"]).await["IsLogging"], false);
    bench.aws(&["cloudtrail", "start-logging", "--name", TRAIL_ARN]).await;
    assert_eq!(bench.aws(&["cloudtrail", "get-trail-status", "--name", TRAIL_ARN]).await["IsLogging"], true);

    // The calls themselves, recorded with their caller.
    let calls = async {
        loop {
            let found = bench
                .aws(&[
                    "cloudtrail",
                    "lookup-events",
                    "--lookup-attributes",
                    "AttributeKey=EventSource,AttributeValue=cloudtrail.amazonaws.com",
                ])
                .await;
            let names: Vec<&str> =
                found["Events"].as_array().unwrap().iter().filter_map(|event| event["EventName"].as_str()).collect();
            if ["StopLogging", "StartLogging", "LookupEvents", "GetTrailStatus"].iter().all(|name| names.contains(name)) {
                return found;
            }
        }
    };
    let found = tokio::time::timeout(Duration::from_secs(30), calls).await.unwrap();
    let stop = found["Events"].as_array().unwrap().iter().find(|event| event["EventName"] == "StopLogging").unwrap();
    assert_eq!(
        (&stop["Username"], &stop["AccessKeyId"], &stop["ReadOnly"]),
        (&json!("alice"), &json!(bench.key.id), &json!("false"))
    );
    let event: serde_json::Value = serde_json::from_str(stop["CloudTrailEvent"].as_str().unwrap()).unwrap();
    assert_eq!(event["requestParameters"], json!({ "name": TRAIL_ARN }));
    assert_eq!((&event["sourceIPAddress"], &event["tlsDetails"]["tlsVersion"]), (&json!("127.0.0.1"), &json!("TLSv1.3")));
    bench.stop().await;
}

/// No S3 anywhere: digests, signatures and log files through the collector's own S3 face.
#[tokio::test(flavor = "multi_thread")]
async fn validate_logs_accepts_a_directory_trail_through_the_s3_face() {
    if skipped() {
        return;
    }
    let bench = Bench::start().await;
    let start = edgetrail_proto::record::format_time(super::bench::now_ns() - 60_000_000_000);
    let validate =
        ["cloudtrail", "validate-logs", "--trail-arn", TRAIL_ARN, "--start-time", &start, "--region", REGION, "--verbose"];
    let enough = async {
        let mut serial = 1000;
        loop {
            serial += 1;
            bench.internal.record(record(serial, "RunCommand", "alice", Duration::ZERO)).await.unwrap();
            let output = bench.aws_output(&validate).await;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            if String::from_utf8_lossy(&output.stderr).contains("No public keys found") {
                // The region's first key is made with its first record.
                continue;
            }
            // While the newest digest is being written, its predecessors are already valid.
            assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
            if text.contains("5/5 digest files valid")
                || text.lines().any(|line| line.contains("digest files valid") && !line.starts_with(['1', '2', '3', '4']))
            {
                return text;
            }
        }
    };
    let text = tokio::time::timeout(Duration::from_secs(90), enough).await.expect("five digests");
    assert!(text.contains("log files valid"), "{text}");
    assert!(!text.contains("INVALID"), "{text}");

    let listed = bench.aws(&["s3api", "list-objects-v2", "--bucket", "edgetrail", "--max-items", "1000"]).await;
    let keys: Vec<&str> = listed["Contents"].as_array().unwrap().iter().filter_map(|object| object["Key"].as_str()).collect();
    assert!(keys.iter().all(|key| !key.ends_with(".meta.json")), "sidecars are no objects");
    assert!(keys.is_sorted());
    bench.stop().await;
}

/// HTTP/2, where the host is an `:authority`, and a third signer.
#[tokio::test(flavor = "multi_thread")]
async fn curl_signs_calls_over_http2() {
    if skipped() {
        return;
    }
    let bench = Bench::start().await;
    let credentials = format!("{}:{}", bench.key.id, bench.key.secret);
    let mut command = bench.command("curl", &bench.key);
    command.args(["--silent", "--http2", "--max-time", "30", "--user", &credentials]);
    command.args(["--aws-sigv4", &format!("aws:amz:{REGION}:cloudtrail"), "--write-out", "%{http_version} %{http_code}"]);
    command.args([
        "--header",
        "x-amz-target: CloudTrail_20131101.ListTrails",
        "--header",
        "content-type: application/x-amz-json-1.1",
    ]);
    command.arg("--cacert").arg(bench.dir.path().join("pki/ca.pem")).args(["--data", "{}"]).arg(format!("{}/", bench.endpoint()));
    let output = command.output().await.expect("curl");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains(TRAIL_ARN) && text.ends_with("2 200"), "{text}");
    bench.stop().await;
}
