use std::time::Duration;

use difuse_api::{Consistency, request::Condition};

/// How [`Client::set_with`](crate::Client::set_with) writes. The default is what [`Client::set`](crate::Client::set) does.
///
/// ```
/// use std::time::Duration;
///
/// use difuse_client::WriteOptions;
///
/// let session = WriteOptions { ttl: Some(Duration::from_secs(1800)), ..WriteOptions::default() };
/// # assert_eq!(session.namespace, "");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WriteOptions {
    /// The key's namespace; the default one has no name.
    pub namespace: String,
    /// What must hold of the key, else nothing is written.
    pub condition: Condition,
    /// How long the key lives, at least a millisecond, counted by this machine's clock; `None`: for ever.
    pub ttl: Option<Duration>,
    /// Who stands behind the write; `None`: those that the client or the namespace says.
    pub consistency: Option<Consistency>,
}
