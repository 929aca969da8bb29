//! An answer in each of the three dialects.

use axum::body::Body;
use axum::response::Response;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use super::fault::{Fault, Protocol};
use super::xml::Document;

pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/x-amz-json-1.1");
pub(super) const XML: HeaderValue = HeaderValue::from_static("application/xml");
const STS_XML: HeaderValue = HeaderValue::from_static("text/xml");
pub(super) const STS_NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";

pub(super) fn json(value: &Value) -> Response {
    with_body(StatusCode::OK, JSON, value.to_string())
}

pub(super) fn s3_xml(document: Document) -> Response {
    with_body(StatusCode::OK, XML, document.finish())
}

pub(super) fn sts_xml(document: Document) -> Response {
    with_body(StatusCode::OK, STS_XML, document.finish())
}

/// A refusal as its protocol tells it.
pub(super) fn refusal(fault: &Fault, protocol: Protocol, resource: &str, request_id: Uuid) -> Response {
    match protocol {
        Protocol::Json => {
            let mut response =
                with_body(fault.status, JSON, json!({ "__type": fault.code, "message": fault.message }).to_string());
            response.headers_mut().insert(HeaderName::from_static("x-amzn-errortype"), HeaderValue::from_static(fault.code));
            response
        }
        Protocol::Query => {
            let kind = if fault.status.is_server_error() { "Receiver" } else { "Sender" };
            let mut document = Document::new("ErrorResponse", Some(STS_NAMESPACE));
            document.begin("Error").element("Type", kind).element("Code", fault.code).element("Message", &fault.message).end();
            document.element("RequestId", &request_id.to_string());
            with_body(fault.status, STS_XML, document.finish())
        }
        Protocol::S3 => {
            let mut document = Document::new("Error", None);
            document.element("Code", fault.code).element("Message", &fault.message).element("Resource", resource);
            document.element("RequestId", &request_id.to_string());
            with_body(fault.status, XML, document.finish())
        }
    }
}

/// The headers by which clients name a request when they ask about it. HEAD has no body, whatever was made.
pub(super) fn finished(mut response: Response, protocol: Protocol, method: &Method, request_id: Uuid) -> Response {
    let name = match protocol {
        Protocol::Json | Protocol::Query => "x-amzn-requestid",
        Protocol::S3 => "x-amz-request-id",
    };
    if let Ok(value) = HeaderValue::from_str(&request_id.to_string()) {
        response.headers_mut().insert(HeaderName::from_static(name), value);
    }
    if method == Method::HEAD {
        *response.body_mut() = Body::empty();
    }
    response
}

fn with_body(status: StatusCode, content_type: HeaderValue, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}
