//! What is wrong with a proxy that runs all the same, for `status`: a line for each.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Shared with whoever asks for it.
#[derive(Clone, Debug, Default)]
pub struct Standing(Arc<Mutex<BTreeMap<String, String>>>);

impl Standing {
    /// What is wrong now; `None` where nothing is.
    pub(super) fn say(&self, title: &str, trouble: Option<String>) {
        let mut troubles = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match trouble {
            Some(trouble) => drop(troubles.insert(title.to_owned(), trouble)),
            None => drop(troubles.remove(title)),
        }
    }

    /// All of it in one line; `None` where nothing is wrong.
    pub fn text(&self) -> Option<String> {
        let troubles = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lines: Vec<String> = troubles.iter().map(|(title, trouble)| format!("{title}: {trouble}")).collect();
        (!lines.is_empty()).then(|| lines.join("; "))
    }
}
