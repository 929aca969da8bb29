//! CloudTrail's API, the S3 face and STS on one port.

mod percent;
mod sigv4;
