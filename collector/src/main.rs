//! `edgetrail-collector`.

use std::process::ExitCode;

use clap::Parser;
use edgetrail_collector::commands::{Cli, run};

fn main() -> ExitCode {
    run(Cli::parse())
}
