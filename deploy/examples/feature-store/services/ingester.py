"""Writes features. Arguments: the port of the writing door."""

import sys

from identity import Identity, feature_store

store = feature_store(Identity(), int(sys.argv[1]))
for item in range(1, 11):
    store.hset(f"features:item:{item}", mapping={"visits": 10 * item, "sold": 2 * item + 1})
    store.sadd("features:items", item)
