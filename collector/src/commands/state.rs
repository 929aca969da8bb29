//! The collector's state as the commands find it: they never create what the collector itself should own.

use anyhow::{Context, bail};
use edgetrail_link::tls::CaPin;

use super::Of;
use crate::config::Config;
use crate::control::{Control, Operator};
use crate::pki::pin_of;

pub(super) fn config(of: &Of) -> anyhow::Result<Config> {
    Ok(Config::load(of.config.as_deref())?)
}

/// The settings of a collector that was started before.
pub(super) fn control(config: &Config) -> anyhow::Result<Control> {
    let dir = &config.state_dir;
    if !dir.join("control.sqlite").exists() {
        bail!(
            "no collector has run on {}: start it once (`edgetrail-collector serve`), or name its configuration with --config",
            dir.display()
        );
    }
    Control::open(dir)
        .map(|control| control.operated_by(Operator::of_this_process()))
        .with_context(|| format!("the settings in {} can't be used; run this as the collector's user or root", dir.display()))
}

/// The pin by which a joining agent knows this collector's CA.
pub(super) fn ca_pin(config: &Config) -> anyhow::Result<CaPin> {
    pin_of(&config.state_dir.join("pki"), config.pki.server.as_ref()).context("the CA's certificate can't be read")
}

/// Unix nanoseconds.
pub(super) fn now_ns() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
