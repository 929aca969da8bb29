//! Policies in IAM's language, with a request: lines ACTION, RESOURCE, a condition key's value, then the policy.
#![no_main]

use edgetrail_policy::{Context, Decision, Managed, Policy, Request, decide};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut lines = text.splitn(4, '\n');
    let (Some(action), Some(resource), Some(value)) = (lines.next(), lines.next(), lines.next()) else { return };
    let mut context = Context::default();
    for key in ["aws:username", "aws:SourceIp", "aws:CurrentTime", "aws:SecureTransport", "aws:PrincipalTag/team", "s3:max-keys"]
    {
        context.set(key, [value]);
    }
    context.set("aws:TagKeys", value.split(','));
    context.set("aws:PrincipalAccount", ["111122223333"]);
    context.set("aws:ResourceAccount", ["444455556666"]);
    let request = Request { action, resource, context: &context };
    for managed in Managed::ALL {
        assert!(!decide([managed.policy()], None, &request).is_allowed(), "a managed policy allows another account");
    }
    let Ok(policy) = Policy::parse(lines.next().unwrap_or_default()) else { return };
    let alone = decide([&policy], None, &request);
    let narrowed = decide([&policy], Some(&policy), &request);
    // Looked at twice, it may take more work than a decision may.
    assert!(narrowed == alone || narrowed == Decision::NotAllowed, "a policy narrows itself");
    assert!(!decide([], Some(&policy), &request).is_allowed(), "a session alone allows");
    let beside = decide([&policy, Managed::Administrator.policy()], None, &request);
    assert_eq!(matches!(alone, Decision::Denied { .. }), matches!(beside, Decision::Denied { .. }), "an allow changes a deny");
});
