//! What is posted, or read as a whole: cut, it is refused, or what is taken of it is the beginning of what was sent.

use std::collections::BTreeSet;
use std::io::Write as _;

use bytes::Bytes;
use edgetrail_agent::observation::{Observation, Payload, intake};
use edgetrail_agent::sources::api::{ApiSource, Config};
use edgetrail_agent::sources::audit::log;
use edgetrail_agent::sources::cloudtrail::document;
use edgetrail_agent::sources::docker::message;
use edgetrail_agent::sources::kubernetes;
use edgetrail_agent::sources::otlp::{Encoding, observations};
use edgetrail_proto::chain::Binding;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;

use crate::fixtures::{CLOUDTRAIL, EVENTS, files_below, folder_of};

/// Position and payload: all that makes a record.
fn told(observation: &Observation) -> String {
    format!("{} {:?}", observation.position, observation.payload)
}

/// A protobuf field that holds bytes.
fn field(number: u8, value: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, u8::try_from(value.len()).unwrap()], value].concat()
}

/// A log record with its time and a text as its body.
fn log_record(time: u64, text: &str) -> Vec<u8> {
    [&[9][..], &time.to_le_bytes(), &field(5, &field(1, text.as_bytes()))].concat()
}

#[test]
fn a_cut_request_of_otlp_is_refused_or_the_beginning_of_it() {
    let scope = |records: &[Vec<u8>]| field(2, &records.iter().flat_map(|record| field(2, record)).collect::<Vec<u8>>());
    let request = [
        field(1, &scope(&[log_record(1_700_000_000_000_000_000, "a"), log_record(1_700_000_000_000_000_001, "é")])),
        field(1, &scope(&[log_record(1_700_000_000_000_000_002, "c")])),
    ]
    .concat();
    let read = |bytes: &[u8], encoding| {
        let read = observations(&Bytes::copy_from_slice(bytes), encoding, 7).ok()?;
        Some(read.iter().map(told).collect::<Vec<String>>())
    };
    let whole = read(&request, Encoding::Protobuf).unwrap();
    assert_eq!(whole.len(), 3);
    for end in 0..request.len() {
        if let Some(cut) = read(&request[..end], Encoding::Protobuf) {
            assert!(whole.starts_with(&cut), "cut at {end}: {cut:?}");
            // Only where a list of one resource ends: what it held is whole.
            assert!(matches!(cut.len(), 0 | 2), "cut at {end}");
        }
    }
    let json = r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"1","body":{"stringValue":"é"}}]}]}]}"#;
    assert_eq!(read(json.as_bytes(), Encoding::Json).unwrap().len(), 1);
    let shared = folder_of("otlp_logs").map(|folder| files_below(&folder, "json")).unwrap_or_default();
    let shared = shared.iter().map(|path| std::fs::read_to_string(path).unwrap());
    for json in shared.chain([json.to_owned()]) {
        let json = json.trim_end();
        for end in 0..json.len() {
            assert_eq!(read(&json.as_bytes()[..end], Encoding::Json), None, "cut at {end}");
        }
    }
}

#[test]
fn a_cut_list_of_kubernetes_is_refused() {
    let list = r#"{"kind":"EventList","metadata":{},"items":[{"auditID":"a","user":{"username":"é"}},{"auditID":"b"}]}"#;
    for end in 0..list.len() {
        assert!(kubernetes::events(&Bytes::copy_from_slice(&list.as_bytes()[..end])).is_err(), "cut at {end}");
    }
}

#[test]
fn an_envelope_of_containerd_says_less_where_it_is_cut_and_nothing_else() {
    let event = [field(1, b"c1"), field(2, b"image:1")].concat();
    let any = [field(1, b"containerd.events.ContainerCreate"), field(2, &event)].concat();
    let time = [8, 0x80, 0xe2, 0xcf, 0xaa, 6];
    let envelope = [field(1, &time), field(2, b"k8s.io"), field(3, b"/containers/create"), field(4, &any)].concat();
    let whole = message::event(&envelope).unwrap();
    assert_eq!((&whole["object"], &whole["image"]), (&"c1".into(), &"image:1".into()));
    for end in 0..envelope.len() {
        // gRPC counts its bytes: a part that ends with a field never comes from it.
        let Some(part) = message::event(&envelope[..end]) else { continue };
        for name in ["object", "image", "details"] {
            assert!(part.get(name).is_none(), "cut at {end}: {part:?}");
        }
    }
}

#[test]
fn a_cut_log_file_of_cloudtrail_is_no_whole_one() {
    let list = format!("{{\"Records\":[{}]}}", CLOUDTRAIL.join(","));
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(list.as_bytes()).unwrap();
    let packed = encoder.finish().unwrap();
    for end in 1..packed.len() {
        let cut = document::expanded(packed[..end].to_vec());
        // Less than gzip's mark is no gzip, nor a record.
        assert!(cut.is_err() || document::records(&cut.unwrap()).is_err(), "cut at {end} of {}", packed.len());
    }
    assert_eq!(document::records(&document::expanded(packed).unwrap()).unwrap(), CLOUDTRAIL.map(str::as_bytes));
    for end in 1..list.len() {
        assert!(document::records(&list.as_bytes()[..end]).is_err(), "cut at {end}");
    }
    let shared = folder_of("cloudtrail/delivered-gz").map(|folder| files_below(&folder, "gz")).unwrap_or_default();
    for path in shared {
        let packed = std::fs::read(path).unwrap();
        for end in 2..packed.len() {
            assert!(document::expanded(packed[..end].to_vec()).is_err(), "cut at {end}");
        }
    }
    // Lines are whole behind each of them, and are then not known to be all.
    let lines = CLOUDTRAIL.join("\n");
    for end in 1..=lines.len() {
        let bytes = &lines.as_bytes()[..end];
        assert!(!document::has_an_end(bytes, bytes), "cut at {end}");
        if let Ok(records) = document::records(bytes) {
            assert!(CLOUDTRAIL.map(str::as_bytes).starts_with(&records), "cut at {end}");
        }
    }
}

/// The serials of audit events that have a line in a text, a cut line being one.
fn serials(text: &str) -> BTreeSet<&str> {
    text.lines()
        .filter_map(|line| line.split_once("msg=audit(")?.1.split_once(')'))
        .map(|(stamp, _)| stamp)
        .filter(|stamp| stamp.contains(':'))
        .collect()
}

/// The events before the one that is cut are what they are without the cut.
#[test]
fn a_cut_audit_log_keeps_the_events_before_it() {
    // Without what other events say of the same act: the follower waits for it, this reader of a whole log does not.
    let told = |observation: &Observation| match &observation.payload {
        Payload::Audit(event) => format!("{} {:?} {}", observation.position, event.records, event.complete),
        _ => told(observation),
    };
    let read = |text: &str| {
        let mut found = Vec::new();
        log::parse(text.as_bytes(), |observation| found.push(observation)).unwrap();
        found
    };
    let own = files_below(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/audit").as_ref(), "log");
    let shared = folder_of("linux_audit").map(|folder| files_below(&folder, "log")).unwrap_or_default();
    let mut checked = 0;
    // One of them tests parsers with stamps that are none.
    let shared = shared.into_iter().filter(|path| !path.ends_with("selinux.log"));
    for path in own.into_iter().chain(shared) {
        let text: String = std::fs::read_to_string(&path).unwrap().split_inclusive('\n').take(12).collect();
        let whole: Vec<String> = read(&text).iter().map(told).collect();
        for end in (0..text.len()).filter(|end| text.is_char_boundary(*end)) {
            let line_start = text[..end].rfind('\n').map_or(0, |at| at + 1);
            // Of these something is missing: the line that is cut and all behind it.
            let cut = serials(&text[line_start..]);
            let found = read(&text[..end]);
            let is_whole = |observation: &&Observation| {
                let is_line = matches!(observation.payload, Payload::Unparsed(_));
                !is_line && !cut.iter().any(|stamp| observation.position.ends_with(stamp))
            };
            let found: Vec<String> = found.iter().filter(is_whole).map(told).collect();
            let mut expected: BTreeSet<&str> = &serials(&text[..line_start]) - &cut;
            // Lines that are none of audit's are unparsed, cut or not.
            expected.retain(|stamp| whole.iter().any(|told| told.contains(stamp)));
            let positions: BTreeSet<&str> = found
                .iter()
                .map(|told| expected.iter().find(|stamp| told.contains(**stamp)).copied().unwrap_or("another"))
                .collect();
            assert_eq!(positions, expected, "{} cut at {end}", path.display());
            assert!(found.iter().all(|one| whole.contains(one)), "{} cut at {end}: {found:?}", path.display());
            checked += found.len();
        }
    }
    assert!(checked > 1000, "{checked}");
}

/// Whether a body is framed by its length or in chunks.
#[tokio::test]
async fn a_cut_post_is_refused_and_records_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let binding = Binding::one("111122223333".parse().unwrap(), "dc-local-1".parse().unwrap(), "web-1").unwrap();
    let source = ApiSource::open(&Config::default(), dir.path(), &binding).await.unwrap();
    let (intake, mut outlet) = intake();
    let stop = CancellationToken::new();
    let serving = source.run(intake, stop.clone());
    let asking = async {
        let body = format!("[{}]", EVENTS.join(","));
        for (head, body) in [
            (format!("content-length: {}", body.len()), body.clone()),
            ("transfer-encoding: chunked".to_owned(), format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len())),
        ] {
            for end in 0..body.len() {
                let mut stream = UnixStream::connect(dir.path().join("api.sock")).await.unwrap();
                let request = format!("POST /v1/events HTTP/1.1\r\nhost: x\r\n{head}\r\n\r\n");
                stream.write_all(&[request.as_bytes(), &body.as_bytes()[..end]].concat()).await.unwrap();
                stream.shutdown().await.unwrap();
                let mut reply = Vec::new();
                stream.read_to_end(&mut reply).await.unwrap();
                assert!(!reply.starts_with(b"HTTP/1.1 2"), "{head} cut at {end}: {}", String::from_utf8_lossy(&reply));
            }
        }
        stop.cancel();
    };
    let (served, ()) = tokio::join!(serving, asking);
    served.unwrap();
    assert!(outlet.recv().await.is_none(), "something was recorded");
}
