//! `edgetrail-agent`: see [`edgetrail_agent::commands`].

use std::process::ExitCode;

fn main() -> ExitCode {
    edgetrail_agent::commands::main()
}
