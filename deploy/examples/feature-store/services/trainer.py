"""Learns from the features how visits become sales, and gives its model to the inference service alone.
Arguments: the port of the reading door, the port to serve on."""

import sys

from fastapi import Depends, FastAPI

from identity import Bearer, Identity, feature_store, named
from serving import SERVER_ONLY, by_token, only, serve

store = feature_store(Identity(), int(sys.argv[1]))
rows = [store.hgetall(f"features:item:{item}") for item in store.smembers("features:items")]
visits, sold = ([float(row[name]) for row in rows] for name in ("visits", "sold"))
x, y = sum(visits) / len(rows), sum(sold) / len(rows)
slope = sum((a - x) * (b - y) for a, b in zip(visits, sold)) / sum((a - x) ** 2 for a in visits)

app = FastAPI(openapi_url=None)
admitted = only(by_token(Bearer("trainer")), {named("inference")})


@app.get("/model", dependencies=[Depends(admitted)])
def model():
    return {"slope": slope, "intercept": y - slope * x}


serve(app, sys.argv[2], SERVER_ONLY)
