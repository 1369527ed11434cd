//! Real source trees on this machine, and comparing what came back with what went in.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

/// The sources of packages that this workspace depends on, as cargo unpacked them, in the order of their names.
fn package_folders() -> BTreeSet<PathBuf> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .expect("cargo must run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let from_registry = packages.iter().filter(|package| !package["source"].is_null());
    from_registry
        .filter_map(|package| Some(Path::new(package["manifest_path"].as_str()?).parent()?.to_path_buf()))
        .collect()
}

/// Copies such sources to `folder`, whole packages until there are `bytes_min` bytes (none
/// of more than half of that), and adds what sources rarely
/// have: an empty file, an empty folder, an executable, a link, a file of many blocks, names with spaces and umlauts.
/// Returns the number of files and bytes.
pub fn collect_sources(folder: &Path, bytes_min: u64) -> (usize, u64) {
    let (mut files, mut bytes) = (0, 0);
    for package in package_folders() {
        if bytes >= bytes_min {
            break;
        }
        let name = package.file_name().expect("a package's folder has a name");
        if size(&package) > bytes_min / 2 {
            continue;
        }
        copy(&package, &folder.join(name), &mut files, &mut bytes);
    }
    assert!(bytes >= bytes_min, "the packages of this workspace have only {bytes} bytes");
    add_oddities(&folder.join("odd"));
    (files, bytes)
}

fn size(folder: &Path) -> u64 {
    let metadata = |entry: fs::DirEntry| (entry.path(), entry.metadata().expect("metadata"));
    let entries = fs::read_dir(folder).expect("sources can be read").map(|entry| metadata(entry.expect("an entry")));
    entries.map(|(path, metadata)| if metadata.is_dir() { size(&path) } else { metadata.len() }).sum()
}

fn copy(from: &Path, to: &Path, files: &mut usize, bytes: &mut u64) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("sources can be read") {
        let entry = entry.expect("an entry");
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().expect("a kind");
        if kind.is_dir() {
            copy(&source, &target, files, bytes);
        } else if kind.is_file() {
            *bytes += fs::copy(&source, &target).expect("a copy");
            *files += 1;
        }
    }
}

fn add_oddities(folder: &Path) {
    fs::create_dir_all(folder.join("nothing in here")).expect("a folder");
    let mut many_blocks = vec![0; 5_000_000];
    fastrand::Rng::with_seed(5).fill(&mut many_blocks);
    for (name, content, mode) in [
        ("empty", &b""[..], 0o644),
        ("run.sh", b"#!/bin/sh\nexit 0\n", 0o755),
        ("secret", b"for me only", 0o600),
        ("many blocks", &many_blocks, 0o640),
        ("grüße & mehr +100%.txt", "é".as_bytes(), 0o444),
    ] {
        let path = folder.join(name);
        fs::write(&path, content).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("permissions");
    }
    std::os::unix::fs::symlink("run.sh", folder.join("link")).expect("a link");
}

/// What is at a path.
#[derive(PartialEq, Eq)]
enum Found {
    Folder,
    Link(PathBuf),
    File { mode: u32, content: Vec<u8> },
}

/// Insists that two trees have the same names, contents and permissions.
pub fn assert_equal(expected: &Path, found: &Path) {
    let (expected, found) = (read(expected), read(found));
    let names = |tree: &BTreeMap<PathBuf, Found>| tree.keys().cloned().collect::<BTreeSet<_>>();
    let (missing, surplus): (Vec<_>, Vec<_>) = (
        names(&expected).difference(&names(&found)).take(10).cloned().collect(),
        names(&found).difference(&names(&expected)).take(10).cloned().collect(),
    );
    assert!(missing.is_empty() && surplus.is_empty(), "missing: {missing:?}, surplus: {surplus:?}");
    let different: Vec<_> = expected.iter().filter(|(path, entry)| found[*path] != **entry).take(10).collect();
    let names: Vec<_> = different.iter().map(|(path, entry)| describe(path, entry, &found[*path])).collect();
    assert!(names.is_empty(), "{names:#?}");
}

fn describe(path: &Path, expected: &Found, found: &Found) -> String {
    let say = |found: &Found| match found {
        Found::Folder => "a folder".into(),
        Found::Link(target) => format!("a link to {}", target.display()),
        Found::File { mode, content } => format!("{} bytes with mode {mode:o}", content.len()),
    };
    format!("{}: {} became {}", path.display(), say(expected), say(found))
}

fn read(root: &Path) -> BTreeMap<PathBuf, Found> {
    let (mut tree, mut folders) = (BTreeMap::new(), vec![root.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let metadata = fs::symlink_metadata(&path).expect("metadata");
            let found = if metadata.is_symlink() {
                Found::Link(fs::read_link(&path).expect("a target"))
            } else if metadata.is_dir() {
                folders.push(path.clone());
                Found::Folder
            } else {
                let mode = metadata.permissions().mode() & 0o777;
                Found::File { mode, content: fs::read(&path).expect("content") }
            };
            let relative = path.strip_prefix(root).expect("a path below the root").to_path_buf();
            tree.insert(relative, found);
        }
    }
    tree
}
