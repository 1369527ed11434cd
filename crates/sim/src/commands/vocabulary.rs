//! What clients say: commands of Redis on strings and structures, of each kind those that change what others rest on.

/// What most commands on a group of keys are about.
pub(super) const KINDS: [&[&str]; 5] = [STRINGS, LISTS, HASHES, SETS, SORTED_SETS];

/// In these, `A`, `B` and `C` stand for keys, which may be the same, `#` for a number that is used once, `m` for one of few
/// words and `n` for one of few numbers.
const STRINGS: &[&str] = &[
    "set A #",
    "set A # nx",
    "set A # xx get",
    "setnx A #",
    "getset A #",
    "getdel A",
    "get A",
    "append A m",
    "incrby A n",
    "decr A",
    "setrange A 2 m",
    "strlen A",
    "set A # ex 100000000",
    "set A # keepttl",
    "getex A persist",
    "expire A 100000000",
    "expire A -1",
    "persist A",
    "mset A # B #",
    "msetnx A # B #",
    "mget A B C",
    "del A",
    "exists A B",
    "copy A B",
    "copy A B replace",
    "rename A B",
    "renamenx A B",
];

const LISTS: &[&str] = &[
    "rpush A #",
    "rpush A # #",
    "lpush A #",
    "lpush A # # #",
    "rpushx A #",
    "lpop A",
    "lpop A 2",
    "rpop A",
    "lset A 0 #",
    "ltrim A 0 2",
    "lmove A B left right",
    "lmove A B right left",
    "rpoplpush A B",
    "lmpop 2 A B left count 2",
    "lrange A 0 -1",
    "llen A",
    "lindex A n",
    "expire A 100000000",
    "persist A",
    "del A",
    "del A B",
    "rename A B",
    "copy A B replace",
];

const HASHES: &[&str] = &[
    "hset A m #",
    "hset A m # m #",
    "hsetnx A m #",
    "hdel A m",
    "hdel A m m",
    "hincrby A m n",
    "hget A m",
    "hgetall A",
    "hlen A",
    "expire A 100000000",
    "persist A",
    "del A",
    "copy A B replace",
    "rename A B",
];

const SETS: &[&str] = &[
    "sadd A m",
    "sadd A m m",
    "srem A m",
    "smove A B m",
    "smembers A",
    "sismember A m",
    "scard A",
    "expire A 100000000",
    "persist A",
    "sunionstore A B C",
    "sinterstore A B C",
    "sdiffstore A B C",
    "del A",
    "copy A B replace",
];

const SORTED_SETS: &[&str] = &[
    "zadd A n m",
    "zadd A nx n m",
    "zadd A gt ch n m n m",
    "zadd A incr n m",
    "zincrby A n m",
    "zrem A m",
    "zpopmin A",
    "zpopmax A 2",
    "zrange A 0 -1 withscores",
    "zrank A m",
    "zcard A",
    "expire A 100000000",
    "persist A",
    "zunionstore A 2 B C",
    "zinterstore A 2 B C",
    "zrangestore A B 0 1",
    "del A",
];

/// What tells all there is under a key, whatever it is: but for one of them the answers are that it is of another kind.
pub(super) const WHOLE: [&str; 6] =
    ["type A", "get A", "lrange A 0 -1", "hgetall A", "smembers A", "zrange A 0 -1 withscores"];

/// A command in words, and the numbers of the keys among them.
#[derive(Debug, Default)]
pub(super) struct Phrase {
    pub(super) words: Vec<String>,
    pub(super) keys: Vec<usize>,
}

impl Phrase {
    /// Fills in what a template leaves open: `keys` stand for `A`, `B` and `C`.
    pub(super) fn new(
        template: &str,
        keys: [usize; 3],
        rng: &mut fastrand::Rng,
        mut next_number: impl FnMut() -> u64,
    ) -> Self {
        let mut phrase = Self::default();
        for word in template.split(' ') {
            let key = ["A", "B", "C"].iter().position(|letter| *letter == word).map(|letter| keys[letter]);
            phrase.keys.extend(key);
            phrase.words.push(match (word, key) {
                (_, Some(key)) => name_of(key),
                ("#", _) => next_number().to_string(),
                ("m", _) => ["x", "y", "z"][rng.usize(..3)].to_string(),
                ("n", _) => rng.i32(-2..4).to_string(),
                _ => word.to_string(),
            });
        }
        phrase
    }
}

/// What a key is called in commands.
pub(super) fn name_of(key: usize) -> String {
    format!("key{key}")
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use difuse_structures::Registry;

    use super::{KINDS, Phrase, WHOLE, name_of};

    #[test]
    fn what_clients_say_is_understood_with_the_keys_that_it_names() {
        let registry = Registry::builtin();
        let mut rng = fastrand::Rng::with_seed(1);
        for template in KINDS.into_iter().flatten().chain(&WHOLE) {
            let Phrase { words, keys } = Phrase::new(template, [2, 0, 1], &mut rng, || 7);
            let words: Vec<Bytes> = words.into_iter().map(Bytes::from).collect();
            let named: Vec<String> = keys.into_iter().map(name_of).collect();
            let positions = registry.key_positions(&words).expect(template);
            assert_eq!(positions.into_iter().map(|position| words[position].clone()).collect::<Vec<_>>(), named);
        }
    }
}
