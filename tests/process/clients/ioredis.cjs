// What ioredis makes of any node of a ring: the ports of its nodes are the arguments.

const assert = require("node:assert/strict");
const Redis = require("ioredis");

const connect = (port) => new Redis({ port, host: "127.0.0.1", commandTimeout: 60_000 });

async function structures(here, there) {
  assert.equal(await here.set("js:s", "one", "EX", 1000), "OK");
  assert.equal(await there.get("js:s"), "one");
  assert.equal(await here.incrby("js:n", 5), 5);
  assert.equal(await here.hset("js:h", { a: 1, b: 2 }), 2);
  assert.deepEqual(await there.hgetall("js:h"), { a: "1", b: "2" });
  assert.equal(await here.rpush("js:l", 0, 1, 2, 3), 4);
  assert.deepEqual(await there.lrange("js:l", 1, -2), ["1", "2"]);
  assert.equal(await here.zadd("js:z", 1.5, "m", 2, "n"), 2);
  assert.deepEqual(await there.zrange("js:z", 0, -1, "WITHSCORES"), ["m", "1.5", "n", "2"]);
  const keys = [];
  for await (const page of here.scanStream({ match: "js:*" })) keys.push(...page);
  assert.deepEqual(keys.sort(), ["js:h", "js:l", "js:n", "js:s", "js:z"]);
  await assert.rejects(here.lpush("js:s", 1), /^ReplyError: WRONGTYPE/);
}

async function pipelinesAndTransactions(here, there) {
  const pipeline = here.pipeline();
  for (let number = 0; number < 100; number++) pipeline.rpush("js:pipe", number);
  const answers = await pipeline.exec();
  assert.deepEqual(answers.map(([error, length]) => error ?? length), [...Array(100).keys()].map((n) => n + 1));
  assert.deepEqual(await there.multi().set("{js}a", 1).incr("{js}a").exec(), [[null, "OK"], [null, 2]]);
  await here.watch("{js}a");
  await there.set("{js}a", "theirs");
  assert.equal(await here.multi().set("{js}a", "mine").exec(), null);
  assert.equal(await there.get("{js}a"), "theirs");
}

async function waiting(here, there, port) {
  const popped = here.blpop("js:queue", 60);
  await there.rpush("js:queue", "job");
  assert.deepEqual(await popped, ["js:queue", "job"]);
  const subscriber = connect(port);
  const heard = new Promise((resolve) => subscriber.once("message", (channel, message) => resolve([channel, message])));
  await subscriber.subscribe("js:news");
  // Other nodes learn of the subscription a moment later.
  const publishing = setInterval(() => there.publish("js:news", "hello"), 100);
  assert.deepEqual(await heard, ["js:news", "hello"]);
  clearInterval(publishing);
  subscriber.disconnect();
}

async function main() {
  const [first, second] = process.argv.slice(2).map(Number);
  const [here, there] = [connect(first), connect(second)];
  await here.flushdb();
  await structures(here, there);
  await pipelinesAndTransactions(here, there);
  await waiting(here, there, first);
  here.disconnect();
  there.disconnect();
  console.log("ioredis is content");
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
