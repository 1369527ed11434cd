//! Short runs of `difuse-faults`: every kind of fault at a ring of real processes, then every check. Where namespaces
//! cannot be made the first says what is missing, and runs with the faults that need none.

use std::{
    path::Path,
    process::Command,
    sync::{Mutex, PoisonError},
};

/// One ring at a time: two would only slow each other down.
static TURN: Mutex<()> = Mutex::new(());

/// Runs with these arguments, insists on success, and returns the report.
fn run(name: &str, arguments: &[&str]) -> String {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let status = Command::new(env!("CARGO_BIN_EXE_difuse-faults"))
        .args(arguments)
        .arg("--difused")
        .arg(difuse_tests::difused())
        .arg("--output")
        .arg(&folder)
        .status()
        .expect("the program must start");
    assert!(status.success(), "{status}: see {}", folder.display());
    assert!(folder.join("availability.svg").exists());
    std::fs::read_to_string(folder.join("report.txt")).expect("a report")
}

#[test]
fn a_ring_keeps_its_promises_under_every_fault_at_once() {
    let report = run("faults", &["run", "--seconds", "50", "--seed", "7"]);
    assert!(report.contains("anomalies: none"), "{report}");
    assert!(report.contains("kill -9"), "the run was too short for its faults: {report}");
}

#[test]
fn without_namespaces_it_says_so_and_does_what_it_can() {
    let report = run("loopback", &["run", "--loopback", "--seconds", "10", "--seed", "3"]);
    assert!(report.contains("without cut cables and clock jumps: as asked with --loopback"), "{report}");
    assert!(report.contains("anomalies: none"), "{report}");
}
