use std::fmt;

pub use difuse_keylog::store::Usage;

/// What the flat keys of one namespace come to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NamespaceUsage {
    /// The namespace; the default one is `""`.
    pub namespace: String,
    /// What they come to.
    pub usage: Usage,
}

/// What a namespace may hold at most.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Quota {
    /// So many keys with values.
    Keys(u64),
    /// So many bytes of names and values.
    Bytes(u64),
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keys(keys) => write!(f, "{keys} keys"),
            Self::Bytes(bytes) => write!(f, "{bytes} bytes"),
        }
    }
}

/// A part of all namespaces that have keys, in the order of names.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct UsagePage {
    /// At most [`PAGE_MAX`](super::PAGE_MAX).
    pub namespaces: Vec<NamespaceUsage>,
    /// The namespace with which the next page begins; `None` if nothing follows.
    pub next: Option<String>,
}
