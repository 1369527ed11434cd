//! `difused config`.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::settings::{Effective, Origin};
use crate::terminal::table;

/// The settings in force and where they came from, for people or as JSON.
pub fn render(settings: &[Effective], file: Option<&Path>, as_json: bool) -> String {
    if as_json {
        return format!("{:#}", render_json(settings, file));
    }
    let rows = settings.iter().map(|setting| {
        let value = if setting.value.is_empty() { "–".to_string() } else { setting.value.clone() };
        [setting.name.to_string(), value, setting.origin.to_string()]
    });
    let file = file.map_or("none found".to_string(), |path| path.display().to_string());
    format!("{}\nSettings file: {file}", table(&["setting", "value", "from"], rows))
}

fn render_json(settings: &[Effective], file: Option<&Path>) -> Value {
    let entries = settings.iter().map(|setting| {
        let origin = match setting.origin {
            Origin::Default => "default",
            Origin::File(_) => "file",
            Origin::Environment(_) => "environment",
            Origin::CommandLine(_) => "command line",
        };
        (
            setting.name.to_string(),
            json!({ "value": setting.value, "origin": origin, "from": setting.origin.to_string() }),
        )
    });
    json!({ "file": file, "settings": entries.collect::<Map<_, _>>() })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::render;
    use crate::daemon::settings::{Effective, Origin};

    #[test]
    fn values_are_shown_with_their_origin() {
        let settings = [
            Effective { name: "http", value: "127.0.0.1:9090".into(), origin: Origin::Default },
            Effective { name: "zone", value: String::new(), origin: Origin::Environment("DIFUSE_ZONE".into()) },
        ];
        let text = render(&settings, Some(Path::new("a.toml")), false);
        assert!(
            text.contains("127.0.0.1:9090") && text.contains("variable DIFUSE_ZONE") && text.contains("a.toml"),
            "{text}"
        );
        let parsed: serde_json::Value = serde_json::from_str(&render(&settings, None, true)).unwrap();
        assert_eq!(parsed["settings"]["http"]["origin"], "default");
        assert_eq!(parsed["settings"]["zone"]["from"], "variable DIFUSE_ZONE");
    }
}
