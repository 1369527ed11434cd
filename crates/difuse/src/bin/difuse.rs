//! Reads and writes a difuse ring from a shell.

use std::process::ExitCode;

use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    difuse_commands::command::main()
}
