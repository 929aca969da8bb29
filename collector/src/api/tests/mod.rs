//! The API over a real ledger, real trails and real TLS; spoken to by the unmodified AWS CLI and boto3.

mod authority;
mod bench;
mod clients;
mod raw;
mod refusals;
