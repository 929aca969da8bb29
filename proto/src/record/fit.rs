//! Cuts a record to CloudTrail's limits. Source: CloudTrail's field limits and, for the whole, Lake's order.
//!
//! A string is cut at a character; an object is replaced whole, so that JSON stays JSON, by a note of its size and
//! hash. Nothing is dropped without a trace, and a record that fits is not touched.

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::Record;
use crate::limits::{ADDITIONAL_BYTES_MAX, PARAMETERS_BYTES_MAX, RECORD_BYTES_MAX, STRING_FIELD_BYTES_MAX};

/// A string that still stands in the way of the record's limit is cut to this many bytes.
const STRING_REMNANT_BYTES: usize = 64;

impl Record {
    /// Brings every field, then the whole record, under its limit. Only for records made here: one made elsewhere
    /// keeps its bytes.
    pub fn fit(&mut self) {
        self.fit_fields();
        self.fit_whole();
    }

    fn fit_fields(&mut self) {
        for field in [&mut self.user_agent, &mut self.error_code, &mut self.error_message, &mut self.request_id] {
            cut(field, STRING_FIELD_BYTES_MAX);
        }
        for field in [&mut self.request_parameters, &mut self.response_elements, &mut self.service_event_details] {
            omit_above(field, PARAMETERS_BYTES_MAX);
        }
        omit_above(&mut self.edge_device_details, ADDITIONAL_BYTES_MAX);
        omit_members_above(&mut self.additional_event_data, ADDITIONAL_BYTES_MAX);
    }

    /// In CloudTrail's order, one field after another until the record fits.
    fn fit_whole(&mut self) {
        let steps: [fn(&mut Self); 12] = [
            |it| cut(&mut it.request_id, STRING_REMNANT_BYTES),
            |it| omit_members_above(&mut it.additional_event_data, STRING_REMNANT_BYTES),
            |it| omit_above(&mut it.service_event_details, STRING_REMNANT_BYTES),
            |it| cut(&mut it.user_agent, STRING_REMNANT_BYTES),
            |it| cut(&mut it.error_code, STRING_REMNANT_BYTES),
            |it| omit_above(&mut it.event_context, STRING_REMNANT_BYTES),
            |it| omit_above(&mut it.response_elements, STRING_REMNANT_BYTES),
            |it| omit_above(&mut it.request_parameters, STRING_REMNANT_BYTES),
            |it| cut(&mut it.error_message, STRING_REMNANT_BYTES),
            // What CloudTrail's order does not name, so that nothing at all is left over the limit.
            |it| {
                [&mut it.addendum, &mut it.edge_device_details, &mut it.tls_details]
                    .into_iter()
                    .for_each(|field| omit_above(field, STRING_REMNANT_BYTES))
            },
            |it| {
                it.resources = it.resources.take().map(|mut all| {
                    all.truncate(16);
                    all
                })
            },
            |it| it.unknown.clear(),
        ];
        for step in steps {
            if self.to_json().len() <= RECORD_BYTES_MAX {
                return;
            }
            step(self);
        }
    }
}

/// Cuts a string at the last character that fits.
fn cut(field: &mut Option<String>, bytes: usize) {
    if let Some(text) = field {
        text.truncate(text.floor_char_boundary(bytes));
    }
}

fn omit_above(field: &mut Option<Value>, bytes: usize) {
    let Some(value) = field else { return };
    let text = value.to_string();
    if text.len() > bytes {
        *value = Value::Object(note(&text));
    }
}

fn omit_members_above(field: &mut Option<Map<String, Value>>, bytes: usize) {
    let Some(members) = field else { return };
    let text = json!(members).to_string();
    if text.len() > bytes {
        let mut note = note(&text);
        // Who made the record stays known: agent, host and source are short.
        if let Some(origin) = members.remove("edgetrail") {
            let origin = match origin {
                Value::Object(mut origin) => {
                    origin.remove("raw");
                    Value::Object(origin)
                }
                other => other,
            };
            note.insert("edgetrail".to_owned(), origin);
        }
        *members = note;
    }
}

/// What stands for an omitted object: its compact text's size and hash.
fn note(text: &str) -> Map<String, Value> {
    let mut note = Map::new();
    note.insert("omitted".to_owned(), Value::Bool(true));
    note.insert("edgetrailBytes".to_owned(), Value::from(text.len()));
    note.insert("edgetrailSha256".to_owned(), Value::String(hex::encode(Sha256::digest(text))));
    note
}
