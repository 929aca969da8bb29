//! Audit events as records.

use super::*;
use crate::normalize::Made;

fn records(events: &[&str]) -> Vec<Record> {
    let host = Host::for_tests();
    let mut decoder = Decoder::restore(Some("prod".to_owned()), &[]);
    let mut drafts: Vec<Draft> = events.iter().flat_map(|event| decoder.decode(&host, event.as_bytes(), 7, 7).unwrap()).collect();
    drafts.extend(decoder.drain(&host, 8));
    drafts
        .into_iter()
        .map(|draft| match draft.record {
            Made::Record(record) => *record,
            Made::Written(_) | Made::Foreign(_) => panic!("not made here"),
        })
        .collect()
}

fn one(event: &str) -> Record {
    let [record] = <[_; 1]>::try_from(records(&[event])).unwrap();
    record
}

#[test]
fn an_exec_says_who_what_where_and_which_command() {
    let record = one(
        r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Request","auditID":"57a7","stage":"ResponseStarted",
        "requestURI":"/api/v1/namespaces/foo/pods/web-1/exec?command=%2Fbin%2Fbash&container=app&tty=true","verb":"create",
        "user":{"username":"alice@example.com","uid":"u-1","groups":["system:masters"]},"sourceIPs":["198.51.100.1","192.0.2.7"],
        "userAgent":"kubectl/v1.31","objectRef":{"resource":"pods","namespace":"foo","name":"web-1","apiVersion":"v1","subresource":"exec"},
        "responseStatus":{"metadata":{},"code":101},"requestReceivedTimestamp":"2026-05-17T15:08:22.763960Z","stageTimestamp":"2026-05-17T15:08:23.619910Z"}"#,
    );
    assert_eq!((record.event_source.as_str(), record.event_name.as_str()), (EVENT_SOURCE, "ExecPod"));
    assert_eq!(record.event_time, "2026-05-17T15:08:23Z");
    let identity = &record.user_identity;
    assert_eq!(identity.kind.as_deref(), Some("WebIdentityUser"));
    assert_eq!(identity.user_name.as_deref(), Some("alice@example.com"));
    assert_eq!(identity.principal_id.as_deref(), Some("u-1"));
    assert_eq!(identity.arn.as_deref(), Some("arn:aws:kubernetes:dc-local-1:111122223333:prod/user/alice@example.com"));
    // The last address is the one that the API server saw; the first one anybody can claim.
    assert_eq!(record.source_ip_address, "192.0.2.7");
    let parameters = record.request_parameters.unwrap();
    assert_eq!(parameters["command"], json!(["/bin/bash"]));
    assert_eq!(parameters["verb"], "create");
    let resource = &record.resources.unwrap()[0];
    assert_eq!(resource.arn.as_deref(), Some("arn:aws:kubernetes:dc-local-1:111122223333:prod/pods/foo/web-1"));
    assert_eq!(resource.kind.as_deref(), Some("Kubernetes::Pod"));
    assert_eq!((record.error_code, record.read_only), (None, Some(false)));
    assert_eq!(record.request_id.as_deref(), Some("57a7"));
    assert_eq!(record.additional_event_data.unwrap()["kubernetes"]["user"]["groups"][0], "system:masters");
}

#[test]
fn who_impersonates_acts_in_a_role_and_stays_the_human() {
    let record = one(
        r#"{"auditID":"a","verb":"delete","user":{"username":"alice","uid":"1"},"impersonatedUser":{"username":"system:admin"},
        "objectRef":{"resource":"clusterrolebindings","name":"x","apiGroup":"rbac.authorization.k8s.io"},
        "responseStatus":{"code":403,"reason":"Forbidden","message":"no"}}"#,
    );
    let identity = &record.user_identity;
    assert_eq!(identity.kind.as_deref(), Some("AssumedRole"));
    assert_eq!(identity.principal_id.as_deref(), Some("system:admin:alice"));
    let issuer = identity.session_context.as_ref().unwrap().session_issuer.as_ref().unwrap();
    assert_eq!(issuer.user_name.as_deref(), Some("alice"));
    assert_eq!((record.error_code.as_deref(), record.error_message.as_deref()), (Some("AccessDenied"), Some("no")));
    let arn = record.resources.unwrap()[0].arn.clone().unwrap();
    assert!(arn.ends_with(":prod/clusterrolebindings.rbac.authorization.k8s.io/x"), "{arn}");
}

#[test]
fn nobody_and_no_object_are_said_as_such() {
    let record = one(
        r#"{"auditID":"a","verb":"get","requestURI":"/healthz","user":{"username":"system:anonymous"},"responseStatus":{"code":401}}"#,
    );
    assert_eq!(record.user_identity.kind.as_deref(), Some("Unknown"));
    assert_eq!(record.user_identity.user_name.as_deref(), Some("system:anonymous"));
    assert_eq!((record.event_name.as_str(), record.error_code.as_deref()), ("GetPath", Some("AccessDenied")));
    assert_eq!(record.resources, None);
    let record = one(r#"{"verb":"list","objectRef":{"resource":"secrets"},"responseStatus":{"code":500}}"#);
    assert_eq!(record.user_identity.kind.as_deref(), Some("Unknown"));
    assert_eq!((record.event_name.as_str(), record.error_code.as_deref()), ("ListSecrets", Some("Http500")));
    assert!(record.resources.unwrap()[0].arn.as_deref().unwrap().ends_with(":prod/secrets/*"));
}

#[test]
fn a_name_that_the_server_made_is_the_object_s() {
    let record = one(
        r#"{"verb":"create","objectRef":{"resource":"pods","namespace":"n"},"requestObject":{"metadata":{"generateName":"web-"}},
        "responseObject":{"metadata":{"name":"web-x7"}},"responseStatus":{"code":201}}"#,
    );
    assert!(record.resources.unwrap()[0].arn.as_deref().unwrap().ends_with(":prod/pods/n/web-x7"));
}

#[test]
fn stages_of_one_request_are_one_record() {
    let event = |stage: &str, id: &str| {
        format!(
            r#"{{"auditID":"{id}","stage":"{stage}","verb":"get","requestURI":"/x","requestReceivedTimestamp":"2026-01-01T00:00:00.5Z"}}"#
        )
    };
    let (announced, ended, alone) =
        (event("RequestReceived", "a"), event("ResponseComplete", "a"), event("RequestReceived", "b"));
    let records = records(&[&announced, &alone, &ended]);
    assert_eq!(records.len(), 2);
    let stage = |record: &Record| record.additional_event_data.as_ref().unwrap()["kubernetes"]["stage"].clone();
    assert_eq!((stage(&records[0]), stage(&records[1])), (json!("ResponseComplete"), json!("RequestReceived")));
    assert_eq!(records[1].additional_event_data.as_ref().unwrap()["edgetrail"]["incomplete"], true);
}

#[test]
fn secrets_are_in_no_part_of_a_record_not_even_in_the_raw_event() {
    let event = r#"{"verb":"create","objectRef":{"resource":"secrets","name":"s"},"requestObject":{"kind":"Secret","data":{"k":"aHVudGVyMg=="}},
        "responseObject":{"kind":"Secret","data":{"k":"aHVudGVyMg=="}},"responseStatus":{"code":201}}"#;
    let host = Host { keep_raw: true, ..Host::for_tests() };
    let drafts = Decoder::default().decode(&host, event.as_bytes(), 0, 0).unwrap();
    let Made::Record(record) = &drafts[0].record else { panic!("not made here") };
    let text = String::from_utf8(record.to_json()).unwrap();
    assert!(!text.contains("aHVudGVyMg") && text.contains("\"k\":\"HIDDEN"), "{text}");
}

#[test]
fn what_is_too_large_leaves_the_rest_and_its_hash() {
    let event = format!(
        r#"{{"verb":"create","objectRef":{{"resource":"configmaps","name":"c"}},"requestObject":{{"data":{{"k":"{0}"}}}},"responseObject":{{"data":{{"k":"{0}"}}}},
        "user":{{"username":"u","extra":{{"x":["{0}"]}}}},"annotations":{{"a":"{0}"}},"sourceIPs":["192.0.2.1"]}}"#,
        "y".repeat(200_000)
    );
    let mut record = one(&event);
    let json = record.to_fitted_json();
    assert!(json.len() < 8192, "{}", json.len());
    assert_eq!(record.request_parameters.unwrap()["requestObject"]["omitted"], true);
    assert_eq!(record.user_identity.user_name.as_deref(), Some("u"));
    assert!(record.additional_event_data.unwrap().contains_key("edgetrail"));
}

fn of_request(id: &str, stage: &str, verb: &str) -> String {
    format!(
        r#"{{"auditID":"{id}","stage":"{stage}","verb":"{verb}","requestURI":"/x","objectRef":{{"resource":"pods"}},"responseStatus":{{"code":200}},
        "requestReceivedTimestamp":"2026-01-01T00:00:00.5Z"}}"#
    )
}

#[test]
fn a_long_request_stays_one_record_however_much_happens_before_it_ends_and_over_a_restart() {
    let host = Host::for_tests();
    let mut decoder = Decoder::default();
    let started = decoder.decode(&host, of_request("w", "ResponseStarted", "watch").as_bytes(), 7, 7).unwrap();
    assert_eq!(started.len(), 1);
    let mut cursors = decoder.take_cursors();
    for id in 0..4200 {
        let event = of_request(&id.to_string(), "ResponseComplete", "get");
        assert_eq!(decoder.decode(&host, event.as_bytes(), 7, 7).unwrap().len(), 1);
    }
    cursors.extend(decoder.take_cursors());
    let ended = of_request("w", "ResponseComplete", "watch");
    let mut restarted = Decoder::restore(None, &cursors);
    for decoder in [&mut decoder, &mut restarted] {
        assert_eq!(decoder.decode(&host, ended.as_bytes(), 7, 7).unwrap().len(), 0, "it has its record");
    }
}

#[test]
fn the_words_of_a_command_stand_where_redaction_knows_them_and_nowhere_else() {
    let event = r#"{"auditID":"a","verb":"create","requestURI":"/api/v1/namespaces/a/pods/b/exec?command=mysql\u0026command=-psecret123\u0026container=c",
        "objectRef":{"resource":"pods","namespace":"a","name":"b","subresource":"exec"},"responseStatus":{"code":101}}"#;
    let host = Host { keep_raw: true, ..Host::for_tests() };
    let mut made = Decoder::default().decode(&host, event.as_bytes(), 0, 0).unwrap().remove(0).record;
    crate::redact::Redactor::new(crate::redact::Config::default()).unwrap().redact(&mut made);
    let Made::Record(record) = &made else { panic!("not made here") };
    let text = String::from_utf8(record.to_json()).unwrap();
    assert!(!text.contains("secret123"), "{text}");
    let parameters = record.request_parameters.as_ref().unwrap();
    assert_eq!(parameters["command"][0], "mysql");
    assert_eq!(parameters["requestURI"], "/api/v1/namespaces/a/pods/b/exec?command=&command=&container=c");
    let raw = record.additional_event_data.as_ref().unwrap()["edgetrail"]["raw"].as_str().unwrap();
    assert!(raw.contains("container=c") && raw.contains("\"auditID\":\"a\""), "{raw}");
}
