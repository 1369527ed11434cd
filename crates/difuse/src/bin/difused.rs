//! A node of a difuse ring.

use std::process::ExitCode;

fn main() -> ExitCode {
    difuse_commands::daemon::main()
}
