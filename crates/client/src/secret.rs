/// The hash of a ring's secret as its nodes and clients exchange it. White space around the text is ignored, so that a
/// file's last line break makes no other secret.
pub fn secret_from_text(text: &str) -> [u8; 32] {
    blake3::derive_key("difuse 2026 ring secret v1", text.trim().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::secret_from_text;

    #[test]
    fn a_line_break_makes_no_other_secret() {
        assert_eq!(secret_from_text("open sesame\n"), secret_from_text("open sesame"));
        assert_ne!(secret_from_text("open sesame"), secret_from_text("open  sesame"));
    }
}
