use std::fmt;

use bytes::Bytes;

use crate::{Hash, HashContext, SlotId};

/// The longest name of a key, in bytes.
pub const MAX_KEY_BYTES: usize = 1024;
/// The longest namespace, in bytes.
pub const MAX_NAMESPACE_BYTES: usize = 64;
/// The longest path of a file, in bytes.
pub const MAX_PATH_BYTES: usize = 4096;

/// The namespace of pins, in the ring's own space.
const PINS: &str = "pins";
/// The namespace of the settings of namespaces, in the ring's own space.
const NAMESPACES: &str = "namespaces";
/// What stands before the name of a namespace there: a name may be empty, that of a key may not.
const BEFORE_NAME: u8 = b':';
/// The beginning of the keys of steps, in the ring's own space; the number of the slot follows.
const STEPS: &[u8] = b"\x03\x05steps";

static PLACEMENT: HashContext = HashContext::new("difuse 2026 placement of a key v1");

/// What a key names.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Space {
    /// Flat keys of users.
    Keys,
    /// Files and directories: the name is `parent NUL entry`.
    Files,
    /// What the ring keeps about itself; nobody writes it from outside.
    Ring,
}

/// A key: a space, a namespace and a name, kept in one canonical encoding, whose byte order is the order of listings:
/// all keys of a namespace are one range, and so are all entries of one directory.
///
/// Encoding: space (1 byte), length of namespace (1 byte), namespace, name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Bytes);

/// Why bytes or a path make no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The name is empty.
    #[error("the key is empty")]
    Empty,
    /// The name is longer than [`MAX_KEY_BYTES`].
    #[error("the key is {0} bytes long, at most {MAX_KEY_BYTES} are allowed")]
    TooLong(usize),
    /// The namespace is longer than [`MAX_NAMESPACE_BYTES`].
    #[error("the namespace is {0} bytes long, at most {MAX_NAMESPACE_BYTES} are allowed")]
    NamespaceTooLong(usize),
    /// The path is longer than [`MAX_PATH_BYTES`].
    #[error("the path is {0} bytes long, at most {MAX_PATH_BYTES} are allowed")]
    PathTooLong(usize),
    /// The path has an empty part, a part `.` or `..`, or a NUL byte.
    #[error("the path {0:?} has an empty part, a part `.` or `..`, or a NUL byte")]
    BadPath(String),
    /// The bytes are not an encoded key.
    #[error("the bytes are not an encoded key")]
    Malformed,
}

impl Key {
    /// A flat key of the default namespace.
    pub fn new(name: &[u8]) -> Result<Self, KeyError> {
        Self::in_namespace("", name)
    }

    /// A flat key of `namespace`.
    pub fn in_namespace(namespace: &str, name: &[u8]) -> Result<Self, KeyError> {
        match name.len() {
            0 => Err(KeyError::Empty),
            1..=MAX_KEY_BYTES => Self::assemble(Space::Keys, namespace, &[name]),
            length => Err(KeyError::TooLong(length)),
        }
    }

    /// The key of the file or directory at `path` (`a/b/c`, with or without a slash at either end; not the root).
    pub fn of_path(path: &str) -> Result<Self, KeyError> {
        let path = path.trim_matches('/');
        check_path(path)?;
        let (parent, entry) = path.rsplit_once('/').unwrap_or(("", path));
        Self::assemble(Space::Files, "", &[parent.as_bytes(), &[0], entry.as_bytes()])
    }

    /// The key under which every slot keeps the number of the last collection of blocks that it takes part in. There is
    /// one in each slot, wherever its hash would place it.
    pub fn of_generation() -> Self {
        Self(Bytes::from_static(b"\x03\x00generation"))
    }

    /// The key under which a slot keeps its last steps: what was decided for several of its keys at once. It is placed in
    /// that slot.
    pub fn of_steps(slot: SlotId) -> Self {
        Self([STEPS, slot.0.to_string().as_bytes()].concat().into())
    }

    /// Whose steps the key keeps, if it is such a key.
    pub fn steps_of(&self) -> Option<SlotId> {
        let slot = std::str::from_utf8(self.0.strip_prefix(STEPS)?).ok()?;
        let number: u32 = slot.parse().ok()?;
        // There is one spelling of it.
        (number.to_string() == slot).then_some(SlotId(number))
    }

    /// The key of the pin of a block, or of the tree with this root.
    pub fn of_pin(hash: &Hash) -> Self {
        let name = hash.to_string();
        Self([&Self::prefix_of_pins()[..], name.as_bytes()].concat().into())
    }

    /// What the key is the pin of, if it is one.
    pub fn pinned(&self) -> Option<Hash> {
        let is_pin = self.space() == Space::Ring && self.namespace() == PINS;
        std::str::from_utf8(self.name()).ok().filter(|_| is_pin)?.parse().ok()
    }

    /// The common beginning of the keys of all pins.
    pub fn prefix_of_pins() -> KeyPrefix {
        [&[3, PINS.len() as u8], PINS.as_bytes()].concat().into()
    }

    /// The key of the settings of `namespace`.
    pub fn of_namespace(namespace: &str) -> Result<Self, KeyError> {
        if namespace.len() > MAX_NAMESPACE_BYTES {
            return Err(KeyError::NamespaceTooLong(namespace.len()));
        }
        Ok(Self([&Self::prefix_of_namespaces()[..], namespace.as_bytes()].concat().into()))
    }

    /// Which namespace's settings the key keeps, if it is such a key.
    pub fn settings_of(&self) -> Option<&str> {
        let is_settings = self.space() == Space::Ring && self.namespace() == NAMESPACES;
        let name = self.name().strip_prefix(&[BEFORE_NAME]).filter(|name| name.len() <= MAX_NAMESPACE_BYTES)?;
        std::str::from_utf8(name).ok().filter(|_| is_settings)
    }

    /// Whether values are written under the key from outside: all but most of the ring's own.
    pub fn is_written_by_users(&self) -> bool {
        self.space() != Space::Ring || self.pinned().is_some() || self.settings_of().is_some()
    }

    /// The common beginning of the keys of the settings of all namespaces.
    pub fn prefix_of_namespaces() -> KeyPrefix {
        [&[3, NAMESPACES.len() as u8], NAMESPACES.as_bytes(), &[BEFORE_NAME]].concat().into()
    }

    /// The common beginning of the keys of all entries of the directory at `path` (`""` or `/` is the root).
    pub fn prefix_of_directory(path: &str) -> Result<KeyPrefix, KeyError> {
        let path = path.trim_matches('/');
        if !path.is_empty() {
            check_path(path)?;
        }
        Ok(Self::assemble(Space::Files, "", &[path.as_bytes(), &[0]])?.0)
    }

    /// The common beginning of all flat keys of `namespace` whose names begin with `name`.
    pub fn prefix(namespace: &str, name: &[u8]) -> Result<KeyPrefix, KeyError> {
        Ok(Self::assemble(Space::Keys, namespace, &[name])?.0)
    }

    /// The common beginning of all flat keys, of whatever namespace: those of one follow each other.
    pub fn prefix_of_names() -> KeyPrefix {
        Bytes::from_static(&[1])
    }

    fn assemble(space: Space, namespace: &str, parts: &[&[u8]]) -> Result<Self, KeyError> {
        let length = u8::try_from(namespace.len())
            .ok()
            .filter(|length| usize::from(*length) <= MAX_NAMESPACE_BYTES)
            .ok_or(KeyError::NamespaceTooLong(namespace.len()))?;
        let mut bytes = Vec::with_capacity(2 + namespace.len() + parts.iter().map(|part| part.len()).sum::<usize>());
        bytes.push(match space {
            Space::Keys => 1,
            Space::Files => 2,
            Space::Ring => 3,
        });
        bytes.push(length);
        bytes.extend_from_slice(namespace.as_bytes());
        for part in parts {
            bytes.extend_from_slice(part);
        }
        Ok(Self(bytes.into()))
    }

    /// Reads an encoded key that came from a peer or a disk.
    pub fn from_encoded(bytes: Bytes) -> Result<Self, KeyError> {
        let (&space, &length) = match &bytes[..] {
            [space, length, ..] => (space, length),
            _ => return Err(KeyError::Malformed),
        };
        let namespace = bytes.get(2..2 + usize::from(length)).ok_or(KeyError::Malformed)?;
        let name = &bytes[2 + namespace.len()..];
        if namespace.len() > MAX_NAMESPACE_BYTES || std::str::from_utf8(namespace).is_err() {
            return Err(KeyError::Malformed);
        }
        let valid = match space {
            1 => (1..=MAX_KEY_BYTES).contains(&name.len()),
            2 => name.len() <= MAX_PATH_BYTES + 1 && name.iter().filter(|byte| **byte == 0).count() == 1,
            3 => (1..=MAX_KEY_BYTES).contains(&name.len()),
            _ => false,
        };
        if valid { Ok(Self(bytes)) } else { Err(KeyError::Malformed) }
    }

    /// The canonical encoding.
    pub fn encoded(&self) -> &Bytes {
        &self.0
    }

    /// What the key names.
    pub fn space(&self) -> Space {
        match self.0[0] {
            1 => Space::Keys,
            2 => Space::Files,
            _ => Space::Ring,
        }
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        std::str::from_utf8(&self.0[2..self.name_start()]).unwrap_or_default()
    }

    /// The name as given for a flat key; `parent NUL entry` for a file.
    pub fn name(&self) -> &[u8] {
        &self.0[self.name_start()..]
    }

    /// For a file, the last part of its path; for a flat key, its name.
    pub fn entry_name(&self) -> &[u8] {
        let name = self.name();
        match (self.space(), name.iter().position(|byte| *byte == 0)) {
            (Space::Files, Some(separator)) => &name[separator + 1..],
            _ => name,
        }
    }

    fn name_start(&self) -> usize {
        2 + usize::from(self.0[1])
    }

    /// What decides the key's slot: the hash tag `{…}` of a flat key if it has one, else its name; the parent's path
    /// of a file, so that a directory lives in one slot.
    pub fn placement_hash(&self) -> Hash {
        let name = self.name();
        let placed = match self.space() {
            Space::Keys => hash_tag(name).unwrap_or(name),
            Space::Files => name.split(|byte| *byte == 0).next().unwrap_or_default(),
            // All in one slot, so that they are listed by asking one.
            Space::Ring if self.settings_of().is_some() => &[],
            Space::Ring => name,
        };
        let mut hasher = PLACEMENT.hasher();
        hasher.update(&self.0[..self.name_start()]);
        hasher.update(placed);
        Hash(*hasher.finalize().as_bytes())
    }
}

/// The encoded beginning of a range of keys.
pub type KeyPrefix = Bytes;

fn check_path(path: &str) -> Result<(), KeyError> {
    if path.is_empty() {
        return Err(KeyError::Empty);
    }
    if path.len() > MAX_PATH_BYTES {
        return Err(KeyError::PathTooLong(path.len()));
    }
    let bad = path.split('/').any(|part| matches!(part, "" | "." | "..") || part.contains('\0'));
    if bad { Err(KeyError::BadPath(path.chars().take(200).collect())) } else { Ok(()) }
}

/// The part between the first `{` and the next `}`, unless it is empty, as in Redis Cluster.
fn hash_tag(name: &[u8]) -> Option<&[u8]> {
    let open = name.iter().position(|byte| *byte == b'{')?;
    let rest = &name[open + 1..];
    let close = rest.iter().position(|byte| *byte == b'}')?;
    (close > 0).then(|| &rest[..close])
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = String::from_utf8_lossy(self.name());
        match self.space() {
            Space::Keys => f.write_str(&text),
            Space::Ring if self.namespace().is_empty() => f.write_str(&text),
            Space::Ring => write!(f, "{}/{text}", self.namespace()),
            Space::Files => write!(f, "/{}", text.replacen('\0', "/", 1).trim_start_matches('/')),
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{Key, KeyError, MAX_KEY_BYTES, Space};
    use crate::{Hash, SlotId, Slots};

    #[test]
    fn bounds_are_kept() {
        assert_eq!(Key::new(b""), Err(KeyError::Empty));
        assert!(Key::new(&[b'k'; MAX_KEY_BYTES]).is_ok());
        assert_eq!(Key::new(&[b'k'; MAX_KEY_BYTES + 1]), Err(KeyError::TooLong(MAX_KEY_BYTES + 1)));
        for path in ["", "/", "a//b", "a/../b", ".", "a\0b"] {
            assert!(Key::of_path(path).is_err(), "{path:?}");
        }
    }

    #[test]
    fn pins_are_one_range_of_their_own() {
        let hash = Hash::of(b"block");
        let pin = Key::of_pin(&hash);
        assert_eq!((pin.pinned(), pin.to_string()), (Some(hash), format!("pins/{hash}")));
        assert!(pin.encoded().starts_with(&Key::prefix_of_pins()));
        let flat = Key::in_namespace("pins", hash.to_string().as_bytes()).unwrap();
        for other in
            [flat, Key::of_generation(), Key::from_encoded(Bytes::from_static(b"\x03\x04pinsno hash")).unwrap()]
        {
            assert_eq!(other.pinned(), None, "{other}");
        }
    }

    #[test]
    fn every_namespace_has_a_key_for_its_settings() {
        let slots = Slots::with_count(4096).unwrap();
        for name in ["", "orders", "16", &"n".repeat(64)] {
            let key = Key::of_namespace(name).unwrap();
            assert_eq!((key.settings_of(), key.space()), (Some(name), Space::Ring));
            assert!(key.is_written_by_users());
            assert_eq!(slots.of_key(&key), slots.of_key(&Key::of_namespace("").unwrap()), "all lie in one slot");
            assert!(key.encoded().starts_with(&Key::prefix_of_namespaces()));
            assert_eq!(Key::from_encoded(key.encoded().clone()), Ok(key));
        }
        assert_eq!(Key::of_namespace(&"n".repeat(65)), Err(KeyError::NamespaceTooLong(65)));
        let long = [&Key::prefix_of_namespaces()[..], &[b'n'; 65]].concat();
        for other in [&b"\x03\x0anamespacesorders"[..], b"\x01\x0anamespaces:orders", b"\x03\x0anamespaces:\xff", &long]
        {
            assert_eq!(Key::from_encoded(other.to_vec().into()).unwrap().settings_of(), None);
        }
        assert_eq!(Key::of_generation().settings_of(), None);
        assert!(!Key::of_generation().is_written_by_users() && !Key::of_steps(SlotId(7)).is_written_by_users());
    }

    #[test]
    fn encoding_round_trips() {
        for key in [
            Key::new(b"a/b{c}").unwrap(),
            Key::of_path("/a/b/c").unwrap(),
            Key::of_path("top").unwrap(),
            Key::of_generation(),
            Key::of_pin(&Hash::of(b"block")),
            Key::of_steps(SlotId(4095)),
        ] {
            assert_eq!(Key::from_encoded(key.encoded().clone()), Ok(key));
        }
        for bytes in [&b""[..], b"\x01", b"\x01\x00", b"\x01\x05ab", b"\x02\x00nonul", b"\x03\x00", b"\x04\x00x"] {
            assert_eq!(Key::from_encoded(bytes.to_vec().into()), Err(KeyError::Malformed), "{bytes:?}");
        }
    }

    #[test]
    fn a_slot_has_one_key_for_its_steps() {
        let slots = Slots::with_count(4096).unwrap();
        for slot in [SlotId(0), SlotId(17), SlotId(4095)] {
            let key = Key::of_steps(slot);
            assert_eq!((key.steps_of(), slots.of_key(&key)), (Some(slot), slot));
            assert_eq!(key.space(), Space::Ring);
        }
        for other in [&b"\x03\x05steps017"[..], b"\x03\x05steps+1", b"\x03\x05steps4294967296", b"\x01\x05steps17"] {
            assert_eq!(Key::from_encoded(other.to_vec().into()).unwrap().steps_of(), None);
        }
        assert!(slots.of_key(&Key::of_steps(SlotId(4096))).0 < 4096, "no slot, and so placed by its hash");
    }

    #[test]
    fn a_directory_is_a_range_of_one_slot() {
        let slots = Slots::with_count(4096).unwrap();
        let prefix = Key::prefix_of_directory("/a/b").unwrap();
        let (x, y) = (Key::of_path("a/b/x").unwrap(), Key::of_path("a/b/y").unwrap());
        assert!(x.encoded().starts_with(&prefix) && y.encoded().starts_with(&prefix));
        assert!(!Key::of_path("a/b/x/z").unwrap().encoded().starts_with(&prefix));
        assert_eq!(slots.of_key(&x), slots.of_key(&y));
        assert_eq!(x.entry_name(), b"x");
        assert_eq!(x.to_string(), "/a/b/x");
        assert_eq!(x.space(), Space::Files);
    }

    #[test]
    fn keys_with_one_hash_tag_share_a_slot() {
        let slots = Slots::with_count(4096).unwrap();
        let slot = |name: &[u8]| slots.of_key(&Key::new(name).unwrap());
        assert_eq!(slot(b"{user}:a"), slot(b"{user}:b"));
        assert_ne!(slot(b"{}:a"), slot(b"{}:b"));
    }
}
