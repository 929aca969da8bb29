//! Settings as both programs read them: a TOML file, its drop-ins, then `EDGETRAIL_SECTION__KEY` variables.
//!
//! Later layers win key by key. Every error is found at once and names its file and line; an unknown key names the
//! nearest known one. What a key means, its default and its bounds are the programs' own: this crate knows no section.

mod document;
mod layers;
mod units;

pub use document::Document;
pub use layers::{Layer, LayerError, layers, variables};
pub use units::{Parsed, Size, Span, duration};
