//! What an exporter is answered, in the way in which it asked. Source: OTLP specification, responses and failures.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use prost::Message as _;
use serde_json::json;

use super::grpc;
use super::message::{Delay, Detail, RetryInfo, Status};
use super::request::{Encoding, RequestError};
use crate::sources::listener::{BodyError, Reply, ReplyBody};

/// How a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    Grpc,
    Protobuf,
    Json,
}

/// Why a request was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Not now: all of it is to be sent again.
    Again { retry_after_s: u64 },
    /// It can't be read, and never will.
    Invalid { message: String },
    /// It is more than is taken at once.
    TooLarge { message: String },
    /// Not a request for logs.
    Unsupported { status: StatusCode, message: String },
}

/// gRPC's codes. Source: google.rpc.Code.
const INVALID_ARGUMENT: i32 = 3;
const RESOURCE_EXHAUSTED: i32 = 8;
const UNIMPLEMENTED: i32 = 12;
const UNAVAILABLE: i32 = 14;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// Seconds after which to try again where nothing better is known.
const RETRY_AFTER_S: u64 = 1;

impl From<BodyError> for Refusal {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::Broken | BodyError::Slow | BodyError::Busy => Self::Again { retry_after_s: RETRY_AFTER_S },
            BodyError::TooLarge { .. } => Self::TooLarge { message: error.to_string() },
            BodyError::Encoding { .. } | BodyError::Compressed { .. } => Self::Invalid { message: error.to_string() },
        }
    }
}

impl From<RequestError> for Refusal {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::TooMany => Self::TooLarge { message: error.to_string() },
            RequestError::NotProtobuf | RequestError::NotJson(_) => Self::Invalid { message: error.to_string() },
        }
    }
}

impl Refusal {
    pub(super) const fn is_retryable(&self) -> bool {
        matches!(self, Self::Again { .. })
    }

    pub(super) fn message(&self) -> &str {
        match self {
            Self::Again { .. } => "nothing is lost: send the whole request again",
            Self::Invalid { message } | Self::TooLarge { message } | Self::Unsupported { message, .. } => message,
        }
    }

    const fn http(&self) -> StatusCode {
        match self {
            Self::Again { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::Invalid { .. } => StatusCode::BAD_REQUEST,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Unsupported { status, .. } => *status,
        }
    }

    /// The status; one that is to be retried says when, for without that a client need not try.
    fn status(&self) -> Status {
        let code = match self {
            Self::Again { .. } => UNAVAILABLE,
            Self::Invalid { .. } => INVALID_ARGUMENT,
            Self::TooLarge { .. } => RESOURCE_EXHAUSTED,
            Self::Unsupported { .. } => UNIMPLEMENTED,
        };
        let detail = |seconds: u64| Detail {
            type_url: "type.googleapis.com/google.rpc.RetryInfo".to_owned(),
            value: RetryInfo { retry_delay: Some(Delay { seconds: i64::try_from(seconds).unwrap_or(i64::MAX) }) }.encode_to_vec(),
        };
        let details = if let Self::Again { retry_after_s } = self { vec![detail(*retry_after_s)] } else { Vec::new() };
        Status { code, message: self.message().to_owned(), details }
    }
}

impl Wire {
    pub(super) const fn encoding(self) -> Encoding {
        match self {
            Self::Grpc | Self::Protobuf => Encoding::Protobuf,
            Self::Json => Encoding::Json,
        }
    }

    const fn content_type(self) -> HeaderValue {
        match self {
            Self::Grpc => HeaderValue::from_static("application/grpc"),
            Self::Protobuf => HeaderValue::from_static("application/x-protobuf"),
            Self::Json => HeaderValue::from_static("application/json"),
        }
    }

    /// All of it is durable.
    pub(super) fn taken(self) -> Reply {
        let body = match self {
            Self::Grpc => ReplyBody::new(grpc::EMPTY).with_trailers(HeaderMap::from_iter([(GRPC_STATUS, HeaderValue::from(0))])),
            Self::Protobuf => ReplyBody::default(),
            Self::Json => ReplyBody::new("{}"),
        };
        self.reply(StatusCode::OK, body)
    }

    /// None of it counts as taken.
    pub(super) fn refused(self, refusal: &Refusal) -> Reply {
        let status = refusal.status();
        let mut reply = match self {
            // Without a message the trailers are the head.
            Self::Grpc => {
                let mut reply = self.reply(StatusCode::OK, ReplyBody::default());
                reply.headers_mut().extend(trailers(&status));
                reply
            }
            Self::Protobuf => self.reply(refusal.http(), ReplyBody::new(status.encode_to_vec())),
            Self::Json => {
                let body = json!({"code": status.code, "message": status.message}).to_string();
                self.reply(refusal.http(), ReplyBody::new(body))
            }
        };
        if let Refusal::Again { retry_after_s } = refusal {
            reply.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(*retry_after_s));
        }
        reply
    }

    fn reply(self, status: StatusCode, body: ReplyBody) -> Reply {
        let mut reply = Response::new(body);
        *reply.status_mut() = status;
        reply.headers_mut().insert(header::CONTENT_TYPE, self.content_type());
        reply
    }
}

fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::from_iter([(GRPC_STATUS, HeaderValue::from(status.code))]);
    // Percent-encoded outside of printable ASCII: what is left out of a message costs less than a broken head.
    let message: String =
        status.message.chars().map(|c| if c.is_ascii_graphic() && c != '%' || c == ' ' { c } else { '_' }).collect();
    if let Ok(message) = HeaderValue::from_str(&message) {
        trailers.insert(HeaderName::from_static("grpc-message"), message);
    }
    if let Ok(details) = HeaderValue::from_str(&STANDARD_NO_PAD.encode(status.encode_to_vec())) {
        trailers.insert(HeaderName::from_static("grpc-status-details-bin"), details);
    }
    trailers
}
