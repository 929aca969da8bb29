//! `buffer check` and `buffer export`, beside a buffer or without one that runs.

use super::super::{KEY_FILE, check, export};
use super::*;

#[test]
fn a_sound_buffer_has_no_findings_and_an_old_key_file_is_one() {
    let mut rig = Rig::joined();
    let mut scribe = rig.open();
    rig.commit(&mut scribe, &["a"], true).unwrap();
    let old = rig.keep(KEY_FILE);
    rig.commit(&mut scribe, &["b"], true).unwrap();
    rig.commit(&mut scribe, &["c"], true).unwrap();
    assert_eq!(check(rig.path()).unwrap().findings, Vec::<String>::new());
    drop(scribe);
    rig.restore(old);
    let findings = check(rig.path()).unwrap().findings;
    assert!(findings.len() == 1 && findings[0].contains("key file is before batch 1"), "{findings:?}");
}

#[test]
fn an_export_names_each_record_with_its_place() {
    let mut rig = Rig::joined();
    let mut scribe = rig.open();
    rig.commit(&mut scribe, &[r#"{"n":1}"#, "not json"], true).unwrap();
    rig.commit(&mut scribe, &[r#"{"n":2}"#], false).unwrap();
    let mut out = Vec::new();
    assert_eq!(export(rig.path(), &mut out).unwrap(), (3, 0));
    let lines: Vec<serde_json::Value> =
        out.split(|&b| b == b'\n').filter(|l| !l.is_empty()).map(|l| serde_json::from_slice(l).unwrap()).collect();
    assert_eq!((&lines[0]["record"]["n"], &lines[0]["state"], &lines[0]["seq"]), (&1.into(), &"sealed".into(), &0.into()));
    assert_eq!(lines[1]["text"], "not json");
    assert_eq!((&lines[2]["state"], &lines[2]["seq"]), (&"unsealed".into(), &2.into()));
}
