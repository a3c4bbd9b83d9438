"""A Flask service on waitress that verifies for itself: `python wsgi_service.py PORT KEY`."""

import sys

import flask
import postern
import waitress
from postern.wsgi import CapabilityMiddleware

port, key = int(sys.argv[1]), sys.argv[2]
app = flask.Flask("orders")


@app.route("/<path:rest>", methods=["GET", "POST"])
def everything(rest):
    capability = flask.request.environ["postern.capability"]
    return {"path": rest, "body": flask.request.get_data(as_text=True), "short_id": capability.short_id}


app.wsgi_app = CapabilityMiddleware(app.wsgi_app, postern.Verifier.of_keys(key, resource="orders"))
waitress.serve(app, host="127.0.0.1", port=port, threads=2)
