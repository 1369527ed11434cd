use std::fmt::Display;
use std::str::FromStr;

use difuse_net::fuzzing;
use difuse_types::{Hash, Key, Level, NodeId, OperationId};

/// Texts that come from people, files and peers: identities, hashes, levels, paths, addresses.
pub fn text(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    survives_being_shown::<Hash>(&text);
    survives_being_shown::<NodeId>(&text);
    survives_being_shown::<OperationId>(&text);
    survives_being_shown::<Level>(&text);
    fuzzing::address(&text);
    if let Ok(key) = Key::of_path(&text) {
        let again = Key::of_path(&key.to_string());
        assert_eq!(again.as_ref(), Ok(&key), "a path names the same file when it is shown and read again");
    }
    if let Ok(key) = Key::new(bytes) {
        assert_eq!(Key::from_encoded(key.encoded().clone()).as_ref(), Ok(&key));
    }
}

fn survives_being_shown<T: FromStr + Display + PartialEq>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        assert!(value.to_string().parse::<T>().is_ok_and(|again| again == value), "{text:?}");
    }
}
