//! What a configuration is refused for, and that the documented one is the default.

use super::*;

const MINIMAL: &str = "[collector]\naccount = \"111122223333\"\nregion = \"dc-local-1\"\n";

fn layer(text: &str) -> Layer {
    Layer { name: "collector.toml".to_owned(), text: text.to_owned() }
}

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(&[layer(text)], [])
}

fn errors(text: &str) -> Vec<String> {
    match parse(text).unwrap_err() {
        ConfigError::Keys(errors) => errors,
        other => panic!("{other}"),
    }
}

#[test]
fn account_and_region_are_all_that_must_be_said() {
    let config = parse(MINIMAL).unwrap();
    assert_eq!(config.ingest.listen.port(), INGEST_PORT);
    assert_eq!(config.trail.digest_interval, DIGEST_INTERVAL);
    assert_eq!(config.trail.sink, SinkConfig::Directory { path: "/var/lib/edgetrail-collector/trail".into() });
    assert!(config.warnings.is_empty());
}

#[test]
fn every_error_is_found_at_once_and_names_its_key() {
    let errors = errors(
        "[collector]\naccount = \"12\"\nstate_dri = \"/x\"\n[trial]\nname = \"x\"\n[trail]\ndigest_interval = \"5s\"\nlog_interval = \"soon\"\n[api]\nlisten = \"here\"\n[buffer]\nanything = 1\n",
    );
    let all = errors.join("\n");
    for expected in [
        "collector.account: `12` is not an account",
        "collector.region: missing",
        "collector.toml:3: collector.state_dri: unknown key `state_dri`; did you mean `state_dir`?",
        "trial: unknown section; did you mean `trail`?",
        "trail.digest_interval: give whole seconds, 60 s or more",
        "trail.log_interval: invalid value: string \"soon\", expected a duration",
        "api.listen: ",
    ] {
        assert!(all.contains(expected), "{expected} is missing in\n{all}");
    }
    assert_eq!(errors.len(), 7, "the agent's sections are none of ours:\n{all}");
}

#[test]
fn a_trail_that_no_reader_could_name_is_refused_with_its_key() {
    let errors = errors(&format!("{MINIMAL}[trail]\nname = \"my trail\"\nbucket = \"My_Bucket\"\nprefix = \"/logs/\"\n"));
    let all = errors.join("\n");
    for expected in [
        "trail.name: ",
        "trail.bucket: `My_Bucket` is not the name of a bucket: it must hold only lower-case letters",
        "trail.prefix: `/logs/` is not a key prefix: it must neither begin nor end with a slash",
    ] {
        assert!(all.contains(expected), "{expected} is missing in\n{all}");
    }
    assert_eq!(errors.len(), 3, "{all}");
    assert_eq!(parse(&format!("{MINIMAL}[trail]\nprefix = \"\"\n")).unwrap().trail.prefix, None);
}

#[test]
fn the_environment_overrides_the_file() {
    let environment = [
        ("EDGETRAIL_COLLECTOR__ACCOUNT", "444455556666"),
        ("EDGETRAIL_TRAIL__LOG_INTERVAL", "10s"),
        ("EDGETRAIL_TRAIL__SINK__KIND", "directory"),
        ("EDGETRAIL_TRAIL__SINK__PATH", "/srv/trail"),
        ("EDGETRAIL_API__NAMES", "[\"a\", \"b\"]"),
        ("EDGETRAIL_SOCKET", "/run/x"),
        ("EDGETRAIL_AGENT__HOST", "not ours"),
    ];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let config = Config::parse(&[layer(MINIMAL)], environment).unwrap();
    assert_eq!(config.home.account.as_str(), "444455556666");
    assert_eq!(config.trail.log_interval, Duration::from_secs(10));
    assert_eq!(config.trail.sink, SinkConfig::Directory { path: "/srv/trail".into() });
    assert_eq!(config.api.names, ["a", "b"]);
}

#[test]
fn digests_below_a_minute_need_to_be_asked_for() {
    let text = format!("{MINIMAL}[trail]\ndigest_interval = \"2s\"\naccelerated = true\n");
    let config = parse(&text).unwrap();
    assert_eq!(config.trail.digest_interval, Duration::from_secs(2));
    assert_eq!(config.warnings.len(), 1);
}

#[test]
fn another_port_without_a_name_deserves_a_word() {
    let listen = "[ingest]\nlisten = \"0.0.0.0:9443\"\n";
    assert_eq!(parse(&format!("{MINIMAL}{listen}")).unwrap().warnings.len(), 1);
    assert!(parse(&format!("{MINIMAL}{listen}names = [\"c.example\"]\n")).unwrap().warnings.is_empty());
}

#[test]
fn the_documented_sample_is_valid_and_shows_the_defaults() {
    let sample = include_str!("../../../docs/collector.toml");
    let uncommented: String =
        sample.lines().map(|line| line.strip_prefix("#: ").unwrap_or(line)).map(|line| format!("{line}\n")).collect();
    let shown = parse(&uncommented).unwrap();
    let short = parse(sample).unwrap();
    let host = shown.home.host.clone();
    assert_eq!(Config { home: HomeConfig { host, ..short.home }, ..short }, shown);
}

proptest::proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in ".{0,400}", name in "EDGETRAIL_[A-Z_]{0,20}", value in ".{0,20}") {
        drop(Config::parse(&[layer(&text)], [(name.clone(), value.clone())]));
        drop(Config::parse(&[layer(&format!("{MINIMAL}{text}"))], [(name, value)]));
    }
}
