//! The commands that make a structure from nothing, as an export writes them down.

use bytes::Bytes;

/// The most arguments of one of them, besides its name.
const ARGUMENTS_MAX: usize = 1000;
/// No further arguments are added to one that has so many bytes.
const BYTES_ENOUGH: usize = 64 << 10;

/// A command's name and its arguments, without the key, which stands where [`crate::Command::keys`] says.
pub type Rebuilding = Vec<Bytes>;

/// As many commands of this name as it takes to pass on all groups of arguments, in their order.
pub fn in_commands<const GROUP: usize>(
    name: &'static str,
    groups: impl IntoIterator<Item = [Bytes; GROUP]>,
) -> Vec<Rebuilding> {
    let mut commands: Vec<Rebuilding> = Vec::new();
    let mut bytes = BYTES_ENOUGH;
    for group in groups {
        let is_full = |command: &Rebuilding| command.len() + GROUP > 1 + ARGUMENTS_MAX;
        if bytes >= BYTES_ENOUGH || commands.last().is_none_or(is_full) {
            commands.push(vec![Bytes::from_static(name.as_bytes())]);
            bytes = 0;
        }
        bytes += group.iter().map(Bytes::len).sum::<usize>();
        if let Some(command) = commands.last_mut() {
            command.extend(group);
        }
    }
    commands
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_neither_long_nor_many() {
        let item = |length: usize| Bytes::from(vec![b'x'; length]);
        let lengths = |groups: Vec<[Bytes; 2]>| -> Vec<usize> {
            in_commands("hset", groups).iter().map(|command| command.len()).collect()
        };
        assert_eq!(lengths(Vec::new()), [0; 0]);
        assert_eq!(lengths(vec![[item(1), item(1)]; 501]), [1001, 3]);
        assert_eq!(lengths(vec![[item(1), item(40_000)]; 3]), [5, 3]);
    }
}
