//! Commands made up from a seed, edge cases included.
//!
//! A pattern is words with blanks between them. A capital letter stands for a key of a kind, a word after `$` for an
//! argument of a kind, any other one for itself. `[a b]` is there or not, `{a b}` is there once to four times, `(a|b)`
//! is one of them.

use bytes::Bytes;

/// How the reply to a command is compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Comparison {
    /// It is the same.
    Exact,
    /// It has the same in it, in any order.
    Unordered,
    /// It is the same, or another one of a string or a set: that depends on how the string came about, and on which
    /// members of a set were taken at random.
    Encoding,
    /// It is a time that may differ by what passes between two evaluations.
    Time,
    /// It is the same, but for how Redis keeps it.
    Described,
    /// What it has in it is chosen at random, and taken away by `SPOP`.
    Random,
}

use Comparison::{Described, Encoding, Exact, Random, Time, Unordered};

/// Every command, and how it may look.
pub const PATTERNS: &[(&str, Comparison)] = &[
    // Strings
    ("get S", Exact),
    ("set S $v", Exact),
    ("set S $number", Exact),
    ("set S $v [(nx|xx)] [get] [(keepttl|ex $time|px $time|exat $moment|pxat $moment)] [(ex|get|xx)]", Exact),
    ("setnx S $v", Exact),
    ("setex S $time $v", Exact),
    ("psetex S $time $v", Exact),
    ("getset S $v", Exact),
    ("getdel S", Exact),
    ("getex S [(persist|ex $time|px $time|exat $moment|pxat $moment)] [persist]", Exact),
    ("append S $v", Exact),
    ("strlen S", Exact),
    ("setrange S $position $v", Exact),
    ("getrange S $index $index", Exact),
    ("substr S $index $index", Exact),
    ("(incr|decr) S", Exact),
    ("(incrby|decrby) S $integer", Exact),
    ("incrbyfloat S $float", Exact),
    ("setbit S $position (0|1|2|x)", Exact),
    ("getbit S $position", Exact),
    ("bitcount S [$index $index [(bit|byte|x)]]", Exact),
    ("bitcount S $index", Exact),
    ("bitpos S (0|1) [$index [$index [(bit|byte)]]]", Exact),
    ("bitpos S (0|1|2|x) [$index [$index [(bit|byte)]]] [x]", Exact),
    (
        "bitfield S {(get $type $bit|set $type $bit $integer|incrby $type $bit $integer|overflow (wrap|sat|fail))}",
        Exact,
    ),
    ("bitfield S [overflow (wrap|sat|fail|x)] {(get $type $bit|incrby $type $bit $integer)}", Exact),
    ("bitfield S", Exact),
    ("(mset|msetnx) {S $v}", Exact),
    ("mget {A}", Exact),
    ("bitop (and|or|xor) S S [{S}]", Exact),
    ("bitop (not|x) S S [S]", Exact),
    ("lcs S S [minmatchlen $count] [(len|idx)] [withmatchlen] [minmatchlen $count]", Exact),
    ("bitfield_ro S {get $type $bit} [set $type $bit $integer]", Exact),
    // Hashes
    ("hset H {$f $v}", Exact),
    ("hset H {$f $number}", Exact),
    ("hmset H {$f $v}", Exact),
    ("hsetnx H $f $v", Exact),
    ("hget H $f", Exact),
    ("hmget H {$f}", Exact),
    ("hdel H {$f}", Exact),
    ("(hlen|hkeys|hvals|hgetall) H", Unordered),
    ("(hstrlen|hexists) H $f", Exact),
    ("hincrby H $f $integer", Exact),
    ("hincrbyfloat H $f $float", Exact),
    ("hrandfield H [$count [withvalues]]", Random),
    ("hscan H $cursor count 1000 [match $pattern]", Unordered),
    // Lists
    ("(lpush|rpush) L {$f}", Exact),
    ("(lpushx|rpushx) L {$f}", Exact),
    ("(lpop|rpop) L [$count]", Exact),
    ("llen L", Exact),
    ("lrange L $index $index", Exact),
    ("lindex L $index", Exact),
    ("lset L $index $f", Exact),
    ("linsert L (before|after|x) $f $f", Exact),
    ("lrem L $index $f", Exact),
    ("ltrim L $index $index", Exact),
    ("lmove L L (left|right) (left|right|x)", Exact),
    ("rpoplpush L L", Exact),
    ("lmpop (1 L|2 L L|3 L L L|$integer L) (left|right|x) [count $count]", Exact),
    ("(blpop|brpop) L [L] $timeout", Exact),
    ("blmove L L (left|right) (left|right|x) $timeout", Exact),
    ("brpoplpush L L $timeout", Exact),
    ("blmpop $timeout (1 L|2 L L|$integer L) (left|right|x) [count $count]", Exact),
    ("lpos L $f [rank $index] [count $count] [maxlen $count]", Exact),
    // Sets
    ("sadd E {$f}", Exact),
    ("sadd E {(1|2|3|-4|05)}", Exact),
    ("srem E {$f}", Exact),
    ("sismember E $f", Exact),
    ("smismember E {$f}", Exact),
    ("(scard|smembers) E", Unordered),
    ("spop E [$count]", Random),
    ("srandmember E [$count]", Random),
    ("sscan E $cursor count 1000 [match $pattern]", Unordered),
    ("(sunion|sinter|sdiff) {E}", Unordered),
    ("(sunionstore|sinterstore|sdiffstore) E {E}", Exact),
    ("sintercard (1 E|2 E E|3 E E E|$integer E) [limit $count] [limit $count]", Exact),
    ("smove E E $f", Exact),
    // Sorted sets
    ("zadd Z {$score $f}", Exact),
    ("zadd Z [(nx|xx)] [(gt|lt)] [ch] [incr] {$score $f}", Exact),
    ("zadd Z [(nx|xx)] [(gt|lt)] [ch] incr $score $f", Exact),
    ("zincrby Z $score $f", Exact),
    ("zrem Z {$f}", Exact),
    ("(zscore|zrank|zrevrank) Z $f", Exact),
    ("zmscore Z {$f}", Exact),
    ("zcard Z", Exact),
    ("zcount Z $bound $bound", Exact),
    ("zrange Z $index $index [rev] [withscores]", Exact),
    ("zrange Z $bound $bound byscore [rev] [withscores] [limit $index $index]", Exact),
    ("zrange Z $bound $bound [byscore] [rev] [withscores] [limit $index $index]", Exact),
    ("zrevrange Z $index $index [withscores] [rev]", Exact),
    ("(zrangebyscore|zrevrangebyscore) Z $bound $bound [withscores] [limit $index $index]", Exact),
    ("(zpopmin|zpopmax) Z [$count]", Exact),
    ("zremrangebyrank Z $index $index", Exact),
    ("zremrangebyscore Z $bound $bound", Exact),
    ("zrandmember Z [$count [withscores]]", Random),
    ("zscan Z $cursor count 1000 [match $pattern]", Unordered),
    ("(zunion|zinter|zdiff) (1 Z|2 Z Z|2 E Z|3 Z E Z|$integer Z) [withscores] [x]", Exact),
    ("(zunion|zinter|zdiff) 2 Z (Z|E) [weights $score $float] [aggregate (sum|min|max|x)] [withscores]", Exact),
    ("(zunionstore|zinterstore|zdiffstore) Z (1 Z|2 Z E|3 Z E Z|$integer Z) [withscores]", Exact),
    ("(zunionstore|zinterstore) Z 2 Z (Z|E) [aggregate (sum|min|max)] [weights $float $score]", Exact),
    ("zintercard (1 Z|2 Z Z|2 E Z|$integer Z) [limit $count]", Exact),
    ("zrangestore Z Z $index $index [rev] [withscores]", Exact),
    ("zrangestore Z Z $bound $bound [byscore] [rev] [limit $index $index]", Exact),
    ("zrangestore Z X $lex $lex bylex [rev] [limit $index $index]", Exact),
    ("zmpop (1 Z|2 Z Z|$integer Z) (min|max|x) [count $count]", Exact),
    ("(bzpopmin|bzpopmax) Z [Z] $timeout", Exact),
    ("bzmpop $timeout (1 Z|2 Z Z|$integer Z) (min|max|x) [count $count]", Exact),
    // Sorted sets whose scores are all the same
    ("zadd X {0 $f}", Exact),
    ("zlexcount X $lex $lex", Exact),
    ("(zrangebylex|zrevrangebylex) X $lex $lex [limit $index $index]", Exact),
    ("zrange X $lex $lex bylex [rev] [limit $index $index]", Exact),
    ("zremrangebylex X $lex $lex", Exact),
    // HyperLogLogs
    ("pfadd P [{$f}] [{$v}]", Exact),
    ("pfadd P {$integer}", Exact),
    ("(pfcount|pfmerge) P [{P}]", Exact),
    ("(pfcount|pfmerge) (P|missing) [S]", Exact),
    // Streams
    ("xadd T $newid {$s $s}", Exact),
    (
        "xadd T [nomkstream] [(maxlen|minid|limit) [(~|=|x)] $count] [limit $count] [nomkstream] $newid $s $s [$s]",
        Exact,
    ),
    ("xadd T maxlen [(~|=)] $few [limit $count] $newid $s $s", Exact),
    ("xadd T minid [(~|=)] $streamid [limit $count] $newid $s $s", Exact),
    ("xlen T", Exact),
    ("(xrange|xrevrange) T $edge $edge [count $count]", Exact),
    ("xdel T {$streamid}", Exact),
    ("xtrim T maxlen [(~|=)] $few [limit $count] [minid $streamid]", Exact),
    ("xtrim T (minid [(~|=)] $streamid|x|limit 1) [limit $count]", Exact),
    ("xread [count $count] [block $block] streams (T $streamid|T T $streamid $streamid|T $edge|T T $edge)", Exact),
    ("xread [count $count] [(group a b|noack|x)] [streams] T $streamid", Exact),
    ("xsetid T $streamid [entriesadded $integer] [maxdeletedid $streamid] [x]", Exact),
    ("xinfo stream T [(full|x) [(count|x) $count]]", Described),
    ("xgroup create T $g ($streamid|$|0) [mkstream] [entriesread $count] [(x|mkstream)]", Exact),
    ("xgroup setid T $g $edge [entriesread $count] [x]", Exact),
    ("xgroup destroy T (a|b|c|d|e|x)", Exact),
    ("xgroup (createconsumer|delconsumer) T $g $s", Exact),
    ("xreadgroup group $g $s [count $count] [noack] streams (T >|T >|T T > >|T $streamid|T 0|T $)", Exact),
    ("xreadgroup group $g $s [count $count] [block $block] [x] streams (T >|T 0|T T > $streamid)", Exact),
    ("xreadgroup (group $g $s|noack) [(x|noack)] streams T (>|$edge)", Exact),
    ("xack T $g {$streamid}", Exact),
    ("xpending T $g", Exact),
    ("xpending T $g [idle (0|-1|100000000|x)] $edge $edge $count [$s] [x]", Described),
    ("xclaim T $g $s $idle {$streamid} [justid] [force] [retrycount $count] [time 1000000]", Exact),
    ("xclaim T $g $s $idle {$streamid} [(idle (1000|x)|time x|x|lastid $streamid)] [justid] [force]", Exact),
    ("xautoclaim T $g $s $idle $edge [count $count] [justid] [x]", Exact),
    ("xinfo groups T", Exact),
    ("xinfo consumers T $g", Described),
    // Keys
    ("(exists|type|persist) A", Exact),
    ("(exists|touch) {A}", Exact),
    ("(del|unlink) A [A]", Exact),
    ("(rename|renamenx) (S S|H H|L L|E E|Z Z|X X|P P|T T)", Exact),
    ("copy (S S|H H|L L|E E|Z Z|X X|P P|T T) [replace] [(x|db x)]", Exact),
    ("(expire|pexpire) K $time [(nx|xx)] [(nx|xx|x)]", Exact),
    ("(expireat|pexpireat) K $moment [(nx|xx|gt|lt)] [(nx|xx|gt|lt)]", Exact),
    ("(ttl|pttl|expiretime|pexpiretime) A", Time),
    ("object encoding C", Encoding),
    ("object (freq|x) C", Exact),
    ("rpush N {$number}", Exact),
    ("sadd M {$f}", Exact),
    ("lpop N", Exact),
    ("(sort|sort_ro) (N|M|Y) [limit $index $index] [(asc|desc)] [alpha]", Exact),
    ("sort (N|M|Y) [limit $index $index] [(asc|desc)] [alpha] [by nosort] [get (#|x)] store L [store (L|H)]", Exact),
    ("sort (N|Y) by nosort [limit $index $index] [(asc|desc)] [get #] [x]", Exact),
    ("zadd Y {$score $number}", Exact),
    ("nosuchcommand A {$f}", Exact),
];

const NAMES: &[&str] = &["a", "b", "c", "d", "e", "field", "3", "10", "", "A", "a b"];
const INTEGERS: &[&str] = &[
    "0",
    "1",
    "-1",
    "2",
    "100",
    "-100",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "4294967296",
    "01",
    "+1",
    "-0",
    " 1",
    "1.0",
    "x",
    "",
];
const FLOATS: &[&str] = &[
    "0",
    "1",
    "-1",
    "0.1",
    "0.2",
    "-2.5",
    "3.0e3",
    "1e-5",
    "1e20",
    "12345678901234567890",
    "1.7976931348623157e308",
    "1e400",
    "1e4930",
    "-1e4932",
    "1e5000",
    "inf",
    "-inf",
    "+Infinity",
    "nan",
    "0x1p4",
    ".5",
    "5.",
    "+3",
    "-0",
    "1e-400",
    "5e-4960",
    "3.14159265358979323846264338327950288",
    " 1",
    "1 ",
    "x",
    "",
    "1e",
    "0.00000000000000001",
];
const SCORES: &[&str] = &[
    "0",
    "1",
    "2",
    "3",
    "-1",
    "1.5",
    "0.1",
    "-0",
    "inf",
    "-inf",
    "1e300",
    "1e17",
    "123456789.123456789",
    "1e-7",
    "0x10",
    "nan",
    "x",
    "",
    "1e400",
];
const BOUNDS: &[&str] =
    &["0", "1", "2", "-1", "(1", "(0", "(2", "-inf", "+inf", "(inf", "1.5", "", "(", " 1", "1e400", "nan", "x", "1x"];
const LEX_BOUNDS: &[&str] = &["-", "+", "[a", "(a", "[c", "(c", "[", "(", "[field", "[z", "a", "", "+x", "(e"];
const TIMES: &[&str] = &[
    "1000000",
    "5000000",
    "100000000",
    "3000000000",
    "0",
    "-1",
    "-9223372036854775808",
    "9223372036854775807",
    "9223372036854775",
    "x",
];
const MOMENTS: &[&str] =
    &["4000000000", "4000000001", "4000000000000", "1", "0", "-5", "9223372036854775807", "9223372036854775", "x", ""];
const PATTERNS_OF_NAMES: &[&str] = &["*", "a*", "?", "[a-c]", "[^a]", "\\*", "*e*", "", "[", "f*d"];
const TYPES: &[&str] = &["u8", "i8", "u1", "i64", "u63", "i5", "u4", "i16", "u64", "i65", "u0", "x", "i"];
const BITS: &[&str] = &["0", "1", "7", "8", "15", "100", "#0", "#1", "#3", "-1", "#-1", "4294967296", "x"];

/// Makes commands.
pub struct Generator {
    random: fastrand::Rng,
    /// How many ids of entries were made up: they ascend.
    ids: u64,
}

impl Generator {
    /// What a seed decides.
    pub fn new(seed: u64) -> Self {
        Self { random: fastrand::Rng::with_seed(seed), ids: 0 }
    }

    /// The next one.
    pub fn command(&mut self) -> (Vec<Bytes>, Comparison) {
        let (pattern, comparison) = PATTERNS[self.random.usize(..PATTERNS.len())];
        let mut arguments = Vec::new();
        self.sequence(pattern, &mut arguments);
        match self.random.u8(..100) {
            0 => drop(arguments.pop()),
            1 if comparison == Exact && !pattern.contains("$timeout") => arguments.push(self.one("$v")),
            2 if arguments.len() > 2 && !is_delicate(pattern) => {
                let index = self.random.usize(2..arguments.len());
                arguments[index] = self.one("$v");
            }
            3 => arguments[0] = arguments[0].to_ascii_uppercase().into(),
            _ => {}
        }
        (arguments, comparison)
    }

    fn sequence(&mut self, pattern: &str, arguments: &mut Vec<Bytes>) {
        let mut rest = pattern.trim_start();
        while let Some(first) = rest.chars().next() {
            let end = match first {
                '[' | '{' | '(' => closing(rest),
                _ => rest.find(' ').unwrap_or(rest.len()),
            };
            let (element, after) = rest.split_at(end);
            rest = after.trim_start();
            let inner = element.get(1..element.len() - 1).unwrap_or_default();
            match first {
                '[' if self.random.bool() => self.sequence(inner, arguments),
                '[' => {}
                '{' => (0..self.random.u8(1..5)).for_each(|_| self.sequence(inner, arguments)),
                '(' => {
                    let choices = alternatives(inner);
                    let chosen = choices[self.random.usize(..choices.len())];
                    self.sequence(chosen, arguments);
                }
                _ => arguments.push(self.one(element)),
            }
        }
    }

    fn pick(&mut self, choices: &[&str]) -> Bytes {
        Bytes::copy_from_slice(choices[self.random.usize(..choices.len())].as_bytes())
    }

    /// One of the first few of `choices`, which are those that make sense, nine times of ten.
    fn pick_sensible(&mut self, choices: &[&str], sensible: usize) -> Bytes {
        let count = if self.random.u8(..10) > 0 { sensible } else { choices.len() };
        self.pick(&choices[..count])
    }

    fn key(&mut self, kind: &str) -> Bytes {
        let kind = match (kind, self.random.u8(..100)) {
            // Redis keeps a sorted set in another way once it was sorted: their encoding is not asked for.
            ("X" | "N" | "M" | "Y" | "P", _) => kind,
            (_, 0..5) => ["S", "H", "L", "E", "Z", "T"][self.random.usize(..6)],
            (_, 5..7) => "missing",
            _ => kind,
        };
        format!("{kind}{}", self.random.u8(..3)).into()
    }

    /// The id of a new entry, higher than all before as a rule.
    fn new_id(&mut self) -> Bytes {
        self.ids += 1;
        let id = self.ids / 3;
        let sequence = self.random.u8(..3);
        match self.random.u16(..200) {
            0 => "18446744073709551615-18446744073709551615".into(),
            1 => "18446744073709551615-*".into(),
            2..12 => self.pick(&["0-0", "0", "0-*", "1-1", "-", "+", "$", "x", "", "5-", "5--1", "1-*-1", " 5", "-5"]),
            12..80 => format!("{id}-*").into(),
            80..140 => format!("{id}").into(),
            _ => format!("{id}-{sequence}").into(),
        }
    }

    /// An id as one that was added has it, as a rule.
    fn stream_id(&mut self) -> Bytes {
        let id = (self.ids / 3).saturating_sub(self.random.u64(..60));
        match self.random.u8(..40) {
            0 => self.pick(&["x", "", "-", "+", "$", ">", "5-", "*", "5-*", "18446744073709551616", "1-+1", "01-1"]),
            1 => "0".into(),
            2..15 => format!("{id}").into(),
            _ => format!("{id}-{}", self.random.u8(..3)).into(),
        }
    }

    fn one(&mut self, word: &str) -> Bytes {
        match word {
            "S" | "H" | "L" | "E" | "Z" | "X" | "N" | "M" | "Y" | "P" | "T" => self.key(word),
            "A" => {
                let kind = ["S", "H", "L", "E", "Z", "X", "N", "Y", "T"][self.random.usize(..9)];
                self.key(kind)
            }
            // Those whose encoding depends on nothing but what is in them.
            "C" => {
                let kind = ["H", "L", "E", "Z", "T", "missing"][self.random.usize(..6)];
                self.key(kind)
            }
            "K" => {
                let kind = ["S", "H", "L", "E", "Z", "T"][self.random.usize(..6)];
                self.key(kind)
            }
            // Short, so that Redis keeps a hundred entries together.
            "$s" => self.pick(&NAMES[..5]),
            "$g" => self.pick_sensible(&["a", "b", "nogroup"], 2),
            "$idle" => self.pick_sensible(&["0", "100000000", "-1", "x"], 3),
            "$newid" => self.new_id(),
            "$streamid" => self.stream_id(),
            "$edge" => match self.random.u8(..12) {
                0..3 => "-".into(),
                3..6 => "+".into(),
                6..8 => [&b"("[..], &self.stream_id()].concat().into(),
                8 => self.pick(&["$", ">", "(", "(-", "", "(18446744073709551615-18446744073709551615", "(0-0"]),
                _ => self.stream_id(),
            },
            "$few" => match self.random.u8(..20) {
                0 => self.pick(&["-1", "x", "", "9223372036854775807", "9223372036854775808"]),
                1 => "0".into(),
                _ => self.random.u8(1..20).to_string().into(),
            },
            // None that means to wait for long.
            "$block" => self.pick_sensible(&["1", "2", "-1", "x", "", "1.5", "9223372036854775808"], 2),
            "$f" => match self.random.u8(..60) {
                0 => Bytes::from(vec![b'x'; 65]),
                1 => Bytes::from_static(b"\xff\xfe"),
                _ => self.pick(NAMES),
            },
            "$v" => match self.random.u8(..8) {
                0 => Bytes::from_static(b"\xff\x00\r\n\x80"),
                1 => Bytes::from("long ".repeat(self.random.usize(..30))),
                2 => self.pick(FLOATS),
                3 => self.pick(INTEGERS),
                _ => self.pick(NAMES),
            },
            "$number" => self.pick_sensible(FLOATS, 9),
            "$integer" => self.pick_sensible(INTEGERS, 7),
            "$float" => self.pick_sensible(FLOATS, 11),
            "$score" => self.pick_sensible(SCORES, 14),
            "$bound" => self.pick_sensible(BOUNDS, 11),
            "$lex" => self.pick_sensible(LEX_BOUNDS, 10),
            "$time" => self.pick_sensible(TIMES, 4),
            // None that means to wait for long.
            "$timeout" => self.pick_sensible(&["0.001", "1e-3", "-1", "inf", "1e30", "nan", "x", ""], 2),
            "$moment" => self.pick_sensible(MOMENTS, 3),
            "$pattern" => self.pick(PATTERNS_OF_NAMES),
            "$type" => self.pick_sensible(TYPES, 8),
            "$bit" => self.pick_sensible(BITS, 9),
            "$cursor" => self.pick_sensible(&["0", "x", " 0", "-", "18446744073709551616"], 1),
            "$count" => match self.random.u8(..20) {
                0 => self.pick(&["-9223372036854775808", "x", "", "9223372036854775807", "01"]),
                _ => self.random.i8(-5..8).to_string().into(),
            },
            "$position" => match self.random.u8(..20) {
                0 => self.pick(&["-1", "4294967296", "9223372036854775807", "x", ""]),
                _ => self.random.u8(..70).to_string().into(),
            },
            "$index" => match self.random.u8(..20) {
                0 => self.pick(INTEGERS),
                _ => self.random.i8(-9..10).to_string().into(),
            },
            word => Bytes::copy_from_slice(word.as_bytes()),
        }
    }
}

/// Whether no argument may be any other: scores that are the same stay the same, a cursor that nobody was given means
/// what it likes to, databases are not counted here, no key expires while commands are compared, nothing waits for long, no
/// entry gets an id of the time.
fn is_delicate(pattern: &str) -> bool {
    [" X ", "db x", "scan", "$time", "$block", "$newid", "$idle"].into_iter().any(|part| pattern.contains(part))
}

/// Behind the bracket that closes the first one.
fn closing(pattern: &str) -> usize {
    let mut depth = 0;
    for (index, character) in pattern.char_indices() {
        depth += match character {
            '[' | '{' | '(' => 1,
            ']' | '}' | ')' => -1,
            _ => 0,
        };
        if depth == 0 {
            return index + 1;
        }
    }
    panic!("a bracket is open in {pattern}")
}

/// What stands between bars that are in no brackets.
fn alternatives(pattern: &str) -> Vec<&str> {
    let mut depth = 0;
    pattern
        .split(|character| {
            depth += match character {
                '[' | '{' | '(' => 1,
                ']' | '}' | ')' => -1,
                _ => 0,
            };
            character == '|' && depth == 0
        })
        .collect()
}
