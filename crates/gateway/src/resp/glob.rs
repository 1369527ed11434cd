//! Patterns as Redis has them: where to begin to look for what matches.

pub(super) use difuse_api::structures::glob_matches as matches;

/// The bytes with which everything begins that matches `pattern`.
pub(super) fn literal_prefix(pattern: &[u8]) -> Vec<u8> {
    let mut prefix = Vec::new();
    let mut rest = pattern.iter();
    while let Some(byte) = rest.next() {
        match byte {
            b'*' | b'?' | b'[' => break,
            b'\\' => prefix.extend(rest.next().or(Some(byte))),
            byte => prefix.push(*byte),
        }
    }
    prefix
}

#[cfg(test)]
mod tests {
    use super::literal_prefix;

    #[test]
    fn the_beginning_of_what_matches_is_known() {
        for (pattern, prefix) in [("user:*", "user:"), ("a\\*b*", "a*b"), ("*", ""), ("plain", "plain"), ("a[b]", "a")]
        {
            assert_eq!(literal_prefix(pattern.as_bytes()), prefix.as_bytes(), "{pattern}");
        }
    }
}
