//! What a request's head says of its own signature: key, scope, signed headers, time. Proves nothing yet.

use edgetrail_proto::identity::Region;
use http::HeaderMap;
use http::request::Parts;

use super::canonical::is_signing_parameter;
use super::{FUTURE_SECONDS_MAX, PAST_SECONDS_MAX, PRESIGNED_SECONDS_MAX, SigV4Error};
use crate::percent;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const TERMINATOR: &str = "aws4_request";
/// Most headers a request may sign; more is no client that we know.
const SIGNED_HEADERS_MAX: usize = 64;

/// The authorization of a request, as its head tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    pub access_key_id: String,
    pub scope: Scope,
    /// Lower case, sorted, as sent.
    pub signed_headers: Vec<String>,
    pub signature: [u8; 32],
    /// `YYYYMMDDTHHMMSSZ`, as sent.
    pub amz_date: String,
    /// The same, Unix seconds.
    pub signed_at: u64,
    pub payload: Payload,
    pub presented: Presented,
}

/// `DATE/REGION/SERVICE/aws4_request`: what the derived key is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// `YYYYMMDD`.
    pub date: String,
    pub region: Region,
    pub service: String,
}

/// Where the authorization stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presented {
    Header,
    /// In a URL, for a while.
    Presigned {
        expires_seconds: u64,
    },
}

/// What of the body is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Hash what arrives. `stated` is the caller's `X-Amz-Content-Sha256`, where it sent one.
    Hashed { stated: Option<String> },
    /// S3 only.
    Unsigned,
}

impl Claim {
    /// Reads a request's head. Whose key it is, and whether it signed this, is not asked yet.
    pub fn parse(head: &Parts) -> Result<Self, SigV4Error> {
        let query = head.uri.query().unwrap_or_default();
        let fields = match single(&head.headers, "authorization")? {
            Some(authorization) => Fields::from_header(authorization, &head.headers)?,
            None if percent::value_of(query, "X-Amz-Algorithm").is_some() => Fields::from_query(query)?,
            None => return Err(SigV4Error::Missing),
        };
        let claim = fields.into_claim(head)?;
        claim.check_signed_headers(head)?;
        Ok(claim)
    }

    /// Refuses a request that is too old or too new, before its body is read.
    pub fn check_time(&self, now: u64) -> Result<(), SigV4Error> {
        if self.signed_at > now.saturating_add(FUTURE_SECONDS_MAX) {
            return Err(SigV4Error::NotYetCurrent);
        }
        let age = now.saturating_sub(self.signed_at);
        match self.presented {
            Presented::Header if age > PAST_SECONDS_MAX => Err(SigV4Error::Expired),
            Presented::Presigned { expires_seconds } if age > expires_seconds => Err(SigV4Error::PresignedExpired),
            _ => Ok(()),
        }
    }

    /// S3 spells the canonical request in its own way.
    pub fn is_s3(&self) -> bool {
        self.scope.service == "s3"
    }

    fn check_signed_headers(&self, head: &Parts) -> Result<(), SigV4Error> {
        let signed = |name: &str| self.signed_headers.iter().any(|signed| signed == name);
        if !signed("host") {
            return Err(SigV4Error::UnsignedHeader("host".to_owned()));
        }
        match head.headers.keys().find(|name| name.as_str().starts_with("x-amz-") && !signed(name.as_str())) {
            Some(name) => Err(SigV4Error::UnsignedHeader(name.as_str().to_owned())),
            None => Ok(()),
        }
    }
}

/// The service a request is meant for, as far as its unproven head tells: decides in which protocol a refusal is told.
pub fn service_of(head: &Parts) -> Option<String> {
    let credential = match head.headers.get("authorization").and_then(|value| value.to_str().ok()) {
        Some(header) => header.split([' ', ',']).find_map(|part| part.strip_prefix("Credential=").map(str::to_owned)),
        None => percent::value_of(head.uri.query().unwrap_or_default(), "X-Amz-Credential"),
    }?;
    credential.rsplit('/').nth(1).map(str::to_owned)
}

/// The authorization's fields as text, wherever they were.
struct Fields {
    credential: String,
    signed_headers: String,
    signature: String,
    amz_date: String,
    expires: Option<String>,
    stated_hash: Option<String>,
    security_token: bool,
}

impl Fields {
    fn from_header(authorization: &str, headers: &HeaderMap) -> Result<Self, SigV4Error> {
        let rest = authorization.strip_prefix(ALGORITHM).ok_or_else(|| malformed("only AWS4-HMAC-SHA256 is supported"))?;
        let (mut credential, mut signed_headers, mut signature) = (None, None, None);
        for part in rest.split(',') {
            let (name, value) = part.trim().split_once('=').ok_or_else(|| malformed("a part is not NAME=VALUE"))?;
            let slot = match name {
                "Credential" => &mut credential,
                "SignedHeaders" => &mut signed_headers,
                "Signature" => &mut signature,
                _ => return Err(malformed("unknown part in the Authorization header")),
            };
            if slot.replace(value.to_owned()).is_some() {
                return Err(malformed("a part is given twice"));
            }
        }
        Ok(Self {
            credential: credential.ok_or_else(|| malformed("Credential is missing"))?,
            signed_headers: signed_headers.ok_or_else(|| malformed("SignedHeaders is missing"))?,
            signature: signature.ok_or_else(|| malformed("Signature is missing"))?,
            amz_date: single(headers, "x-amz-date")?.ok_or_else(|| malformed("X-Amz-Date is missing"))?.to_owned(),
            expires: None,
            stated_hash: single(headers, "x-amz-content-sha256")?.map(str::to_owned),
            security_token: headers.contains_key("x-amz-security-token"),
        })
    }

    fn from_query(query: &str) -> Result<Self, SigV4Error> {
        let (mut algorithm, mut credential, mut signed_headers, mut signature) = (None, None, None, None);
        let (mut amz_date, mut expires, mut stated_hash, mut token) = (None, None, None, None);
        for (name, value) in percent::pairs(query) {
            let slot = match name.as_slice() {
                b"X-Amz-Algorithm" => &mut algorithm,
                b"X-Amz-Credential" => &mut credential,
                b"X-Amz-SignedHeaders" => &mut signed_headers,
                b"X-Amz-Date" => &mut amz_date,
                b"X-Amz-Expires" => &mut expires,
                b"X-Amz-Content-Sha256" => &mut stated_hash,
                b"X-Amz-Security-Token" => &mut token,
                name if is_signing_parameter(name) => &mut signature,
                _ => continue,
            };
            let value = String::from_utf8(value).map_err(|_| malformed("a query parameter is not UTF-8"))?;
            if slot.replace(value).is_some() {
                return Err(malformed("a query parameter is given twice"));
            }
        }
        if algorithm.as_deref() != Some(ALGORITHM) {
            return Err(malformed("only AWS4-HMAC-SHA256 is supported"));
        }
        Ok(Self {
            credential: credential.ok_or_else(|| malformed("X-Amz-Credential is missing"))?,
            signed_headers: signed_headers.ok_or_else(|| malformed("X-Amz-SignedHeaders is missing"))?,
            signature: signature.ok_or_else(|| malformed("X-Amz-Signature is missing"))?,
            amz_date: amz_date.ok_or_else(|| malformed("X-Amz-Date is missing"))?,
            expires: Some(expires.ok_or_else(|| malformed("X-Amz-Expires is missing"))?),
            stated_hash,
            security_token: token.is_some(),
        })
    }

    fn into_claim(self, head: &Parts) -> Result<Claim, SigV4Error> {
        if self.security_token {
            return Err(SigV4Error::SessionToken);
        }
        let (access_key_id, scope) = parse_credential(&self.credential)?;
        let signed_at = parse_amz_date(&self.amz_date).ok_or_else(|| malformed("X-Amz-Date is not YYYYMMDDTHHMMSSZ"))?;
        if !self.amz_date.starts_with(&scope.date) {
            return Err(SigV4Error::Scope("its date is not that of X-Amz-Date".to_owned()));
        }
        let presented = match &self.expires {
            None => Presented::Header,
            Some(_) if scope.service != "s3" => return Err(SigV4Error::Missing),
            Some(text) => match text.parse() {
                Ok(expires_seconds) if (1..=PRESIGNED_SECONDS_MAX).contains(&expires_seconds) => {
                    Presented::Presigned { expires_seconds }
                }
                _ => return Err(malformed("X-Amz-Expires must be 1 to 604800 seconds")),
            },
        };
        let mut signature = [0; 32];
        hex::decode_to_slice(&self.signature, &mut signature).map_err(|_| malformed("the signature is not 64 hex digits"))?;
        let stated_hash = match (presented, self.stated_hash) {
            (Presented::Presigned { .. }, None) => single(&head.headers, "x-amz-content-sha256")?.map(str::to_owned),
            (_, stated) => stated,
        };
        Ok(Claim {
            access_key_id,
            payload: payload(stated_hash, &scope.service, presented)?,
            scope,
            signed_headers: parse_signed_headers(&self.signed_headers)?,
            signature,
            amz_date: self.amz_date,
            signed_at,
            presented,
        })
    }
}

fn parse_credential(credential: &str) -> Result<(String, Scope), SigV4Error> {
    // From the right: an access key id may not hold a slash, but a malformed one should be named, not shifted.
    let mut parts = credential.rsplitn(5, '/');
    let mut next = || parts.next().ok_or_else(|| malformed("the credential is not KEY/DATE/REGION/SERVICE/aws4_request"));
    let (terminator, service, region, date, key) = (next()?, next()?, next()?, next()?, next()?);
    if terminator != TERMINATOR {
        return Err(SigV4Error::Scope("it must end in aws4_request".to_owned()));
    }
    if key.is_empty() || key.len() > 128 || !key.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(malformed("the access key id is not alphanumeric"));
    }
    if date.len() != 8 || !date.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(SigV4Error::Scope("its date is not YYYYMMDD".to_owned()));
    }
    let region = region.parse().map_err(|_| SigV4Error::Scope("its region is not a lower-case label".to_owned()))?;
    Ok((key.to_owned(), Scope { date: date.to_owned(), region, service: service.to_owned() }))
}

fn parse_signed_headers(text: &str) -> Result<Vec<String>, SigV4Error> {
    let names: Vec<String> = text.split(';').map(str::to_owned).collect();
    let canonical =
        |name: &String| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic() && !byte.is_ascii_uppercase());
    let ascending = names.windows(2).all(|pair| matches!(pair, [left, right] if left < right));
    if names.len() <= SIGNED_HEADERS_MAX && names.iter().all(canonical) && ascending {
        Ok(names)
    } else {
        Err(malformed("SignedHeaders is not a sorted list of lower-case names"))
    }
}

fn payload(stated: Option<String>, service: &str, presented: Presented) -> Result<Payload, SigV4Error> {
    match stated.as_deref() {
        Some("UNSIGNED-PAYLOAD") if service == "s3" => Ok(Payload::Unsigned),
        Some("UNSIGNED-PAYLOAD") => Err(SigV4Error::UnsignedPayload),
        Some(text) if text.starts_with("STREAMING-") => Err(SigV4Error::StreamingPayload),
        None if matches!(presented, Presented::Presigned { .. }) => Ok(Payload::Unsigned),
        None if service == "s3" => Err(malformed("X-Amz-Content-Sha256 is missing")),
        _ => Ok(Payload::Hashed { stated }),
    }
}

/// `YYYYMMDDTHHMMSSZ` in Unix seconds.
fn parse_amz_date(text: &str) -> Option<u64> {
    let shaped = text.len() == 16
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 => byte == b'T',
            15 => byte == b'Z',
            _ => byte.is_ascii_digit(),
        });
    let civil = shaped.then(|| jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", text).ok())??;
    let time = civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    u64::try_from(time.timestamp().as_second()).ok()
}

/// A header that may come once only: two of a kind could be read differently by two readers.
fn single<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, SigV4Error> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| malformed("a header is not ASCII")),
        (Some(_), Some(_)) => Err(malformed(&format!("the header {name} is given twice"))),
    }
}

fn malformed(why: &str) -> SigV4Error {
    SigV4Error::Malformed(why.to_owned())
}
