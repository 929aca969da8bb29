//! Configuration files and variables: a text is refused with its place or taken, by both programs.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (file, variables) = text.split_once('\0').unwrap_or((text, ""));
    let variables: Vec<(String, String)> = variables
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let layers = [edgetrail_fuzz::layer(file)];
    if let Err(error) = edgetrail_agent::config::Config::parse(&layers, variables.clone()) {
        assert!(!error.to_string().is_empty());
    }
    if let Err(error) = edgetrail_collector::config::Config::parse(&layers, variables) {
        assert!(!error.to_string().is_empty());
    }
});
