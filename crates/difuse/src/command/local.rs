//! Files and folders of this machine, and what the ring keeps of them besides their content.

use std::{
    fs::{self, File, Metadata},
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use difuse_api::files::FileEntry;

/// What is at a path of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LocalKind {
    /// A file of so many bytes.
    File {
        /// Its length.
        size: u64,
    },
    /// A folder without entries; other folders follow from what is in them.
    EmptyFolder,
    /// A symbolic link.
    Symlink {
        /// Where it points to.
        target: String,
    },
}

/// One thing to store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalEntry {
    /// Where it is here.
    pub path: PathBuf,
    /// Its path below the root of the walk, with slashes; empty for the root itself.
    pub relative: String,
    /// What it is.
    pub kind: LocalKind,
    /// Permission bits, where there are any.
    pub mode: Option<u32>,
    /// Milliseconds since the Unix epoch.
    pub modified_ms: Option<u64>,
}

/// Everything under `root`, in the order of names, and what cannot be stored, with the reason.
pub fn walk(root: &Path) -> io::Result<(Vec<LocalEntry>, Vec<String>)> {
    let metadata = fs::metadata(root)?;
    let (mut entries, mut skipped) = (Vec::new(), Vec::new());
    if metadata.is_dir() {
        walk_folder(root, "", &mut entries, &mut skipped)?;
    } else {
        entries.push(entry(root, String::new(), LocalKind::File { size: metadata.len() }, &metadata));
    }
    Ok((entries, skipped))
}

fn walk_folder(
    folder: &Path,
    relative: &str,
    entries: &mut Vec<LocalEntry>,
    skipped: &mut Vec<String>,
) -> io::Result<()> {
    let mut children = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    children.sort_by_key(fs::DirEntry::file_name);
    if children.is_empty() {
        entries.push(entry(folder, relative.into(), LocalKind::EmptyFolder, &fs::metadata(folder)?));
    }
    for child in children {
        let path = child.path();
        let Ok(name) = child.file_name().into_string() else {
            skipped.push(format!("{}: the name is not UTF-8", path.display()));
            continue;
        };
        let relative = if relative.is_empty() { name } else { format!("{relative}/{name}") };
        let metadata = fs::symlink_metadata(&path)?;
        match kind_of(&path, &metadata) {
            Ok(Some(kind)) => entries.push(entry(&path, relative, kind, &metadata)),
            Ok(None) => walk_folder(&path, &relative, entries, skipped)?,
            Err(reason) => skipped.push(format!("{}: {reason}", path.display())),
        }
    }
    Ok(())
}

/// `None` for a folder.
fn kind_of(path: &Path, metadata: &Metadata) -> Result<Option<LocalKind>, String> {
    if metadata.is_dir() {
        return Ok(None);
    }
    if metadata.is_symlink() {
        let target = fs::read_link(path).map_err(|error| error.to_string())?;
        let target = target.into_os_string().into_string().map_err(|_| "the link's target is not UTF-8")?;
        return Ok(Some(LocalKind::Symlink { target }));
    }
    if !metadata.is_file() {
        return Err("neither file, folder nor link".into());
    }
    Ok(Some(LocalKind::File { size: metadata.len() }))
}

fn entry(path: &Path, relative: String, kind: LocalKind, metadata: &Metadata) -> LocalEntry {
    let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let modified_ms = modified.and_then(|since| u64::try_from(since.as_millis()).ok());
    LocalEntry { path: path.into(), relative, kind, mode: mode_of(metadata), modified_ms }
}

#[cfg(unix)]
fn mode_of(metadata: &Metadata) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt;
    Some(metadata.permissions().mode() & 0o777)
}

#[cfg(not(unix))]
fn mode_of(_metadata: &Metadata) -> Option<u32> {
    None
}

/// Gives a fetched file the permissions and the time that it was stored with.
pub fn apply_metadata(file: &File, entry: &FileEntry) -> io::Result<()> {
    if let Some(mode) = entry.mode {
        apply_mode(file, mode & 0o777)?;
    }
    let modified = entry.modified_ms.and_then(|ms| UNIX_EPOCH.checked_add(Duration::from_millis(ms)));
    modified.map_or(Ok(()), |time: SystemTime| file.set_modified(time))
}

#[cfg(unix)]
fn apply_mode(file: &File, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(fs::Permissions::from_mode(mode))
}

#[cfg(not(unix))]
fn apply_mode(_file: &File, _mode: u32) -> io::Result<()> {
    Ok(())
}

/// Creates a symbolic link, in place of what is there.
#[cfg(unix)]
pub fn create_symlink(target: &str, at: &Path) -> io::Result<()> {
    match fs::remove_file(at) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    std::os::unix::fs::symlink(target, at)
}

/// Symbolic links need rights that users do not have here.
#[cfg(not(unix))]
pub fn create_symlink(_target: &str, _at: &Path) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "symbolic links cannot be created here"))
}

/// Whether a name from the ring is safe to create inside a folder of this machine.
pub fn is_safe_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.contains(['/', '\0']) && Path::new(name).components().count() == 1
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{LocalKind, is_safe_name, walk};

    #[test]
    fn a_walk_finds_files_links_and_empty_folders_in_order() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("b/empty")).unwrap();
        fs::write(root.path().join("b/x"), b"12345").unwrap();
        fs::write(root.path().join("a"), b"").unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink("../a", root.path().join("b/link")).unwrap();
        let (entries, skipped) = walk(root.path()).unwrap();
        let found: Vec<_> = entries.iter().map(|entry| (entry.relative.as_str(), entry.kind.clone())).collect();
        let mut expected = vec![
            ("a", LocalKind::File { size: 0 }),
            ("b/empty", LocalKind::EmptyFolder),
            ("b/link", LocalKind::Symlink { target: "../a".into() }),
            ("b/x", LocalKind::File { size: 5 }),
        ];
        expected.retain(|(name, _)| cfg!(unix) || *name != "b/link");
        assert_eq!(found, expected);
        assert!(skipped.is_empty());
    }

    #[test]
    fn a_single_file_is_its_own_root() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("a"), b"1").unwrap();
        let (entries, _) = walk(&root.path().join("a")).unwrap();
        assert_eq!((entries.len(), entries[0].relative.as_str()), (1, ""));
        assert!(walk(&root.path().join("missing")).is_err());
    }

    #[test]
    fn names_from_the_ring_cannot_leave_their_folder() {
        for bad in ["", ".", "..", "a/b", "/etc", "a\0b", "../x"] {
            assert!(!is_safe_name(bad), "{bad:?}");
        }
        assert!(is_safe_name("plain name.txt") && is_safe_name("...") && is_safe_name("ä"));
    }
}
