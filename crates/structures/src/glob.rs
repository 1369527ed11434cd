/// Whether `text` matches a pattern as Redis has them: `*`, `?`, `[a-z]`, `[^a]`, and `\` before a character that is
/// meant as it is. Takes time in proportion to both lengths multiplied, at most, and no memory.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    if text.is_empty() {
        // Redis does not match `*` with nothing here; whoever means everything leaves the pattern away.
        return pattern.is_empty();
    }
    let (mut pattern_at, mut text_at) = (0, 0);
    // Behind the last star, and the text's position that it is tried from.
    let mut retry: Option<(usize, usize)> = None;
    while text_at < text.len() {
        if pattern.get(pattern_at) == Some(&b'*') {
            pattern_at += 1;
            retry = Some((pattern_at, text_at));
            continue;
        }
        match one(&pattern[pattern_at..], text[text_at]) {
            Some(length) => {
                pattern_at += length;
                text_at += 1;
            }
            None => match retry {
                Some((star, from)) => {
                    pattern_at = star;
                    text_at = from + 1;
                    retry = Some((star, from + 1));
                }
                None => return false,
            },
        }
    }
    pattern[pattern_at..].iter().all(|byte| *byte == b'*')
}

/// How long the element in front of the pattern is, if it matches the character.
fn one(pattern: &[u8], character: u8) -> Option<usize> {
    match pattern {
        [] => None,
        [b'?', ..] => Some(1),
        [b'[', class @ ..] => {
            let (is_match, length) = class_matches(class, character);
            is_match.then_some(1 + length)
        }
        [b'\\', escaped, ..] => (*escaped == character).then_some(2),
        [literal, ..] => (*literal == character).then_some(1),
    }
}

/// Whether a class, from behind its bracket on, matches the character, and its length with the bracket that closes it,
/// if one does. Ranges compare characters as C's signed ones, as Redis does.
fn class_matches(class: &[u8], character: u8) -> (bool, usize) {
    let is_negated = class.first() == Some(&b'^');
    let mut at = usize::from(is_negated);
    let mut is_match = false;
    loop {
        match &class[at..] {
            [] => break,
            [b'\\', escaped, ..] => {
                is_match |= *escaped == character;
                at += 2;
            }
            [b']', ..] => {
                at += 1;
                break;
            }
            [from, b'-', to, ..] => {
                let (from, to, character) = (*from as i8, *to as i8, character as i8);
                is_match |= (from.min(to)..=from.max(to)).contains(&character);
                at += 3;
            }
            [literal, ..] => {
                is_match |= *literal == character;
                at += 1;
            }
        }
    }
    (is_match != is_negated, at)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_match_as_in_redis() {
        let matching = [
            ("h?llo", "hello"),
            ("h*llo", "hllo"),
            ("h*llo", "heeeello"),
            ("*a*b*", "xxaxxbxx"),
            ("h[ae]llo", "hallo"),
            ("h[^e]llo", "hallo"),
            ("h[a-b]llo", "hbllo"),
            ("h[b-a]llo", "hallo"),
            ("\\*", "*"),
            ("[\\]]", "]"),
            ("[a", "a"),
            ("a**", "a"),
            ("", ""),
            ("\\", "\\"),
        ];
        for (pattern, text) in matching {
            assert!(matches(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
        }
        for (pattern, text) in [("h[^e]llo", "hello"), ("a", ""), ("**", ""), ("a*b", "ac"), ("", "a"), ("[]", "a")] {
            assert!(!matches(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
        }
    }

    #[test]
    fn many_stars_take_no_time() {
        let pattern = "*a".repeat(1000);
        assert!(!matches(pattern.as_bytes(), "a".repeat(900).as_bytes()));
    }
}
