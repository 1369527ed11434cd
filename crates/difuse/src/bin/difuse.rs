//! Reads and writes a difuse ring from a shell.

use std::process::ExitCode;

fn main() -> ExitCode {
    difuse_commands::command::main()
}
