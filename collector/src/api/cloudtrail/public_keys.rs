//! ListPublicKeys: the keys that verify digests, of the region called, all on one page.

use axum::extract::State;
use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use super::failed;
use super::parameters::{read, seconds_down, seconds_up};
use crate::api::Api;
use crate::api::caller::Caller;
use crate::api::dispatch::now_seconds;
use crate::api::fault::Fault;
use crate::trails::PublicDigestKey;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Input {
    start_time: Option<f64>,
    end_time: Option<f64>,
    next_token: Option<String>,
}

pub(super) async fn list(api: &Api, caller: &Caller, input: Value) -> Result<Value, Fault> {
    let input: Input = read(input)?;
    if input.next_token.is_some() {
        return Err(Fault::client("InvalidTokenException", "no token was given out: all keys stand on one page"));
    }
    let now = now_seconds();
    // Down and up: a key that is valid in any part of the range belongs to it.
    let start = input.start_time.map_or(now, seconds_down);
    let end = input.end_time.map_or(now, seconds_up);
    if start > end {
        return Err(Fault::client("InvalidTimeRangeException", "StartTime is behind EndTime; each is now when it is not given"));
    }
    let (trails, region) = (api.parts().trails.clone(), caller.region.clone());
    let read = tokio::task::spawn_blocking(move || trails.public_keys(Some(region.as_str()), start, end)).await;
    let keys = read
        .map_err(|error| failed("the digest keys cannot be read", &error))?
        .map_err(|error| failed("the digest keys cannot be read", &error))?;
    Ok(shown(&keys))
}

/// `GET /v1/keys`: every key of every region, for auditors' tools. Public keys need no signature to be read.
pub(in crate::api) async fn all(State(api): State<Api>) -> Result<axum::Json<Value>, StatusCode> {
    let trails = api.parts().trails.clone();
    let read = tokio::task::spawn_blocking(move || trails.public_keys(None, 0, i64::MAX.cast_unsigned())).await;
    match read {
        Ok(Ok(keys)) => Ok(axum::Json(shown(&keys))),
        Ok(Err(error)) => {
            tracing::error!(error = &error as &dyn std::error::Error, "the digest keys cannot be read");
            Err(StatusCode::SERVICE_UNAVAILABLE)
        }
        Err(_panicked) => Err(StatusCode::SERVICE_UNAVAILABLE),
    }
}

fn shown(keys: &[PublicDigestKey]) -> Value {
    let listed = keys.iter().map(|key| {
        json!({
            "Value": STANDARD.encode(&key.der_pkcs1),
            "ValidityStartTime": key.not_before,
            "ValidityEndTime": key.not_after,
            "Fingerprint": key.fingerprint,
        })
    });
    json!({ "PublicKeyList": listed.collect::<Vec<_>>() })
}
