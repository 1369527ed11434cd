use std::{fmt, str::FromStr};

/// How many members of a replica group stand behind an answer; chosen per request.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Level {
    /// One node.
    Lazy,
    /// The leader.
    Leader,
    /// A majority: linearizable. The default.
    #[default]
    Quorum,
    /// Every member.
    All,
}

impl Level {
    /// All levels, weakest first.
    pub const ALL: [Self; 4] = [Self::Lazy, Self::Leader, Self::Quorum, Self::All];

    /// The word used in HTTP, the CLI and configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lazy => "lazy",
            Self::Leader => "leader",
            Self::Quorum => "quorum",
            Self::All => "all",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl serde::Serialize for Level {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> serde::Deserialize<'de> for Level {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <std::borrow::Cow<str>>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The text is none of the four levels.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown consistency level {0:?}: use lazy, leader, quorum or all")]
pub struct UnknownLevel(pub String);

impl FromStr for Level {
    type Err = UnknownLevel;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|level| level.as_str() == text)
            .ok_or_else(|| UnknownLevel(text.chars().take(40).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::Level;

    #[test]
    fn words_round_trip_and_others_are_refused() {
        for level in Level::ALL {
            assert_eq!(level.as_str().parse(), Ok(level));
        }
        assert!("Quorum".parse::<Level>().is_err());
        assert!("".parse::<Level>().is_err());
    }
}
