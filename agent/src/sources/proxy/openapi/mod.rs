//! Names of a service's operations, from the OpenAPI document that describes it.
//!
//! Only what names a request is read of a document: its paths, operationIds and base paths. What is above a bound is
//! refused with the bound; a document that can't be read never keeps a request from its service.

mod document;

mod routes;

mod yaml;

#[cfg(test)]
pub(super) mod tests;

use std::path::{Path, PathBuf};

pub use self::routes::{Matched, Operation, Routes};

/// Largest document, bytes. Source: GitHub's own description of its API has 12 MB.
pub const DOCUMENT_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// Why a document gives no names. `Display` says what to do.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    #[error("openapi {} can't be read: {cause}", path.display())]
    Unreadable { path: PathBuf, cause: std::io::Error },
    #[error("the document has more than {DOCUMENT_BYTES_MAX} bytes: give one that describes this service alone")]
    TooLarge,
    #[error("the document is neither JSON nor YAML: {0}")]
    Syntax(String),
    #[error("the document is not an OpenAPI description: give one of version 3, or Swagger 2.0")]
    NotOpenApi,
    #[error("the document does not have the shape of an OpenAPI description: {0}")]
    Shape(String),
    #[error(
        "the document has too many operations, more than {}: give one that describes this service alone",
        routes::OPERATIONS_MAX
    )]
    TooMany,
}

/// The routes of a file.
pub fn read(path: &Path) -> Result<Routes, DocumentError> {
    let unreadable = |cause| DocumentError::Unreadable { path: path.to_owned(), cause };
    if std::fs::metadata(path).map_err(unreadable)?.len() > DOCUMENT_BYTES_MAX {
        return Err(DocumentError::TooLarge);
    }
    parse(&std::fs::read(path).map_err(unreadable)?)
}

/// The routes of a document, in JSON or YAML.
pub fn parse(bytes: &[u8]) -> Result<Routes, DocumentError> {
    if bytes.len() as u64 > DOCUMENT_BYTES_MAX {
        return Err(DocumentError::TooLarge);
    }
    document::parse(bytes)?.routes()
}
