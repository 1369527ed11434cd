use clap::Args;
use difuse_api::request::Condition;

use super::set::{TtlArguments, ValueArguments, print_submitted, write};
use crate::command::{exit::Failure, session::Session};

/// Arguments of `kv cas`.
#[derive(Debug, Args)]
pub struct CasArguments {
    #[command(flatten)]
    key: super::KeyArguments,
    /// What must hold: `absent`, `present`, or the hash of the key's last transaction.
    #[arg(value_parser = parse_condition)]
    expected: Condition,
    #[command(flatten)]
    value: ValueArguments,
    #[command(flatten)]
    ttl: TtlArguments,
}

/// Gives a key a value if its head is as expected; a conflict has an exit code of its own.
pub async fn run(session: &Session, arguments: CasArguments) -> Result<(), Failure> {
    let key = arguments.key.key()?;
    let client = session.connect().await?;
    let submitted =
        write(session, &client, key, arguments.value, arguments.ttl.deadline()?, arguments.expected).await?;
    print_submitted(session, &submitted)
}

fn parse_condition(text: &str) -> Result<Condition, String> {
    match text {
        "absent" => Ok(Condition::Absent),
        "present" => Ok(Condition::Present),
        hash => hash.parse().map(Condition::Head).map_err(|_| "expected absent, present or 64 hex digits".into()),
    }
}

#[cfg(test)]
mod tests {
    use difuse_api::request::Condition;
    use difuse_types::Hash;

    use super::parse_condition;

    #[test]
    fn conditions_are_words_or_hashes() {
        assert_eq!(parse_condition("absent"), Ok(Condition::Absent));
        assert_eq!(parse_condition("present"), Ok(Condition::Present));
        assert_eq!(parse_condition(&"0".repeat(64)), Ok(Condition::Head(Hash::ZERO)));
        assert!(parse_condition("Absent").is_err());
    }
}
