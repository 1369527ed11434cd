//! Commands that belong together, one line each, compared with what a redis-server answers.

use bytes::Bytes;

use super::{Keyspace, Server, resp::Connection, resp::Value};

/// A line of words; `\r` and the like are not in it.
fn words(line: &str) -> Vec<Bytes> {
    line.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect()
}

const TRANSCRIPT: &[&str] = &[
    "set s 12",
    "object encoding s",
    "object refcount s",
    "set s 12345678901234567890123",
    "object encoding s",
    "set s aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "object encoding s",
    "set s aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "object encoding s",
    "object idletime s",
    "object freq s",
    "object",
    "object encoding",
    "object nothing s",
    "object encoding s s",
    "OBJECT ENCODING nokey",
    // The digits of 80 bits
    "set n 10.5",
    "incrbyfloat n 0.1",
    "incrbyfloat n -5",
    "set n 5.0e3",
    "incrbyfloat n 2.0e2",
    "set n 12345.1",
    "incrbyfloat n 0.1",
    "incrbyfloat n 1e15",
    "incrbyfloat n 0.3",
    "incrbyfloat n 1e-17",
    "incrbyfloat n -1e15",
    "set n 1e4931",
    "incrbyfloat n 1e4931",
    "incrbyfloat n 1e4932",
    "set n 0",
    "incrbyfloat n 1e-5000",
    "set n 9223372036854775807",
    "incrbyfloat n 1",
    "set n 18446744073709551615",
    "incrbyfloat n 0.5",
    "incrbyfloat n 0x1.8p1",
    "set n -0.5",
    "incrbyfloat n 0.5",
    "set n 0.00000000000000001",
    "incrbyfloat n 0",
    "set n 0.000000000000000005",
    "incrbyfloat n 0",
    "set n 123456789.123456789123456789",
    "incrbyfloat n 1",
    // Deadlines
    "set t 1",
    "expireat t 4000000000",
    "expiretime t",
    "pexpiretime t",
    "expireat t 4000000001 lt",
    "expireat t 4000000001 gt",
    "expiretime t",
    "append t x",
    "expiretime t",
    "incr t",
    "set t 5 keepttl",
    "expiretime t",
    "set t 6",
    "ttl t",
    "persist t",
    "set t 1 exat 1",
    "exists t",
    "set t 1 exat 1 get",
    "set t 1",
    "getex t exat 1",
    "get t",
    "set t 1 px 0",
    "set t 1 ex -1",
    "set t 1 ex 9223372036854775807",
    "setex t 0 1",
    "psetex t x 1",
    "expire t",
    "hset th a 1",
    "expireat th 4000000000",
    "hset th b 2",
    "expiretime th",
    "hdel th a b",
    "hset th a 1",
    "ttl th",
    "set t2 v pxat 4000000000500",
    "expiretime t2",
    "pexpiretime t2",
    "set t2 w nx get",
    "set t2 w xx get",
    "ttl t2",
    // Bits
    "set b foobar",
    "bitcount b",
    "bitcount b 0 0",
    "bitcount b 1 1",
    "bitcount b 5 30 bit",
    "bitcount b -2 -3",
    "bitcount b 100 200",
    "bitcount b -100 -50",
    "bitpos b 1",
    "bitpos b 0",
    "bitpos b 1 2",
    "bitpos b 1 7 15 bit",
    "bitpos b 0 -1 -1 byte",
    "setbit ones 0 1",
    "setbit ones 1 1",
    "setbit ones 2 1",
    "setbit ones 3 1",
    "setbit ones 4 1",
    "setbit ones 5 1",
    "setbit ones 6 1",
    "setbit ones 7 1",
    "bitpos ones 0",
    "bitpos ones 0 0",
    "bitpos ones 0 0 -1",
    "bitpos ones 0 0 6 bit",
    "bitpos ones 0 5",
    "setbit b 4294967296 1",
    "getbit b 4294967295",
    "bitfield f set i8 0 127 incrby i8 0 1 get i8 0",
    "bitfield f overflow sat incrby i8 0 -1000 get i8 0",
    "bitfield f overflow fail incrby i8 0 -1000 get i8 0",
    "bitfield f set u8 #1 -1 get u8 8 get i16 0 get u63 1",
    "bitfield f set i64 0 -1 incrby i64 0 -9223372036854775808",
    "bitfield f2 overflow fail set u2 10 9",
    "strlen f2",
    "bitfield f overflow sat set u8 0 -1",
    "bitfield f set i64 0 -9223372036854775807 overflow sat incrby i64 0 -5 incrby i64 0 -5",
    "bitfield f set i64 0 9223372036854775807 overflow sat incrby i64 0 5 set i63 0 -9223372036854775808 get i64 0",
    "bitfield f overflow sat set i8 0 -9223372036854775808 get i8 0 set i8 0 -9223372036854775000 get i8 0",
    "bitfield_ro f get i64 0",
    "bitfield_ro f set u8 0 1",
    // HyperLogLogs
    "pfadd hll",
    "pfadd hll",
    "pfadd hll a b a",
    "pfadd hll a",
    "pfcount hll",
    "pfcount nohll",
    "pfadd b x",
    "pfcount b",
    "type hll",
    "strlen hll",
    "set hll HYLL",
    "pfadd hll x",
    // Pops, scores, orders
    "lpop nolist",
    "lpop nolist 0",
    "rpush l a b c",
    "lpop l 0",
    "rpop l 2",
    "lpop l 9",
    "exists l",
    "zadd z 1 a 2 b 3 c 3 d",
    "zadd z xx ch 5 a 6 nosuch",
    "zadd z gt 1 a",
    "zadd z incr 1 a",
    "zadd z nx incr 1 a",
    "zadd z nx xx 1 a",
    "zadd z gt lt 1 a",
    "zadd z incr 1 a 2 b",
    "zadd z inf i",
    "zincrby z -inf i",
    "zadd z ch",
    "zadd z 1 a 2",
    "zrange z 0 -1 withscores",
    "zrange z (3 +inf byscore limit 1 1",
    "zrange z 1 0 byscore",
    "zrange z 0 1 limit 0 1",
    "zrange z 0 1 limit 5 -1",
    "zrange z - + bylex withscores",
    "zrange z +inf -inf byscore rev withscores limit 1 2",
    "zrevrangebyscore z +inf (3",
    "zpopmin z",
    "zpopmax z 2",
    "zpopmin z 0",
    "zpopmin nozset",
    "zpopmin z -1",
    "zadd s 1 a",
    "lpush s a",
    "sadd s a",
    "hset s a b",
    "zrandmember s",
    "sscan s 0",
    "hscan nohash 0 x",
    "hscan s x",
    "rpush sl 3 1 2 10",
    "sort sl",
    "sort sl desc limit 1 2",
    "sort sl alpha",
    "sort sl by x limit 1 2 desc",
    "sort sl x",
    "rpush sl x",
    "sort sl",
    "sort sl get # limit 0 1 alpha get #",
    "sort nolist",
    "sort s",
    "zadd sz 3 1 2 2 1 3",
    "sort sz",
    "sort sz by x",
    "sort sz by x desc",
    "sort sz by x limit 1 1 desc",
    "getrange b -10 -5",
    "getrange b 0 -100",
    "getrange b 3 1",
    "getrange b -1 -2",
    "setrange nos 536870911 xx",
    "setrange b 536870912 x",
    "setrange nos 5 ",
    "exists nos",
    "append nos ",
    "exists nos",
    "type nos",
    "type z",
    "type sl",
    "hrandfield nohash",
    "hrandfield nohash 3",
    "hrandfield nohash 3 withvalues",
    "hrandfield nohash 1 x",
    "hrandfield nohash -9223372036854775808",
    "hrandfield nohash 9223372036854775807 withvalues",
    "spop noset",
    "spop noset 2",
    "lpos nolist a",
    "lpos nolist a count 1",
    "lpos sl 3 rank 0",
    "lpos sl 3 count -1",
    "lpos sl 3 maxlen -1",
    "lset nolist 0 a",
    "lset sl 100 a",
    "linsert sl x a b",
    "expire s 10 x",
    "expire s 10 nx gt",
    "expireat s 10 gt lt",
    "get",
    "get a b",
    "nosuch",
    "nosuch a b c",
    "hset h a",
    "hset h a 1 b",
    "hmset h a 1 b",
    "hincrby h a 1",
    "hset h t x",
    "hincrby h t 1",
    "hincrbyfloat h t 1",
    "hincrbyfloat h a inf",
    "hincrbyfloat h a x",
    "hset h big 9223372036854775807",
    "hincrby h big 1",
    "incr s",
    "set big 9223372036854775807",
    "incr big",
    "decrby big -9223372036854775808",
    "decrby big -1",
];

#[test]
fn what_belongs_together_is_answered_as_by_redis() {
    let Some(server) = Server::start() else { return };
    for version in [2, 3] {
        let mut connection = Connection::open(server.port, version).expect("a connection");
        connection.ask(&["FLUSHALL".into()]).expect("an answer");
        let mut keyspace = Keyspace::new(7);
        for line in TRANSCRIPT {
            let arguments = words(line);
            let theirs = connection.ask(&arguments).expect("an answer");
            let ours = Value::of(&keyspace.execute(&arguments), version);
            assert_eq!(ours, theirs, "version {version}: {line} (right: Redis's)");
        }
        keyspace.check();
    }
}

/// Fills structures beyond what Redis keeps small, and compares after each step.
#[test]
fn large_structures_are_answered_as_by_redis() {
    let Some(server) = Server::start() else { return };
    let mut connection = Connection::open(server.port, 2).expect("a connection");
    let mut keyspace = Keyspace::new(7);
    let mut same = |line: String| {
        let arguments = words(&line);
        let theirs = connection.ask(&arguments).expect("an answer");
        let ours = Value::of(&keyspace.execute(&arguments), 2);
        assert_eq!(ours.sorted(), theirs.sorted(), "{line} (right: Redis's)");
    };
    for number in 0..600 {
        for line in [
            format!("hset h field{number} {number}"),
            format!("sadd s {number}"),
            format!("zadd z {} member{number}", number % 7),
            format!("rpush l {number}"),
        ] {
            same(line);
        }
        if [100, 127, 128, 129, 511, 512, 513].contains(&(number + 1)) {
            ["h", "s", "z", "l"].into_iter().for_each(|key| same(format!("object encoding {key}")));
        }
    }
    for line in [
        "hgetall h",
        "smembers s",
        "zrange z 0 -1 withscores",
        "zrangebyscore z 2 (4 limit 10 20",
        "zcount z (1 5",
        "zrank z member300",
        "zrevrank z member300",
        "zremrangebyscore z 3 3",
        "zremrangebyrank z 50 -50",
        "zcard z",
        "zrange z 0 -1 withscores",
        "hscan h 0 count 10000",
        "hscan h 0 count 10000 match *9",
        "sscan s 0 count 10000",
        "zscan z 0 count 10000",
        "lrange l 250 350",
        "lrem l -1 300",
        "linsert l before 400 x",
        "lpos l 500",
        "ltrim l 10 -10",
        "llen l",
        "lindex l 200",
    ] {
        same(line.to_string());
    }
    for number in 0..600 {
        same(format!("pfadd p {number} x{number} y{number} z{number}"));
        same("pfcount p".to_string());
        same(format!("hdel h field{number} field{}", 600 - number));
    }
    same("exists h".to_string());
}
