//! What a configuration is refused for, and that the documented one is the default.

use super::*;

fn layer(name: &str, text: &str) -> Layer {
    Layer { name: name.to_owned(), text: text.to_owned() }
}

fn errors(text: &str, variables: &[(&str, &str)]) -> Vec<String> {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    match Config::parse(&[layer("agent.toml", text)], variables) {
        Ok(_) => Vec::new(),
        Err(ConfigError::Keys(errors)) => errors,
        Err(other) => panic!("{other}"),
    }
}

fn parse(text: &str) -> Config {
    Config::parse(&[layer("agent.toml", text)], []).unwrap()
}

#[test]
fn the_documented_sample_says_the_defaults() {
    let sample = include_str!("../../../docs/agent.toml");
    let documented = parse(sample);
    let default = parse("");
    assert_eq!(Config { sources: Sources { file: Vec::new(), ..documented.sources.clone() }, ..documented }, default);
}

/// The section of a proxy as the sample shows it, its comments taken away.
#[test]
fn the_documented_proxy_says_the_defaults() {
    let sample = include_str!("../../../docs/agent.toml");
    let (_, section) = sample.split_once("# [[sources.proxy]]").unwrap();
    let lines = section.lines().skip(1).take_while(|line| line.starts_with("# ")).map(|line| line.trim_start_matches("# "));
    let plain: Vec<&str> =
        lines.take_while(|line| !line.starts_with('[')).filter(|line| !line.split('=').next().unwrap().contains(',')).collect();
    let config = parse(&format!("[[sources.proxy]]\n{}\n", plain.join("\n")));
    let documented = config.sources.proxy.into_iter().next().unwrap();
    let named = proxy::Config {
        listen: documented.listen.clone(),
        upstream: documented.upstream.clone(),
        service: documented.service.clone(),
        openapi: documented.openapi.clone(),
        jwt_keys: documented.jwt_keys.clone(),
        ..proxy::Config::default()
    };
    assert_eq!(documented, named);
}

#[test]
fn the_sidecar_s_example_is_a_configuration() {
    let config = parse(include_str!("../../../examples/sidecar/agent.toml"));
    assert_eq!(config.sources.proxy[0].title(), "orders.example on 0.0.0.0:8080");
    assert!(
        errors("[[sources.proxy]]\nlisten = [\"127.0.0.1:1\"]\n", &[])
            .join("\n")
            .contains("sources.proxy: give `listen`, `upstream` and `service`")
    );
}

#[test]
fn every_error_is_found_at_once_with_its_line_and_the_nearest_key() {
    let found = errors(
        "[agent]\nstate_dirr = \"/x\"\nkeep_raw = 7\n[bufer]\nmax_bytes = 1\n[sources.audti]\nenabled = true\n[buffer]\nseal_interval = \"5 fortnights\"\n",
        &[],
    );
    let all = found.join("\n");
    assert_eq!(found.len(), 5, "{all}");
    assert!(all.contains("agent.toml:2: agent.state_dirr: unknown key `state_dirr`; did you mean `state_dir`?"), "{all}");
    assert!(all.contains("agent.toml:3: agent.keep_raw: invalid type: integer `7`, expected a boolean"), "{all}");
    assert!(all.contains("agent.toml:4: bufer: unknown section; did you mean `buffer`?"), "{all}");
    assert!(all.contains("sources.audti: unknown section; did you mean `audit`?"), "{all}");
    assert!(all.contains("agent.toml:9: buffer.seal_interval: "), "{all}");
}

#[test]
fn later_layers_win_key_by_key() {
    let files = [
        layer("agent.toml", "[agent]\nhost = \"a\"\nkeep_raw = true\n[sources.api]\nmode = \"0600\""),
        layer("agent.d/10.toml", "[agent]\nhost = \"b\""),
    ];
    let variables = [("EDGETRAIL_SOURCES__API__ENABLED", "false"), ("EDGETRAIL_SOCKET", "/run/x")];
    let config = Config::parse(&files, variables.map(|(name, value)| (name.to_owned(), value.to_owned()))).unwrap();
    assert_eq!(config.host.as_deref(), Some("b"));
    assert!(config.keep_raw && !config.sources.api.enabled);
    assert_eq!(config.sources.api.mode, "0600");
}

#[test]
fn a_wrong_variable_is_named() {
    let found = errors("", &[("EDGETRAIL_BUFFER__MAX_BYTE", "5")]);
    assert_eq!(found, ["  EDGETRAIL_BUFFER__MAX_BYTE: buffer.max_byte: unknown key `max_byte`; did you mean `max_bytes`?"]);
}

#[test]
fn the_collectors_sections_are_not_looked_into() {
    assert!(errors("[collector]\nanything = 1\n[trail]\nname = \"x\"", &[("EDGETRAIL_TRAIL__NAME", "x")]).is_empty());
}

#[test]
fn text_that_is_no_toml_is_named_by_its_line() {
    let found = errors("[agent]\nhost = ", &[]);
    assert!(found.len() == 1 && found[0].starts_with("  agent.toml:2: "), "{found:?}");
}

#[test]
fn limits_that_contradict_each_other_are_refused() {
    assert!(errors("[buffer]\nmax_bytes = \"1MiB\"", &[])[0].contains("buffer.max_bytes"));
    assert!(errors("[buffer]\nseal_interval = \"2s\"", &[])[0].contains("buffer.seal_interval"));
}
