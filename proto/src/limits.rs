//! Limits of the protocol, each with its unit and its source. No configuration goes below or above them: a sealed
//! batch is never refused for a limit that the agent could not have known.

use std::time::Duration;

/// Largest record an agent makes, in bytes. Source: CloudTrail's limit for a trail's record, 256 KB since 1.05.
pub const RECORD_BYTES_MAX: usize = 256 * 1024;

/// Largest record that was made elsewhere and keeps its own bytes, in bytes. Source: CloudTrail Lake's `Large` events, 1 MB.
pub const RECORD_BYTES_FOREIGN_MAX: usize = 1024 * 1024;

/// Most records in one batch. Source: docs/protocol.md §3.7.
pub const BATCH_RECORDS_MAX: usize = 1024;

/// Most record bytes in one batch: it is sealed before the record that would pass this. Source: docs/protocol.md §3.7.
pub const BATCH_BYTES_MAX: usize = 1024 * 1024;

/// Largest message on the wire, in bytes. Source: tonic's default decoding limit, 4 MiB.
pub const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Bytes that frame one record in a batch body: its length as u32, big-endian.
pub const RECORD_FRAME_BYTES: usize = 4;

/// Room in a message for all that is not the body: header, seal, open, certificates, receipts.
pub const MESSAGE_OVERHEAD_BYTES_MAX: usize = 1024 * 1024;

/// Deepest nesting of JSON that is read, in levels. Source: records in the wild stay below 12; serde_json stops at 128.
pub const JSON_DEPTH_MAX: usize = 64;

/// userAgent, errorCode, errorMessage and requestID are cut at this many bytes. Source: CloudTrail's field limits, 1 KB.
pub const STRING_FIELD_BYTES_MAX: usize = 1024;

/// requestParameters, responseElements and serviceEventDetails are omitted above this. Source: CloudTrail, 100 KB.
pub const PARAMETERS_BYTES_MAX: usize = 100 * 1024;

/// additionalEventData is omitted above this. Source: CloudTrail, 28 KB.
pub const ADDITIONAL_BYTES_MAX: usize = 28 * 1024;

/// Longest group commit: records become durable no later than this after they were made. Source: docs/protocol.md §3.7.
pub const COMMIT_INTERVAL: Duration = Duration::from_millis(100);

/// A batch is sealed this long after its first commit. Source: docs/protocol.md §3.7.
pub const SEAL_INTERVAL: Duration = Duration::from_secs(1);

/// An idle stream seals a heartbeat this often. Source: docs/protocol.md §3.7.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(60);

/// An expired certificate may be renewed by its key for this long, and what was opened with it until then is honest: a
/// host that was off opens its stream before it can renew. Source: docs/protocol.md §7.
pub const RENEWAL_GRACE: Duration = Duration::from_secs(30 * 24 * 3600);

/// Silence on a connection is flagged within this time. Source: docs/protocol.md §3.7.
pub const SILENCE_MAX: Duration = Duration::from_secs(15);

/// A t_sealed this far outside its receipts is a time finding. Source: docs/protocol.md §4.
pub const SEAL_TIME_TOLERANCE: Duration = Duration::from_secs(60);

/// Longest binding, in bytes: a gateway's token lists at most some hundred accounts and regions of 76 bytes each.
pub const BINDING_BYTES_MAX: usize = 64 * 1024;

/// Most streams of one agent that it names on resuming. An agent opens a stream per lost buffer, not per restart.
pub const STREAMS_NAMED_MAX: usize = 256;

/// Most batches without a receipt that an agent names on resuming, newest first.
pub const BATCHES_NAMED_MAX: usize = 4096;

const _: () = assert!(RECORD_BYTES_MAX <= RECORD_BYTES_FOREIGN_MAX);
const _: () = assert!(RECORD_BYTES_FOREIGN_MAX <= BATCH_BYTES_MAX, "the largest record must fit a batch of its own");
const _: () = assert!(
    BATCH_BYTES_MAX + BATCH_RECORDS_MAX * RECORD_FRAME_BYTES + MESSAGE_OVERHEAD_BYTES_MAX < MESSAGE_BYTES_MAX,
    "a full batch, even one that does not compress, must fit one message"
);
const _: () = assert!(STREAMS_NAMED_MAX * 1024 + BATCHES_NAMED_MAX * 56 < MESSAGE_BYTES_MAX, "a resume must fit one message");
