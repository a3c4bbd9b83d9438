"""A Flask service on waitress that verifies for itself: `python wsgi_service.py PORT KEYS`, where KEYS is a gateway's URL or a
key. As many do, it takes the peer from the fields of the proxy in front."""

import sys

import flask
import postern
import waitress
from postern.wsgi import CapabilityMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix

port, keys = int(sys.argv[1]), sys.argv[2]
app = flask.Flask("orders")


@app.route("/<path:rest>", methods=["GET", "POST"])
def everything(rest):
    capability = flask.request.environ["postern.capability"]
    return {"path": rest, "body": flask.request.get_data(as_text=True), "short_id": capability.short_id}


of = postern.Verifier.of_gateway if keys.startswith("http") else postern.Verifier.of_keys
app.wsgi_app = ProxyFix(CapabilityMiddleware(app.wsgi_app, of(keys, resource="orders")), x_for=1, x_proto=1, x_host=1)
waitress.serve(app, host="127.0.0.1", port=port, threads=2)
