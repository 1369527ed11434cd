use std::sync::OnceLock;

use blake3::hazmat::{ContextKey, HasherExt, hash_derive_key_context};

/// One use of blake3's key derivation, so that equal bytes hashed for different uses have unrelated hashes. The key that
/// stands for the context is derived once, which would otherwise take a good part of the time of a short hash.
#[derive(Debug)]
pub struct HashContext {
    text: &'static str,
    key: OnceLock<ContextKey>,
}

impl HashContext {
    /// The context named `text`: hard-coded, unique to its use, and never changed.
    pub const fn new(text: &'static str) -> Self {
        Self { text, key: OnceLock::new() }
    }

    /// A hasher in this context: what `blake3::Hasher::new_derive_key` gives for its text.
    pub fn hasher(&self) -> blake3::Hasher {
        blake3::Hasher::new_from_context_key(self.key.get_or_init(|| hash_derive_key_context(self.text)))
    }
}

#[cfg(test)]
mod tests {
    use super::HashContext;

    #[test]
    fn hashes_are_those_of_blake3_itself() {
        static CONTEXT: HashContext = HashContext::new("difuse test context");
        for bytes in [&b""[..], b"short", &[7; 5000]] {
            let expected = blake3::derive_key("difuse test context", bytes);
            for _ in 0..2 {
                assert_eq!(*CONTEXT.hasher().update(bytes).finalize().as_bytes(), expected);
            }
        }
    }
}
