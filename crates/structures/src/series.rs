//! Commands on one key that follow each other, as the arguments of one request: they are evaluated one after the other, each
//! on what those before it have left, and come to a transaction each.

use bytes::Bytes;

/// The most commands of a series.
pub const SERIES_MAX: usize = 64;

/// What the arguments of a series begin with; no command is called so.
const NAME: &[u8] = b"difuse|series";

/// The bytes are no arguments of a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a series has 1 to {SERIES_MAX} commands, each with the number of its arguments before it")]
pub struct MalformedSeries;

/// The arguments of the request that asks for these commands, one after the other.
pub fn in_series(commands: Vec<Vec<Bytes>>) -> Vec<Bytes> {
    let count = commands.iter().map(|command| command.len() + 1).sum::<usize>() + 1;
    let mut arguments = Vec::with_capacity(count);
    arguments.push(Bytes::from_static(NAME));
    for command in commands {
        arguments.push(Bytes::copy_from_slice(&(command.len() as u32).to_le_bytes()));
        arguments.extend(command);
    }
    arguments
}

/// The commands of a series; `None` if the arguments are those of a single command.
pub fn series_of(arguments: &[Bytes]) -> Option<Result<Vec<&[Bytes]>, MalformedSeries>> {
    let (name, mut rest) = arguments.split_first()?;
    if name != NAME {
        return None;
    }
    let mut commands = Vec::new();
    while let Some((length, following)) = rest.split_first() {
        let length = length[..].try_into().map(u32::from_le_bytes).ok().and_then(|length| usize::try_from(length).ok());
        let Some((command, others)) = length.and_then(|length| following.split_at_checked(length)) else {
            return Some(Err(MalformedSeries));
        };
        commands.push(command);
        rest = others;
    }
    Some(if (1..=SERIES_MAX).contains(&commands.len()) { Ok(commands) } else { Err(MalformedSeries) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_comes_back_and_rubbish_does_not() {
        let words = |line: &str| line.split(' ').map(|word| Bytes::from(word.to_string())).collect::<Vec<_>>();
        let commands = vec![words("lpush k a"), words("llen k")];
        let arguments = in_series(commands.clone());
        let expected: Vec<&[Bytes]> = commands.iter().map(Vec::as_slice).collect();
        assert_eq!(series_of(&arguments), Some(Ok(expected)));
        for length in 2..arguments.len() {
            let cut = series_of(&arguments[..length]);
            let is_whole = length == 1 + 1 + 3;
            assert_eq!(cut.map(|cut| cut.is_ok()), Some(is_whole), "{length} arguments");
        }
        assert_eq!(series_of(&words("lpush k a")), None);
        assert_eq!(series_of(&[]), None);
        let name = Bytes::from_static(NAME);
        for strange in [vec![name.clone()], vec![name.clone(), Bytes::new()], vec![name, vec![0xff; 4].into()]] {
            assert_eq!(series_of(&strange), Some(Err(MalformedSeries)));
        }
        assert_eq!(series_of(&in_series(vec![words("x"); SERIES_MAX + 1])), Some(Err(MalformedSeries)));
    }
}
