//! Patterns as Redis has them: `*`, `?`, `[a-z]`, `[^a]`, and a backslash that takes the next character as it is.

/// Whether `text` matches `pattern`. Takes at most the product of both lengths in time: a pattern with many stars does
/// not hold up a node.
pub(super) fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut next) = (0, 0);
    // Where to go on if what follows the last star does not match: with one more character taken by that star.
    let mut star: Option<(usize, usize)> = None;
    while next < text.len() {
        match one(&pattern[at..], text[next]) {
            Some(0) => {
                star = Some((at + 1, next));
                at += 1;
            }
            Some(length) => (at, next) = (at + length, next + 1),
            None => {
                let Some((after, taken)) = star else { return false };
                star = Some((after, taken + 1));
                (at, next) = (after, taken + 1);
            }
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

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

/// How long the part of the pattern is that `byte` matches: 0 for a star, `None` if it does not.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern {
        [] => None,
        [b'*', ..] => Some(0),
        [b'?', ..] => Some(1),
        [b'[', class @ ..] => {
            let (is_in, length) = in_class(class, byte);
            is_in.then_some(1 + length)
        }
        [b'\\', escaped, ..] => (*escaped == byte).then_some(2),
        [literal, ..] => (*literal == byte).then_some(1),
    }
}

/// Whether `byte` is in the class whose bracket was opened, and how long the class is with its closing bracket.
fn in_class(class: &[u8], byte: u8) -> (bool, usize) {
    let is_inverted = class.first() == Some(&b'^');
    let mut at = usize::from(is_inverted);
    let mut is_in = false;
    loop {
        match &class[at..] {
            [] => break,
            [b']', ..] => {
                at += 1;
                break;
            }
            [b'\\', escaped, ..] => {
                is_in |= *escaped == byte;
                at += 2;
            }
            [from, b'-', to, ..] => {
                is_in |= (*from.min(to)..=*from.max(to)).contains(&byte);
                at += 3;
            }
            [literal, ..] => {
                is_in |= *literal == byte;
                at += 1;
            }
        }
    }
    (is_in != is_inverted, at)
}

#[cfg(test)]
mod tests {
    use super::{literal_prefix, matches};

    #[test]
    fn patterns_match_as_in_redis() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("h*llo", "heeeello", true),
            ("h[ae]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-b]llo", "hbllo", true),
            ("h[b-a]llo", "hallo", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "axb", false),
            ("*a*b*c", "xxaxxbxxc", true),
            ("*a*b*c", "xxaxxbxx", false),
            ("[a", "a", true),
            ("a**", "a", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
        assert!(!matches(&b"*a".repeat(500), &[b'a'; 400]));
    }

    #[test]
    fn the_beginning_of_what_matches_is_known() {
        for (pattern, prefix) in [("user:*", "user:"), ("a\\*b*", "a*b"), ("*", ""), ("plain", "plain"), ("a[b]", "a")] {
            assert_eq!(literal_prefix(pattern.as_bytes()), prefix.as_bytes(), "{pattern}");
        }
    }
}
