//! How results look to people.

use comfy_table::{ContentArrangement, Table, presets::UTF8_FULL_CONDENSED};

/// A table with a header, as wide as the terminal allows.
pub fn table<const N: usize>(header: &[&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(header.to_vec());
    for row in rows {
        table.add_row(row.to_vec());
    }
    table.to_string()
}

/// A script that completes `command`'s arguments in a shell.
pub fn completions(shell: clap_complete::Shell, command: &mut clap::Command, name: &str) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, command, name, &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// A number of bytes in the largest unit that keeps it readable: `1.4 MiB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// Milliseconds since the Unix epoch as a date with seconds, in UTC.
pub fn date(milliseconds: u64) -> String {
    let time = std::time::UNIX_EPOCH.checked_add(std::time::Duration::from_millis(milliseconds));
    // The formatter refuses years beyond 9999.
    let time = time.filter(|_| milliseconds < 253_402_300_799_000);
    time.map_or_else(|| "–".into(), |time| humantime::format_rfc3339_seconds(time).to_string())
}

#[cfg(test)]
mod tests {
    use super::{bytes, date, table};

    #[test]
    fn sizes_are_readable() {
        for (count, expected) in
            [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1_500_000, "1.4 MiB"), (u64::MAX, "16.0 EiB")]
        {
            assert_eq!(bytes(count), expected);
        }
    }

    #[test]
    fn dates_never_panic() {
        assert_eq!(date(1_000), "1970-01-01T00:00:01Z");
        assert_eq!(date(u64::MAX), "–");
    }

    #[test]
    fn tables_hold_their_cells() {
        let text = table(&["a", "b"], [["1".to_string(), "2".to_string()]]);
        assert!(text.contains('a') && text.contains('2'), "{text}");
    }
}
