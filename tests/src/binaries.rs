use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use serde_json::Value;

struct Binaries {
    difused: PathBuf,
    difuse: PathBuf,
}

static BINARIES: OnceLock<Binaries> = OnceLock::new();

/// The built `difused`.
pub fn difused() -> &'static Path {
    &BINARIES.get_or_init(build).difused
}

/// `difuse`, with no settings from this machine, to be given arguments.
pub fn difuse() -> Run {
    let mut command = Command::new(&BINARIES.get_or_init(build).difuse);
    without_settings(&mut command);
    Run(command)
}

/// Cargo tells a test where the programs of its own package are, but not those of others: this asks cargo to build
/// them, which is quick when they are up to date. In a test, naming one and the whole workspace makes cargo choose the
/// same features of dependencies as `cargo test --workspace`, so that nothing is compiled twice.
fn build() -> Binaries {
    let is_test =
        env::current_exe().is_ok_and(|program| program.parent().is_some_and(|folder| folder.ends_with("deps")));
    let what = if is_test { &["--workspace", "--test", "process"][..] } else { &["--package", "difuse"] };
    let mut command = Command::new(env!("CARGO"));
    command
        .args(["build", "--locked", "--bin", "difused", "--bin", "difuse"])
        .args(what)
        .args(["--message-format", "json-render-diagnostics"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .stderr(Stdio::inherit());
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    if let Some(folder) = target_folder() {
        command.arg("--target-dir").arg(folder);
    }
    let output = command.output().expect("cargo must run");
    assert!(output.status.success(), "cargo cannot build difused and difuse");
    let messages: Vec<Value> =
        output.stdout.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
    Binaries { difused: executable(&messages, "difused"), difuse: executable(&messages, "difuse") }
}

/// Where cargo built this program: `<target>/<profile>/deps/<test>` or `<target>/<profile>/<program>`.
fn target_folder() -> Option<PathBuf> {
    let program = env::current_exe().ok()?;
    let folder = program.parent()?;
    let profile = if folder.ends_with("deps") { folder.parent()? } else { folder };
    Some(profile.parent()?.to_path_buf())
}

fn executable(messages: &[Value], name: &str) -> PathBuf {
    let is_it = |message: &&Value| {
        let target = &message["target"];
        target["name"] == name && target["kind"][0] == "bin" && message["executable"].is_string()
    };
    let message = messages.iter().find(is_it).unwrap_or_else(|| panic!("cargo built no {name}"));
    message["executable"].as_str().unwrap_or_default().into()
}

/// Keeps the variables and files of whoever runs the tests away from a program under test.
pub(crate) fn without_settings(command: &mut Command) {
    for (variable, _) in env::vars().filter(|(variable, _)| variable.starts_with("DIFUSE_")) {
        command.env_remove(variable);
    }
    let nowhere = env::temp_dir();
    command.env("HOME", &nowhere).env_remove("XDG_CONFIG_HOME").env_remove("XDG_DATA_HOME").current_dir(nowhere);
}

/// A program to run to its end.
pub struct Run(Command);

impl Run {
    /// Adds arguments.
    pub fn args<A: AsRef<std::ffi::OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.0.args(arguments);
        self
    }

    /// Runs it and returns exit code (-1 if it was killed), standard output and standard error.
    pub async fn run(self) -> (i32, String, String) {
        let output = tokio::process::Command::from(self.0).kill_on_drop(true).output().await;
        let output = output.expect("the program must start");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
    }

    /// Runs it, insists on success, and returns what it printed as JSON.
    pub async fn json(self) -> Value {
        let described = format!("{:?}", self.0);
        let (code, output, errors) = self.args(["--json"]).run().await;
        assert_eq!(code, 0, "{described}\n{output}\n{errors}");
        serde_json::from_str(&output).unwrap_or_else(|error| panic!("{described}: {error}\n{output}"))
    }
}
