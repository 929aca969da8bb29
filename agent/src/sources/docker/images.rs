//! Which image each container of this host was made of: learned from its engines, asked for by who sees a container's id.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Images by the ids of their containers. Shared; what is not known is absent.
#[derive(Clone, Debug, Default)]
pub struct Images(Arc<Mutex<BTreeMap<String, String>>>);

/// Containers remembered; a full table begins anew.
const KNOWN_MAX: usize = 4096;

impl Images {
    pub fn learn(&self, container: &str, image: &str) {
        if container.is_empty() || image.is_empty() {
            return;
        }
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KNOWN_MAX && !known.contains_key(container) {
            known.clear();
        }
        known.insert(container.to_owned(), image.to_owned());
    }

    pub fn of(&self, container: &str) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(container).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_engine_said_is_known_to_all_and_the_table_is_bounded() {
        let images = Images::default();
        images.clone().learn("c1", "nginx:1");
        images.learn("c2", "");
        assert_eq!((images.of("c1").as_deref(), images.of("c2")), (Some("nginx:1"), None));
        for number in 0..=KNOWN_MAX {
            images.learn(&number.to_string(), "x");
        }
        assert_eq!((images.of("c1"), images.of(&KNOWN_MAX.to_string()).as_deref()), (None, Some("x")));
    }
}
