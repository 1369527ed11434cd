#!/bin/sh
# The HTTP contract with curl. With a ring running (`cargo run --release -- dev`): examples/http.sh
set -eu
node=${1:-http://127.0.0.1:9090}
say() { printf '\n# %s\n' "$*"; }

say "set a key, and read it with its place in the history"
curl -sS -X PUT --data-binary 'hello' "$node/v1/keys/example/greeting"; echo
etag=$(curl -sS -o /dev/null -D - "$node/v1/keys/example/greeting" | tr -d '\r' | sed -n 's/^etag: //Ip')
echo "ETag: $etag"

say "compare-and-set: applied only to the version that was read"
curl -sS -X PUT -H "If-Match: $etag" --data-binary 'hello again' "$node/v1/keys/example/greeting"; echo
curl -sS -X PUT -H "If-Match: $etag" --data-binary 'too late' "$node/v1/keys/example/greeting"; echo

say "its history"
curl -sS "$node/v1/log/example/greeting"; echo

say "a block, named by its content"
curl -sS -X POST --data-binary 'some bytes' "$node/v1/blocks"; echo

say "a file in a directory, a part of it, and the listing"
curl -sS -X PUT --data-binary @"$0" "$node/v1/files/example/http.sh"; echo
curl -sS -H 'Range: bytes=0-9' "$node/v1/files/example/http.sh"
curl -sS "$node/v1/files/example"; echo

say "who holds the key, and how the ring stands"
curl -sS "$node/v1/locate/example/greeting"; echo
curl -sS "$node/v1/ring"; echo
