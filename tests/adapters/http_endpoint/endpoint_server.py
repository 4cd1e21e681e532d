"""A model behind HTTP on this machine, which can be told to misbehave."""

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        server = self.server
        body = self.rfile.read(int(self.headers["Content-Length"]))
        server.asked.append((self.path, dict(self.headers), json.loads(body)))
        server.peers.add(self.client_address)
        fault = server.faults.get(self.path, "")
        if fault == "hang":
            server.released.wait(10)
        elif fault == "drip":
            self.drip()
        elif fault == "hang up":
            self.close_connection = True
        elif fault == "redirect":
            self.send_response(302)
            self.send_header("Location", "/score")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif fault:
            status, text = fault
            self.reply(status, text)
        else:
            self.reply(200, json.dumps(self.answer(json.loads(body))).encode())

    def answer(self, asked):
        if self.path.endswith("/invocations"):
            return {"predictions": self.scores(asked["inputs"])}
        if self.path.endswith("/infer"):
            (tensor,) = asked["inputs"]
            rows = np.array(tensor["data"], dtype=object).reshape(tensor["shape"]).tolist()
            scores = [[score] for score in self.scores(rows)]
            return {"outputs": [{"name": "score", "datatype": "FP32", "data": scores}]}
        return self.scores(asked)

    @staticmethod
    def scores(rows):
        filled = [[0.5 if value is None else value for value in row] for row in rows]
        return (np.array(filled, float) @ np.arange(1.0, len(filled[0]) + 1)).tolist()

    def reply(self, status, text):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def drip(self):
        """Send a byte now and then: no single wait is long."""
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        for _ in range(100):
            try:
                self.wfile.write(b"1")
                self.wfile.flush()
            except OSError:
                break
            time.sleep(0.05)


@contextmanager
def serving(faults=None, wrap=lambda socket: socket):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = wrap(server.socket)
    server.asked, server.peers, server.faults = [], set(), faults or {}
    server.released = threading.Event()
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


def url_of(server, path="/score", scheme="http", host="127.0.0.1"):
    return f"{scheme}://{host}:{server.server_address[1]}{path}"
