"""A web application whose request threads share one WebSocket, and whose pages show what it last said.

::

    python examples/flask_worker.py
    python examples/flask_worker.py --url wss://feed.example.com/ --port 8000

Without ``--url`` it starts a server of its own; without ``--port`` it asks itself for some pages, from eight
threads, and ends. Needs ``flask``, and ``wsclient[testing]`` for that server.

The application is ``create_app(url)``. Under a server that forks its workers (gunicorn, uWSGI) call it in
each worker: a connection does not live on in a child process.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from types import TracebackType
from typing import Any
from urllib.request import Request, urlopen

import wsclient
from wsclient.testing import ServerConnection, serve

try:
    from flask import Flask, jsonify, request
    from flask.typing import ResponseReturnValue
    from werkzeug.serving import make_server
except ModuleNotFoundError as error:
    sys.exit(f"this example needs Flask ({error}): pip install flask")


class Exchange:
    """The application's one connection. Request threads send and look; the reader thread keeps what comes."""

    def __init__(self, url: str) -> None:
        self._prices: dict[str, float] = {}  # the reader thread writes, any thread reads
        self.is_warm = threading.Event()  # set once there are prices
        self._connection = wsclient.Connection(
            url,
            reconnect=True,
            on_open=self._subscribe,
            on_reconnect=self._subscribe,
            on_message=self._receive,
            # A web server should refuse quickly what it cannot pass on.
            send_timeout=1,
        )
        self._connection.open()

    def order(self, symbol: str, amount: int) -> None:
        """Pass an order on. Any thread; raises ``wsclient.SendTimeout`` when the exchange takes none."""
        self._connection.send_json({"type": "order", "symbol": symbol, "amount": amount})

    def price(self, symbol: str) -> float | None:
        """The last price that came."""
        return self._prices.get(symbol)

    def close(self) -> None:
        """Write what is queued, and leave."""
        self._connection.close()

    def _subscribe(self, conn: wsclient.Connection) -> None:
        conn.send_json({"type": "subscribe"})

    def _receive(self, conn: wsclient.Connection, message: str | bytes) -> None:
        quote = json.loads(message)
        self._prices[quote["symbol"]] = quote["bid"]
        self.is_warm.set()


def create_app(url: str) -> Flask:
    """The web application; ``app.extensions["exchange"]`` is to be closed when it ends."""
    app = Flask(__name__)
    exchange = app.extensions["exchange"] = Exchange(url)

    @app.get("/prices/<symbol>")
    def show_price(symbol: str) -> ResponseReturnValue:
        price = exchange.price(symbol)
        return jsonify(symbol=symbol, bid=price) if price is not None else (jsonify(error="no price"), 404)

    @app.post("/orders")
    def pass_order() -> ResponseReturnValue:
        order = request.get_json()
        try:
            exchange.order(order["symbol"], order["amount"])
        except (wsclient.SendTimeout, wsclient.ConnectionClosed) as error:
            return jsonify(error=str(error)), 503
        return jsonify(accepted=order), 202

    return app


class WebServer:
    """Werkzeug's server, with a thread for each request, in a thread of its own."""

    def __init__(self, app: Flask, port: int) -> None:
        self._server = make_server("127.0.0.1", port, app, threaded=True)
        self._thread = threading.Thread(target=self._server.serve_forever, name="web-server")
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> WebServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def wait(self) -> None:
        """Serve until Ctrl-C."""
        print(f"serving on {self.url}; Ctrl-C ends it")
        try:
            self._thread.join()
        except KeyboardInterrupt:
            print("ending")


# -- the demonstration ---------------------------------------------------------------------------------------


class StandInExchange:
    """Sends three prices to whoever subscribes, and counts orders."""

    def __init__(self) -> None:
        self.orders: Counter[str] = Counter()  # the thread of the one connection

    def attend(self, connection: ServerConnection) -> None:
        """Serve one connection."""
        for text in connection:
            message = json.loads(text)
            if message["type"] == "order":
                self.orders[message["symbol"]] += message["amount"]
            else:
                for symbol, bid in (("EURUSD", 1.1), ("GBPUSD", 1.3), ("USDJPY", 150.2)):
                    connection.send_json({"symbol": symbol, "bid": bid})


def fetch(url: str, order: dict[str, Any] | None = None) -> Any:
    """Ask the web server, as a browser would."""
    data = None if order is None else json.dumps(order).encode()
    with urlopen(Request(url, data, {"Content-Type": "application/json"}), timeout=10) as response:
        return json.load(response)


def browse(url: str) -> None:
    """Order from eight threads, and look at the prices."""
    orders = [{"symbol": symbol, "amount": 1} for symbol in ("EURUSD", "GBPUSD") * 20]
    with ThreadPoolExecutor(8) as pool:
        accepted = list(pool.map(lambda order: fetch(f"{url}/orders", order), orders))
    print(len(accepted), "orders were accepted, from 8 request threads at a time")
    print("the page of a price:", fetch(f"{url}/prices/EURUSD"))


def main() -> None:
    """Run the example."""
    parser = argparse.ArgumentParser(description="Share one WebSocket among the threads of a web server.")
    parser.add_argument("--url", help="a server to use; by default one is started here")
    parser.add_argument("--port", type=int, default=0, help="serve there until Ctrl-C")
    chosen = parser.parse_args()
    try:
        run(chosen.url, chosen.port)
    except wsclient.HandshakeError as error:
        sys.exit(f"cannot connect: {error}")


def run(given_url: str | None, port: int) -> None:
    """Serve, with a stand-in for the exchange unless there is one."""
    stand_in = StandInExchange()
    with ExitStack() as stack:
        url = given_url or stack.enter_context(serve(stand_in.attend)).url
        app = create_app(url)
        stack.callback(app.extensions["exchange"].close)
        web = stack.enter_context(WebServer(app, port))
        if port:
            web.wait()
        else:
            logging.getLogger("werkzeug").setLevel(logging.WARNING)  # one line for each request is too much
            app.extensions["exchange"].is_warm.wait(10)
            browse(web.url)
    if not given_url:
        print("the exchange has", dict(sorted(stand_in.orders.items())))


if __name__ == "__main__":
    main()
