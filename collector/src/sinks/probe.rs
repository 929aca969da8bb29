//! Proof, at start, that a store's conditional PUT refuses the second write.
//!
//! Exactly-once delivery rests on it, and some stores accept `If-None-Match` and overwrite all the same. The probe's
//! object lies beside the trail's own folders, under the account, where the bucket policy that tools write for
//! CloudTrail allows it, and stays: the next start is then answered by a single refused PUT.

use bytes::Bytes;
use edgetrail_proto::keys::TrailPaths;

use super::{ObjectMeta, Put, Sink, SinkError};

/// What somebody who finds the object reads.
const TEXT: &[u8] = b"Edgetrail writes this object to prove that the store refuses to overwrite. It may be deleted.\n";

pub(super) async fn prove_conditional_put(sink: &Sink, prefix: Option<&str>, account: &str) -> Result<(), SinkError> {
    let key = TrailPaths { prefix: prefix.map(str::to_owned), org: None }.probe_key(account);
    let meta = ObjectMeta { content_type: "text/plain".to_owned(), ..ObjectMeta::default() };
    for _ in 0..2 {
        match sink.put_new(&key, Bytes::from_static(TEXT), &meta).await? {
            Put::Exists => return Ok(()),
            Put::Created => {}
        }
    }
    let bucket = match sink {
        Sink::Directory(directory) => directory.bucket().to_owned(),
        Sink::S3(s3) => s3.bucket().to_owned(),
        #[cfg(test)]
        Sink::Double(_) => "double".to_owned(),
    };
    Err(SinkError::ConditionalPutIgnored { bucket })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::{Directory, Double, Fault};

    #[tokio::test]
    async fn a_store_that_overwrites_is_named() {
        let double = Double::default();
        let sink = Sink::Double(double.clone());
        sink.probe(None, "111122223333").await.unwrap();
        sink.probe(None, "111122223333").await.unwrap();

        let careless = Double::default();
        careless.fault(Fault::Overwrites);
        let error = Sink::Double(careless).probe(None, "111122223333").await.unwrap_err();
        assert_eq!(error.code(), "ConditionalPutIgnored");
        assert!(error.needs_operator());
    }

    #[tokio::test]
    async fn a_directory_passes() {
        let dir = tempfile::tempdir().unwrap();
        let sink = Sink::Directory(Directory::new(dir.path(), "b").unwrap());
        sink.probe(Some("p/q"), "111122223333").await.unwrap();
        assert!(dir.path().join("b/p/q/AWSLogs/111122223333/edgetrail/conditional-put-probe").exists());
    }
}
