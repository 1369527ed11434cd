//! Inodes: the value of a path's key.
//!
//! Layout, integers little-endian:
//!
//! | bytes | field |
//! |---|---|
//! | 1 | version: 1, or 2 with a generation at the end |
//! | 1 | kind: 0 file, 1 directory, 2 symbolic link |
//! | 8 | size |
//! | 4 | mode |
//! | 8 | modified, milliseconds since 1970 |
//! | 32 | hash of the content |
//! | 1 + n | media type, its length first; length 0 if there is none |
//! | 1 + n | content: 0 none; 1 inline, followed by its length (2) and bytes; 2 block, 3 tree, each followed by a hash |
//! | 8 | generation, from 1 (version 2) |

use bytes::{BufMut, Bytes, BytesMut};
use difuse_types::Hash;
use serde::{Serialize, Serializer, ser::SerializeStruct};

use crate::{
    MAX_BLOCK_BYTES,
    codec::{DecodeError, Reader},
};

/// Content up to this many bytes may live in the inode itself: 4 KiB.
pub const MAX_INLINE_BYTES: usize = 4 << 10;
/// The most bytes of a media type.
pub const MAX_MEDIA_TYPE_BYTES: usize = 128;
/// The most bytes of an encoded inode: 5 KiB.
pub const MAX_INODE_BYTES: usize = 5 << 10;
/// The highest mode: the permission bits of POSIX with set-user-id, set-group-id and sticky.
pub const MAX_MODE: u32 = 0o7777;

const VERSION: u8 = 1;
const VERSION_WITH_GENERATION: u8 = 2;

/// What stands at a path.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Bytes.
    File,
    /// Names below the path; they have keys of their own.
    Directory,
    /// A symbolic link: its target is the inline content.
    Symlink,
}

/// Where the bytes of a file or the target of a link are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Content {
    /// There are none.
    None,
    /// Here: 1 to [`MAX_INLINE_BYTES`].
    Inline(Bytes),
    /// In one block.
    Block(Hash),
    /// In the blocks that the tree with this root lists.
    Tree(Hash),
}

/// A file, directory or symbolic link. Make one with [`Inode::file`], [`Inode::directory`] or [`Inode::symlink`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Inode {
    /// What it is.
    pub kind: Kind,
    /// Bytes of the content; 0 for a directory.
    pub size: u64,
    /// Where the content is.
    pub content: Content,
    /// POSIX permission bits, at most [`MAX_MODE`].
    pub mode: u32,
    /// When the content was last changed, in milliseconds since 1970, as the writer said.
    pub modified_ms: u64,
    /// The media type of a file: 1 to [`MAX_MEDIA_TYPE_BYTES`] printable ASCII characters.
    pub media_type: Option<String>,
    /// blake3 of the whole content; [`Hash::ZERO`] for a directory.
    pub hash_of_content: Hash,
    /// The generation in which the blocks of the content were stored, if there are any: see
    /// [`version_in_generation`](crate::version_in_generation). It is no part of what a reader sees.
    pub generation: u64,
}

/// An inode that contradicts itself or does not decode.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InodeError {
    /// The mode is above [`MAX_MODE`].
    #[error("mode {0:#o} is above {MAX_MODE:#o}")]
    Mode(u32),
    /// The media type is empty, too long, not printable ASCII, or not a file's.
    #[error("a media type has 1 to {MAX_MEDIA_TYPE_BYTES} printable ASCII characters and belongs to a file")]
    MediaType,
    /// Content and size, or content and kind, do not fit together.
    #[error("the content does not fit the size or the kind of the inode")]
    Content,
    /// The hash of the content is not the one of the inline bytes or of the only block, or a directory has one.
    #[error("the hash is not the one of the content")]
    WrongHash,
    /// The bytes are no encoded inode.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

impl Inode {
    /// A file of `size` bytes. Content must fit the size: none for 0, inline for its length, a block for 1 byte to
    /// 1 MiB, a tree for 1 byte or more; `hash_of_content` is blake3 of all bytes.
    pub fn file(
        size: u64,
        content: Content,
        hash_of_content: Hash,
        mode: u32,
        modified_ms: u64,
        media_type: Option<String>,
    ) -> Result<Self, InodeError> {
        Self { kind: Kind::File, size, content, mode, modified_ms, media_type, hash_of_content, generation: 0 }
            .checked()
    }

    /// A file whose bytes, at most [`MAX_INLINE_BYTES`], live in the inode.
    pub fn inline_file(
        bytes: Bytes,
        mode: u32,
        modified_ms: u64,
        media_type: Option<String>,
    ) -> Result<Self, InodeError> {
        let (size, hash) = (bytes.len() as u64, Hash::of(&bytes));
        let content = if bytes.is_empty() { Content::None } else { Content::Inline(bytes) };
        Self::file(size, content, hash, mode, modified_ms, media_type)
    }

    /// A directory.
    pub fn directory(mode: u32, modified_ms: u64) -> Result<Self, InodeError> {
        let (kind, content, hash_of_content) = (Kind::Directory, Content::None, Hash::ZERO);
        Self { kind, size: 0, content, mode, modified_ms, media_type: None, hash_of_content, generation: 0 }.checked()
    }

    /// A symbolic link to `target`: 1 to [`MAX_INLINE_BYTES`] bytes without NUL.
    pub fn symlink(target: Bytes, mode: u32, modified_ms: u64) -> Result<Self, InodeError> {
        let (size, hash_of_content) = (target.len() as u64, Hash::of(&target));
        let (kind, content) = (Kind::Symlink, Content::Inline(target));
        Self { kind, size, content, mode, modified_ms, media_type: None, hash_of_content, generation: 0 }.checked()
    }

    /// The same inode, whose blocks were stored in `generation`; without effect if it has none.
    #[must_use]
    pub fn stored_in(self, generation: u64) -> Self {
        let generation = if self.has_blocks() { generation } else { 0 };
        Self { generation, ..self }
    }

    /// Whether the content is in blocks.
    pub fn has_blocks(&self) -> bool {
        matches!(self.content, Content::Block(_) | Content::Tree(_))
    }

    /// Whether anyone may execute it.
    pub fn is_executable(&self) -> bool {
        self.mode & 0o111 != 0
    }

    /// The target of a symbolic link.
    pub fn target(&self) -> Option<&Bytes> {
        match (self.kind, &self.content) {
            (Kind::Symlink, Content::Inline(target)) => Some(target),
            _ => None,
        }
    }

    /// The one encoding of this inode, at most [`MAX_INODE_BYTES`]. Fails if its fields contradict each other.
    pub fn encode(&self) -> Result<Bytes, InodeError> {
        self.check()?;
        let mut bytes = BytesMut::with_capacity(256);
        bytes.put_u8(if self.generation > 0 { VERSION_WITH_GENERATION } else { VERSION });
        bytes.put_u8(self.kind.to_byte());
        bytes.put_u64_le(self.size);
        bytes.put_u32_le(self.mode);
        bytes.put_u64_le(self.modified_ms);
        bytes.put_slice(self.hash_of_content.as_bytes());
        let media_type = self.media_type.as_deref().unwrap_or_default();
        bytes.put_u8(media_type.len() as u8);
        bytes.put_slice(media_type.as_bytes());
        self.content.encode(&mut bytes);
        if self.generation > 0 {
            bytes.put_u64_le(self.generation);
        }
        Ok(bytes.freeze())
    }

    /// The inode of which `bytes` is the encoding. Everything is checked, and nothing may follow.
    pub fn decode(bytes: &[u8]) -> Result<Self, InodeError> {
        if bytes.len() > MAX_INODE_BYTES {
            return Err(DecodeError::TooLong(bytes.len()).into());
        }
        let mut reader = Reader::new(bytes);
        let version = reader.u8()?;
        if !(VERSION..=VERSION_WITH_GENERATION).contains(&version) {
            return Err(DecodeError::UnknownVersion(version).into());
        }
        let kind = Kind::from_byte(reader.u8()?)?;
        let (size, mode, modified_ms) = (reader.u64()?, reader.u32()?, reader.u64()?);
        let hash_of_content = reader.hash()?;
        let media_type = decode_media_type(&mut reader)?;
        let content = Content::decode(&mut reader)?;
        let generation = if version == VERSION_WITH_GENERATION { reader.u64()? } else { 0 };
        reader.finish()?;
        if version == VERSION_WITH_GENERATION && generation == 0 {
            return Err(DecodeError::Field("generation").into());
        }
        Self { kind, size, content, mode, modified_ms, media_type, hash_of_content, generation }.checked()
    }

    fn checked(self) -> Result<Self, InodeError> {
        self.check().map(|()| self)
    }

    fn check(&self) -> Result<(), InodeError> {
        if self.mode > MAX_MODE {
            return Err(InodeError::Mode(self.mode));
        }
        if self.media_type.as_deref().is_some_and(|text| self.kind != Kind::File || !is_media_type(text)) {
            return Err(InodeError::MediaType);
        }
        if !self.content_fits() {
            return Err(InodeError::Content);
        }
        if self.expected_hash().is_some_and(|expected| expected != self.hash_of_content) {
            return Err(InodeError::WrongHash);
        }
        Ok(())
    }

    fn content_fits(&self) -> bool {
        match (self.kind, &self.content) {
            (Kind::File | Kind::Directory, Content::None) => self.size == 0,
            (Kind::File, Content::Inline(bytes)) => self.inline_fits(bytes),
            (Kind::File, Content::Block(_)) => (1..=MAX_BLOCK_BYTES as u64).contains(&self.size),
            (Kind::File, Content::Tree(_)) => self.size > 0,
            (Kind::Symlink, Content::Inline(target)) => self.inline_fits(target) && !target.contains(&0),
            (Kind::Directory | Kind::Symlink, _) => false,
        }
    }

    fn inline_fits(&self, bytes: &[u8]) -> bool {
        (1..=MAX_INLINE_BYTES).contains(&bytes.len()) && self.size == bytes.len() as u64
    }

    /// The hash of the content as far as the inode alone tells it: not for a tree.
    fn expected_hash(&self) -> Option<Hash> {
        match &self.content {
            Content::None if self.kind == Kind::Directory => Some(Hash::ZERO),
            Content::None => Some(Hash::of(&[])),
            Content::Inline(bytes) => Some(Hash::of(bytes)),
            Content::Block(hash) => Some(*hash),
            Content::Tree(_) => None,
        }
    }
}

/// For people and programs to look at: inline bytes are not shown, but a link's target is.
impl Serialize for Inode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Inode", 9)?;
        fields.serialize_field("kind", &self.kind)?;
        fields.serialize_field("size", &self.size)?;
        fields.serialize_field("mode", &self.mode)?;
        fields.serialize_field("modified_ms", &self.modified_ms)?;
        fields.serialize_field("media_type", &self.media_type)?;
        fields.serialize_field("hash", &self.hash_of_content)?;
        let (content, root) = match &self.content {
            Content::None => ("none", None),
            Content::Inline(_) => ("inline", None),
            Content::Block(hash) => ("block", Some(hash)),
            Content::Tree(hash) => ("tree", Some(hash)),
        };
        fields.serialize_field("content", content)?;
        fields.serialize_field("root", &root)?;
        fields.serialize_field("target", &self.target().map(|target| String::from_utf8_lossy(target)))?;
        fields.end()
    }
}

impl Kind {
    fn to_byte(self) -> u8 {
        match self {
            Self::File => 0,
            Self::Directory => 1,
            Self::Symlink => 2,
        }
    }

    fn from_byte(byte: u8) -> Result<Self, DecodeError> {
        match byte {
            0 => Ok(Self::File),
            1 => Ok(Self::Directory),
            2 => Ok(Self::Symlink),
            _ => Err(DecodeError::Field("kind")),
        }
    }
}

impl Content {
    fn encode(&self, bytes: &mut BytesMut) {
        match self {
            Self::None => bytes.put_u8(0),
            Self::Inline(inline) => {
                bytes.put_u8(1);
                bytes.put_u16_le(inline.len() as u16);
                bytes.put_slice(inline);
            }
            Self::Block(hash) => {
                bytes.put_u8(2);
                bytes.put_slice(hash.as_bytes());
            }
            Self::Tree(hash) => {
                bytes.put_u8(3);
                bytes.put_slice(hash.as_bytes());
            }
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match reader.u8()? {
            0 => Ok(Self::None),
            1 => {
                let length = usize::from(reader.u16()?);
                Ok(Self::Inline(Bytes::copy_from_slice(reader.slice(length)?)))
            }
            2 => Ok(Self::Block(reader.hash()?)),
            3 => Ok(Self::Tree(reader.hash()?)),
            _ => Err(DecodeError::Field("content")),
        }
    }
}

fn decode_media_type(reader: &mut Reader<'_>) -> Result<Option<String>, DecodeError> {
    let length = usize::from(reader.u8()?);
    let text = std::str::from_utf8(reader.slice(length)?).map_err(|_| DecodeError::Field("media type"))?;
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

/// Printable ASCII only, since the text ends up in a header of HTTP.
fn is_media_type(text: &str) -> bool {
    (1..=MAX_MEDIA_TYPE_BYTES).contains(&text.len()) && text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use difuse_types::Hash;
    use proptest::prelude::{any, prop, prop_assert_eq, proptest};

    use super::{Content, Inode, InodeError, MAX_INLINE_BYTES, MAX_INODE_BYTES};
    use crate::DecodeError;

    fn samples() -> Vec<Inode> {
        let hash = Hash::of(b"content");
        let text = |length: usize| Some("t".repeat(length));
        [
            Inode::inline_file(Bytes::new(), 0o644, 0, None),
            Inode::inline_file(Bytes::from_static(b"hello"), 0o755, 1_700_000_000_000, text(1)),
            Inode::inline_file(Bytes::from(vec![0; MAX_INLINE_BYTES]), 0o7777, u64::MAX, text(128)),
            Inode::file(1 << 20, Content::Block(hash), hash, 0o600, 5, None),
            Inode::file(u64::MAX, Content::Tree(Hash::of(b"root")), hash, 0, 5, text(20)),
            Inode::file(9, Content::Tree(Hash::of(b"root")), hash, 0, 5, None).map(|inode| inode.stored_in(7)),
            Inode::directory(0o755, 9),
            Inode::symlink(Bytes::from_static(b"../there"), 0o777, 9),
        ]
        .map(|inode| inode.expect("valid inode"))
        .to_vec()
    }

    #[test]
    fn round_trips_within_bounds() {
        for inode in samples() {
            let bytes = inode.encode().expect("valid inode");
            assert!(bytes.len() <= MAX_INODE_BYTES);
            assert_eq!(Inode::decode(&bytes), Ok(inode));
        }
    }

    #[test]
    fn refuses_every_truncation_and_anything_behind() {
        for inode in samples() {
            let bytes = inode.encode().expect("valid inode");
            for length in 0..bytes.len() {
                assert_eq!(Inode::decode(&bytes[..length]), Err(InodeError::Decode(DecodeError::Truncated)));
            }
            let longer = [&bytes[..], &[0]].concat();
            assert_eq!(Inode::decode(&longer), Err(InodeError::Decode(DecodeError::TrailingBytes(1))));
        }
        let long = vec![1; MAX_INODE_BYTES + 1];
        assert_eq!(Inode::decode(&long), Err(InodeError::Decode(DecodeError::TooLong(long.len()))));
    }

    #[test]
    fn refuses_contradictions() {
        let (hash, none) = (Hash::of(b"content"), Hash::of(b""));
        let inline = || Content::Inline(Bytes::from_static(b"hello"));
        let file = |size, content, hash| Inode::file(size, content, hash, 0o644, 0, None);
        let typed = |text: &str| Inode::inline_file(Bytes::new(), 0o644, 0, Some(text.to_owned()));
        for (inode, error) in [
            (file(1, Content::None, none), InodeError::Content),
            (file(4, inline(), Hash::of(b"hello")), InodeError::Content),
            (file(0, Content::Inline(Bytes::new()), none), InodeError::Content),
            (file((1 << 20) + 1, Content::Block(hash), hash), InodeError::Content),
            (file(0, Content::Tree(hash), hash), InodeError::Content),
            (file(0, Content::None, Hash::ZERO), InodeError::WrongHash),
            (file(5, inline(), hash), InodeError::WrongHash),
            (file(5, Content::Block(none), hash), InodeError::WrongHash),
            (Inode::inline_file(Bytes::from(vec![0; MAX_INLINE_BYTES + 1]), 0, 0, None), InodeError::Content),
            (Inode::symlink(Bytes::new(), 0, 0), InodeError::Content),
            (Inode::symlink(Bytes::from_static(b"a\0b"), 0, 0), InodeError::Content),
            (Inode::directory(0o10000, 0), InodeError::Mode(0o10000)),
            (typed(""), InodeError::MediaType),
            (typed("text/plain\r\nx: y"), InodeError::MediaType),
            (typed(&"t".repeat(129)), InodeError::MediaType),
        ] {
            assert_eq!(inode, Err(error));
        }
        let directory = Inode { media_type: Some("a/b".into()), ..Inode::directory(0, 0).expect("valid inode") };
        assert_eq!(directory.encode(), Err(InodeError::MediaType));
    }

    #[test]
    fn json_shows_what_people_ask_for() {
        let link = Inode::symlink(Bytes::from_static(b"../there"), 0o777, 9).expect("valid inode");
        let shown = serde_json::to_value(&link).expect("plain fields");
        assert_eq!((&shown["kind"], &shown["target"]), (&"symlink".into(), &"../there".into()));
        assert_eq!((&shown["size"], &shown["content"], &shown["root"]), (&8.into(), &"inline".into(), &().into()));
    }

    proptest! {
        #[test]
        fn what_decodes_encodes_to_the_same_bytes(
            sample in any::<prop::sample::Index>(),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        ) {
            let samples = samples();
            let mut bytes = samples[sample.index(samples.len())].encode().expect("valid inode").to_vec();
            for (place, byte) in changes {
                let place = place.index(bytes.len());
                bytes[place] = byte;
            }
            if let Ok(inode) = Inode::decode(&bytes) {
                prop_assert_eq!(inode.encode().expect("decoded"), bytes);
            }
        }
    }
}
