//! Audit events of PutAuditEvents: an eventData is refused, or kept byte for byte in a record with facets.
#![no_main]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, LazyLock};

use edgetrail_agent::observation::{Observation, Payload, SourceName};
use edgetrail_agent::sources::api::audit_events::{AuditEvent, Channel, ChannelConfig, Signer, check};
use edgetrail_fuzz::Bench;
use edgetrail_proto::chain::Binding;
use edgetrail_settings::Parsed;
use libfuzzer_sys::fuzz_target;

static CHANNEL: LazyLock<Arc<Channel>> = LazyLock::new(|| {
    let arn = "arn:aws:cloudtrail:dc-local-1:111122223333:channel/shop".parse().expect("an ARN");
    let binding = Binding::one("111122223333".parse().expect("twelve digits"), "dc-local-1".parse().expect("a label"), "web-1");
    Arc::new(Channel::new(&ChannelConfig { arn: Parsed(arn), external_id: None }, &binding.expect("a binding")))
});

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(checked) = check(text, None, CHANNEL.arn.account()) else { return };
    let signer = Signer {
        access_key_id: "AKIAGATEWAY000000001".to_owned(),
        principal: "shop".into(),
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
    };
    let event = AuditEvent { event_data: bytes.to_vec().into(), channel: Arc::clone(&CHANNEL), signer, received: 0 };
    Bench::default().judge(&Observation {
        source: SourceName::Api,
        position: "1".to_owned(),
        time: checked.event_time,
        payload: Payload::AuditEvent(event),
        cursor: None,
        answer: None,
    });
});
