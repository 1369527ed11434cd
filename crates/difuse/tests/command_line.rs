//! What the built programs say to arguments, settings and addresses, without a ring.

use std::{fs, net::TcpListener, path::Path, process::Output};

use assert_cmd::Command;

/// A program with no settings from this machine: an empty folder and no variables of ours.
fn program(name: &str, folder: &Path) -> Command {
    let mut command = Command::cargo_bin(name).unwrap();
    for (variable, _) in std::env::vars().filter(|(variable, _)| variable.starts_with("DIFUSE_")) {
        command.env_remove(variable);
    }
    command.env("HOME", folder).env_remove("XDG_CONFIG_HOME").env_remove("XDG_DATA_HOME").current_dir(folder);
    command
}

fn run(name: &str, folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    describe(program(name, folder).args(arguments).output().unwrap())
}

fn describe(output: Output) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

#[test]
fn help_teaches_and_documents_exit_codes() {
    let folder = tempfile::tempdir().unwrap();
    for (name, parts) in [
        ("difused", ["--gone-after", "DIFUSE_HTTP", "3 a port is taken"]),
        ("difuse", ["kv cas", "6 the outcome of a write is unknown", "DIFUSE_NODE"]),
    ] {
        let (code, output, _) = run(name, folder.path(), &["--help"]);
        assert_eq!(code, 0);
        for part in parts {
            assert!(output.contains(part), "{name} --help says nothing of {part}:\n{output}");
        }
    }
    for arguments in [
        &["kv", "--help"][..],
        &["bench", "--help"],
        &["put", "--help"],
        &["get", "--help"],
        &["namespace", "set", "--help"],
    ] {
        let (code, output, _) = run("difuse", folder.path(), arguments);
        assert!(code == 0 && output.contains("Examples:"), "{arguments:?}: {output}");
    }
}

#[test]
fn wrong_arguments_are_usage_errors_that_say_what_is_right() {
    let folder = tempfile::tempdir().unwrap();
    let long_key = "k".repeat(1025);
    for (name, arguments, expected) in [
        ("difuse", &["--consistency", "most", "kv", "get", "k"][..], "use lazy, leader, quorum or all"),
        ("difuse", &["--node", "nonsense", "ring"], "neither host:port nor a multiaddr"),
        ("difuse", &["kv", "get", ""], "the key is empty"),
        ("difuse", &["kv", "get", &long_key], "at most 1024"),
        ("difuse", &["kv", "cas", "k", "sometimes", "v"], "expected absent, present or 64 hex digits"),
        ("difuse", &["kv", "set", "k"], "VALUE"),
        ("difuse", &["block", "get", "12"], "64 hex digits"),
        ("difuse", &["namespace", "set", "n"], "--read-level"),
        ("difuse", &["namespace", "set", "n", "--max-keys", "many"], "expected a whole number, or none"),
        ("difuse", &["namespace", "set", "n", "--max-bytes", "much"], "expected a size"),
        ("difuse", &["namespace", "set", "n", "--read-level", "most"], "use lazy, leader, quorum or all"),
        ("difuse", &["--timeout", "soon", "ring"], "--timeout"),
        ("difuse", &["bench", "keys", "--size", "many"], "expected a size"),
        ("difuse", &["--secret-file", "missing", "ring"], "--secret-file"),
        ("difused", &["--http", "9090"], "expected IP:PORT"),
        ("difused", &["--bind", "0.0.0.0:4624"], "--advertise"),
        ("difused", &["--bind", "10.1.2.3:4624"], "--secret-file"),
        ("difused", &["--slots", "1000"], "power of two"),
        ("difused", &["--config", "missing.toml"], "missing.toml"),
        ("difused", &["--unknown"], "--unknown"),
        ("difused", &["dev", "--nodes", "0"], "--nodes"),
    ] {
        let (code, _, errors) = run(name, folder.path(), arguments);
        assert!(code == 2 && errors.contains(expected), "{name} {arguments:?}: {code}\n{errors}");
    }
}

#[test]
fn an_address_nobody_answers_is_unavailable() {
    let folder = tempfile::tempdir().unwrap();
    // A port that was free a moment ago.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let (code, output, errors) = run("difuse", folder.path(), &["--node", &address, "ring"]);
    assert!(code == 5 && errors.contains(&address) && output.is_empty(), "{code}\n{errors}");
}

#[test]
fn a_taken_http_port_is_told_with_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, _, errors) = run("difused", folder.path(), &["--http", &address]);
    assert!(code == 3 && errors.contains("--http") && errors.contains(&address), "{code}\n{errors}");
}

#[test]
fn config_tells_what_is_in_force_and_why() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("difuse.toml"), "replicas = 5\nzone = \"cellar\"\n").unwrap();
    let mut command = program("difused", folder.path());
    command.env("DIFUSE_ZONE", "attic").args(["config", "--json", "--slots", "64"]);
    let (code, output, errors) = describe(command.output().unwrap());
    assert_eq!(code, 0, "{errors}");
    let settings: serde_json::Value = serde_json::from_str(&output).unwrap();
    for (name, value, origin) in [
        ("replicas", "5", "file"),
        ("zone", "attic", "environment"),
        ("slots", "64", "command line"),
        ("vnodes", "8", "default"),
    ] {
        let found = &settings["settings"][name];
        assert_eq!((found["value"].as_str(), found["origin"].as_str()), (Some(value), Some(origin)), "{name}");
    }
    let (code, output, _) = run("difused", folder.path(), &["config"]);
    assert!(code == 0 && output.contains("cellar") && output.contains("difuse.toml"), "{output}");
}

#[test]
fn an_unknown_key_in_the_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("difuse.toml"), "replicsa = 5\n").unwrap();
    let (code, _, errors) = run("difused", folder.path(), &["config"]);
    assert!(code == 2 && errors.contains("replicsa") && errors.contains("replicas"), "{code}\n{errors}");
}

#[test]
fn completions_are_printed_for_both() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["difuse", "difused"] {
        let (code, output, _) = run(name, folder.path(), &["completions", "bash"]);
        assert!(code == 0 && output.contains(name), "{output}");
    }
}
