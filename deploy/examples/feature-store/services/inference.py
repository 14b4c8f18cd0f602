"""Predicts the sales of an item, for the checkout service alone.
Arguments: the kind of door (mtls, sidecar, jwt), the port or the socket to serve on, the reading door's port, the
trainer's port."""

import sys

from fastapi import Depends, FastAPI

from identity import Bearer, Identity, feature_store, get, named, token_for
from serving import MUTUAL, SERVER_ONLY, by_certificate, by_sidecar, by_token, only, serve

door, address, store_port, trainer_port = sys.argv[1:]
identity = Identity()
store = feature_store(identity, int(store_port))

trainer = identity.dial(int(trainer_port), named("trainer"))
status, model = get(trainer, "/model", token_for("trainer"))
if status != 200:
    sys.exit(f"the trainer gives no model: {status}")

who = {"mtls": lambda: by_certificate, "sidecar": lambda: by_sidecar, "jwt": lambda: by_token(Bearer("inference"))}
admitted = only(who[door](), {named("checkout")})
app = FastAPI(openapi_url=None)


@app.get("/predict/{item}", dependencies=[Depends(admitted)])
def predict(item: int):
    visits = float(store.hgetall(f"features:item:{item}")["visits"])
    return {"item": item, "sold": round(model["intercept"] + model["slope"] * visits, 2)}


serve(app, address, MUTUAL if door == "mtls" else SERVER_ONLY)
