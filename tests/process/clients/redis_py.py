"""What redis-py makes of any node of a ring: the ports of its nodes are the arguments."""

import sys
import threading

import redis

PATIENCE = 60


def connect(port, protocol):
    return redis.Redis(port=port, protocol=protocol, decode_responses=True, socket_timeout=PATIENCE)


def structures(here, there):
    assert here.set("py:s", "one", ex=1000)
    assert there.get("py:s") == "one" and 900 < there.ttl("py:s") <= 1000
    assert here.incrby("py:n", 5) == 5 and there.incrbyfloat("py:n", 0.5) == 5.5
    assert here.hset("py:h", mapping={"a": 1, "b": 2}) == 2
    assert there.hgetall("py:h") == {"a": "1", "b": "2"}
    assert here.rpush("py:l", *range(5)) == 5
    assert there.lrange("py:l", 1, -2) == ["1", "2", "3"]
    assert here.sadd("py:set", "x", "y") == 2 and there.smembers("py:set") == {"x", "y"}
    assert here.zadd("py:z", {"m": 1.5, "n": 2}) == 2
    assert [tuple(pair) for pair in there.zrange("py:z", 0, -1, withscores=True)] == [("m", 1.5), ("n", 2.0)]
    assert sorted(here.scan_iter("py:*")) == ["py:h", "py:l", "py:n", "py:s", "py:set", "py:z"]
    assert there.type("py:z") == "zset"
    try:
        here.lpush("py:s", 1)
    except redis.ResponseError as error:
        assert str(error).startswith("WRONGTYPE"), error
    else:
        raise AssertionError("a list command on a string")


def pipelines_and_transactions(here, there):
    with here.pipeline(transaction=False) as pipe:
        for number in range(100):
            pipe.rpush("py:pipe", number)
        assert pipe.execute() == list(range(1, 101))
    with there.pipeline(transaction=True) as pipe:
        pipe.set("{py}a", 1).incr("{py}a").incr("{py}b")
        assert pipe.execute() == [True, 2, 1]
    with here.pipeline() as pipe:
        pipe.watch("{py}a")
        pipe.multi()
        pipe.set("{py}a", "mine")
        there.set("{py}a", "theirs")
        try:
            pipe.execute()
        except redis.WatchError:
            pass
        else:
            raise AssertionError("a watched key was changed")
    assert here.get("{py}a") == "theirs"


def waiting(here, there):
    pusher = threading.Timer(0.2, lambda: there.rpush("py:queue", "job"))
    pusher.start()
    assert tuple(here.blpop("py:queue", timeout=PATIENCE)) == ("py:queue", "job")
    pusher.join()
    channel = here.pubsub(ignore_subscribe_messages=True)
    channel.subscribe("py:news")
    # What the subscription itself is answered with.
    while not channel.subscribed:
        pass
    channel.get_message(timeout=PATIENCE)
    for _ in range(PATIENCE * 10):
        there.publish("py:news", "hello")
        message = channel.get_message(timeout=0.1)
        if message:
            assert message["data"] == "hello"
            break
    else:
        raise AssertionError("no message has come")
    channel.close()


def main():
    ports = [int(port) for port in sys.argv[1:]]
    for turn, protocol in enumerate((2, 3)):
        here = connect(ports[turn % len(ports)], protocol)
        there = connect(ports[(turn + 1) % len(ports)], protocol)
        here.flushdb()
        structures(here, there)
        pipelines_and_transactions(here, there)
        waiting(here, there)
    print("redis-py", redis.__version__, "is content")


main()
