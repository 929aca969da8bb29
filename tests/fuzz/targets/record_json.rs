//! Records: what is read is written back to the same bytes for ever after; facets are read of the same ones.
#![no_main]

use edgetrail_proto::facets::Facets;
use edgetrail_proto::record::Record;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let facets = Facets::parse(bytes);
    let Ok(record) = Record::from_json(bytes) else {
        return;
    };
    let written = record.to_json();
    let again = Record::from_json(&written).unwrap_or_else(|error| panic!("what was written can't be read: {error}"));
    assert_eq!(again.to_json(), written);
    // Facets refuse more: a member that stands twice, say, which readers may take for either.
    if let Ok(facets) = facets {
        assert_eq!(facets.region, record.aws_region);
    }
    let (mut fitted, json) = (record, written);
    assert!(fitted.to_fitted_json().len() <= json.len().max(edgetrail_proto::limits::RECORD_BYTES_MAX));
});
