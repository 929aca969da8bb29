//! The control store: who may read it, what tokens and keys give, how a revocation spreads.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use edgetrail_cloudtrail::Tags;
use edgetrail_policy::Managed;
use edgetrail_proto::identity::{AccountId, AgentId, Region};

use super::*;
use crate::sinks::SinkConfig;

fn scope() -> (AccountId, Region) {
    ("111122223333".parse().unwrap(), "dc-local-1".parse().unwrap())
}

fn agent(number: u8) -> Agent {
    Agent {
        id: AgentId::from_bytes([number; 16]),
        host: format!("host{number}"),
        version: "0.1.0".to_owned(),
        scopes: vec![scope()],
        gateway: false,
        certificate_serial: "01".to_owned(),
        certificate_expires_ns: 100,
        joined_ns: 1,
        revoked_ns: None,
        last_seen_ns: None,
    }
}

fn token(uses: u32) -> NewToken {
    NewToken { scopes: vec![scope()], gateway: false, ttl: Duration::from_nanos(100), uses }
}

#[test]
fn the_file_is_readable_to_its_owner_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sqlite");
    std::fs::write(&path, b"").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let control = Control::open(dir.path()).unwrap();
    control.create_access_key(scope().0, "ops", None, 1).unwrap();
    for name in ["control.sqlite", "control.sqlite-wal"] {
        let mode = std::fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

fn operator() -> Operator {
    let user = |uid, name: &str| User { uid, name: name.to_owned() };
    Operator { user: user(0, "root"), login: Some(user(1000, "alice")), host: "hub-1".to_owned() }
}

#[test]
fn what_an_operator_changes_is_noted_in_the_same_transaction_and_kept_until_it_is_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let control = Control::open(dir.path()).unwrap();
    control.upsert_agent(&agent(1)).unwrap();
    assert_eq!(control.acts().unwrap(), [], "what the collector does by itself is recorded elsewhere");
    let by_hand = Control::open(dir.path()).unwrap().operated_by(operator());
    let key = by_hand.create_access_key(scope().0, "ops", None, 1).unwrap();
    let token = by_hand.create_token(&token(1), 2).unwrap();
    by_hand.revoke_agent(agent(1).id, 3).unwrap();
    by_hand.delete_access_key(&key.id, 4).unwrap();
    assert!(by_hand.delete_access_key(&key.id, 5).is_err() && by_hand.revoke_agent(agent(2).id, 5).is_err());
    by_hand.noting("RotateRoot", serde_json::json!({}), 6, || Err::<(), _>(ControlError::Hash)).unwrap().unwrap_err();

    let acts = control.acts().unwrap();
    let names: Vec<&str> = acts.iter().map(|act| act.name.as_str()).collect();
    assert_eq!(names, ["CreateAccessKey", "CreateToken", "RevokeAgent", "DeleteAccessKey", "RotateRoot"]);
    assert!(acts.iter().all(|act| act.operator == operator()));
    assert_eq!(acts[4].error.as_deref(), Some("the token can't be hashed"), "what failed says so");
    let told: String = acts.iter().map(|act| act.parameters.to_string()).collect();
    let secret = token.text.rsplit('-').next().unwrap();
    assert!(!told.contains(&key.secret) && !told.contains(secret), "no secret is told: {told}");
    acts.iter().for_each(|act| control.recorded(act).unwrap());
    assert_eq!(by_hand.acts().unwrap(), []);
}

#[test]
fn an_access_key_is_found_until_it_is_deleted_and_never_shown_by_debug() {
    let dir = tempfile::tempdir().unwrap();
    let control = Control::open(dir.path()).unwrap();
    let key = control.create_access_key(scope().0, "ops", None, 1).unwrap();
    assert_eq!((key.id.len(), key.secret.len()), (20, 40));
    assert!(!format!("{key:?}").contains(&key.secret));
    assert_eq!(Control::open(dir.path()).unwrap().access_key(&key.id).unwrap(), Some(key.clone()));
    control.delete_access_key(&key.id, 2).unwrap();
    assert_eq!(control.access_key(&key.id).unwrap(), None);
    assert!(matches!(control.delete_access_key(&key.id, 2), Err(ControlError::NoAccessKey { .. })));
}

#[test]
fn a_key_of_before_there_were_principals_goes_on_as_its_accounts_administrator() {
    let dir = tempfile::tempdir().unwrap();
    let control = Control::open(dir.path()).unwrap();
    let key = control.create_access_key(scope().0, "ops", Some(&[]), 7).unwrap();
    drop(control);
    let path = dir.path().join("control.sqlite");
    let before = Connection::open(&path).unwrap();
    before.execute_batch("DROP TABLE principals; PRAGMA user_version = 0;").unwrap();
    drop(before);
    for _ in 0..2 {
        let control = Control::open(dir.path()).unwrap();
        assert_eq!(control.access_key(&key.id).unwrap(), Some(key.clone()));
        let principal = control.principal(&key.account, "ops").unwrap().unwrap();
        assert_eq!(principal.attached, [Attached::managed(Managed::Administrator)]);
        assert_eq!((principal.created_ns, principal.policies.len()), (7, 1));
    }
    let later = Connection::open(&path).unwrap();
    later.pragma_update(None, "user_version", 2).unwrap();
    drop(later);
    assert!(matches!(Control::open(dir.path()), Err(ControlError::Schema { found: 2 })));
}

#[test]
fn a_principal_keeps_its_policies_until_they_are_changed_on_purpose() {
    let dir = tempfile::tempdir().unwrap();
    let control = Control::open(dir.path()).unwrap();
    let account = scope().0;
    let viewer = [Attached::managed(Managed::Viewer)];
    let key = control.create_access_key(account, "ops", Some(&viewer), 1).unwrap();
    assert!(matches!(control.create_access_key(account, "ops", Some(&[]), 2), Err(ControlError::PrincipalExists { .. })));
    let second = control.create_access_key(account, "ops", None, 2).unwrap();
    assert_eq!(control.principal(&account, "ops").unwrap().unwrap().attached, viewer);
    assert_eq!(control.access_keys().unwrap().len(), 2, "a refused one leaves no key");

    let deny = r#"{"Version":"2012-10-17","Statement":{"Effect":"Deny","Action":"*","Resource":"*"}}"#;
    let changed = [viewer[0].clone(), Attached::document("no", deny).unwrap()];
    control.put_principal(&account, "ops", &changed, 3).unwrap();
    let principal = Control::open(dir.path()).unwrap().principal(&account, "ops").unwrap().unwrap();
    assert_eq!((principal.attached.as_slice(), principal.policies.len(), principal.created_ns), (&changed[..], 2, 1));
    let error = Attached::document("no", &deny.replace("Deny", "Denny")).unwrap_err();
    assert_eq!(error.place(), "Statement.Effect", "{error}");
    for (name, attached) in [("a b", &viewer[..]), ("", &viewer[..]), ("ops", &vec![viewer[0].clone(); 11][..])] {
        assert!(control.put_principal(&account, name, attached, 3).is_err(), "{name}");
    }

    assert!(matches!(control.delete_principal(&account, "ops", 4), Err(ControlError::PrincipalHasKeys { keys: 2, .. })));
    control.delete_access_key(&key.id, 4).unwrap();
    control.delete_access_key(&second.id, 4).unwrap();
    control.delete_principal(&account, "ops", 5).unwrap();
    assert_eq!(control.principals().unwrap(), []);
    assert!(matches!(control.delete_principal(&account, "ops", 5), Err(ControlError::NoPrincipal { .. })));
}

/// A deny that is not read would allow.
#[test]
fn a_policy_that_can_not_be_read_any_more_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let control = Control::open(dir.path()).unwrap();
    control.create_access_key(scope().0, "ops", None, 1).unwrap();
    for damaged in ["", "[{\"managed\":\"Owner\"}]", "[{\"document\":{\"name\":\"x\",\"text\":\"{\"}}]"] {
        control.lock().execute("UPDATE principals SET policies = ?1", [damaged]).unwrap();
        assert!(matches!(control.principal(&scope().0, "ops"), Err(ControlError::Damaged { .. })), "{damaged}");
    }
}

#[test]
fn a_token_gives_its_scopes_as_often_as_it_has_uses() {
    let dir = tempfile::tempdir().unwrap();
    let control = Control::open(dir.path()).unwrap();
    let text = control.create_token(&token(2), 1000).unwrap().text;
    for _ in 0..2 {
        assert_eq!(control.redeem_token(&text, 1001).unwrap(), Grant { scopes: vec![scope()], gateway: false });
    }
    assert!(matches!(control.redeem_token(&text, 1001), Err(ControlError::Token)));
}

#[test]
fn an_expired_unknown_or_altered_token_is_refused_alike() {
    let dir = tempfile::tempdir().unwrap();
    let control = Control::open(dir.path()).unwrap();
    let text = control.create_token(&token(1), 1000).unwrap().text;
    let altered = format!("{}{}", &text[..text.len() - 1], if text.ends_with('a') { 'b' } else { 'a' });
    for (token, now) in [(text.as_str(), 1100), (&altered, 1001), ("et1-00-aa", 1001), ("", 1001), ("et1", 1001)] {
        assert!(matches!(control.redeem_token(token, now), Err(ControlError::Token)), "{token}");
    }
    assert!(control.redeem_token(&text, 1001).is_ok(), "a refused attempt takes no use");
    let database = std::fs::read(dir.path().join("control.sqlite-wal")).unwrap();
    let secret = text.rsplit('-').next().unwrap().as_bytes();
    assert!(!database.windows(secret.len()).any(|window| window == secret), "the secret is not stored");
}

#[tokio::test]
async fn a_revocation_by_another_process_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let control = Control::open(dir.path()).unwrap();
    control.upsert_agent(&agent(1)).unwrap();
    let mut revoked = control.revoked();
    let stop = CancellationToken::new();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(control.clone().run(stop.clone()));

    Control::open(dir.path()).unwrap().revoke_agent(agent(1).id, 5).unwrap();
    let noticed = revoked.wait_for(|revoked| revoked.agents.contains(&agent(1).id));
    tokio::time::timeout(Duration::from_secs(5), noticed).await.expect("within 5 s").unwrap();
    assert_eq!(control.agent(agent(1).id).unwrap().unwrap().revoked_ns, Some(5));

    control.upsert_agent(&agent(1)).unwrap();
    assert!(revoked.borrow().agents.is_empty(), "a join with a token lifts it");
    stop.cancel();
    tasks.join_next().await.unwrap().unwrap().unwrap();
}

#[test]
fn a_trail_keeps_its_creation_time_and_its_tags() {
    let dir = tempfile::tempdir().unwrap();
    let control = Control::open(dir.path()).unwrap();
    let trail = TrailConfig {
        name: "default".to_owned(),
        arn: "arn:aws:cloudtrail:dc-local-1:111122223333:trail/default".to_owned(),
        home_region: "dc-local-1".to_owned(),
        account: "111122223333".to_owned(),
        bucket: "edgetrail".to_owned(),
        prefix: None,
        created_ns: 7,
        multi_region: true,
        validation: true,
        kms_key: None,
        log_interval: Duration::from_secs(300),
        log_bytes: 15 << 20,
        digest_interval: Duration::from_secs(3600),
        sink: SinkConfig::Directory { path: "trail".into() },
        tags: Default::default(),
    };
    control.put_trail(trail.clone()).unwrap();
    let changed = control.put_trail(TrailConfig { created_ns: 9, bucket: "other".to_owned(), ..trail.clone() }).unwrap();
    assert_eq!((changed.created_ns, changed.bucket.as_str()), (7, "other"));
    assert_eq!(control.trail("default").unwrap(), Some(changed.clone()));
    assert_eq!(control.trail(&trail.arn).unwrap(), Some(changed.clone()));
    assert_eq!(control.trails().unwrap(), std::slice::from_ref(&changed));
    assert_eq!(changed.definition().unwrap().arn.to_string(), trail.arn);
    let tags: Tags = serde_json::from_str(r#"{"team":"sre"}"#).unwrap();
    assert_eq!(control.retag(&trail.arn, |_| Ok::<_, ()>(tags.clone())).unwrap(), Some(Ok(())));
    assert_eq!(control.retag(&trail.arn, |_| Err("refused")).unwrap(), Some(Err("refused")));
    assert_eq!(control.retag("arn:absent", |_| Ok::<_, ()>(tags.clone())).unwrap(), None);
    assert_eq!(control.put_trail(trail).unwrap().tags, tags, "a start with the same configuration keeps them");
}

/// Two change something at one time: whoever is heard last has read last. While nobody may be told, the one that has read
/// holds the other back from changing anything, so that what it tells can't be older.
#[test]
fn of_two_that_publish_at_once_the_later_reading_is_heard_last() {
    let dir = tempfile::tempdir().unwrap();
    let control = Control::open(dir.path()).unwrap();
    let elsewhere = Control::open(dir.path()).unwrap();
    let revoked = control.revoked();
    for round in 0..20u8 {
        let (first, second) = (agent(2 * round + 1), agent(2 * round + 2));
        control.upsert_agent(&first).unwrap();
        control.upsert_agent(&second).unwrap();
        let told = revoked.borrow();
        std::thread::scope(|scope| {
            scope.spawn(|| control.revoke_agent(first.id, 1).unwrap());
            let until = std::time::Instant::now() + Duration::from_secs(60);
            let is_revoked = |id| elsewhere.agent(id).unwrap().is_some_and(|agent| agent.revoked_ns.is_some());
            while !is_revoked(first.id) || control.connection.try_lock().is_ok() {
                assert!(std::time::Instant::now() < until, "who has read lets another change it before it has told");
                std::thread::yield_now();
            }
            scope.spawn(|| control.revoke_agent(second.id, 1).unwrap());
            drop(told);
        });
        let known = revoked.borrow();
        assert!(known.agents.contains(&first.id) && known.agents.contains(&second.id), "round {round}: {known:?}");
    }
}
