"""Load from many machines: users of Locust on the ``Connection`` that production uses (extra ``locust``).

::

    from locust import task
    from wsclient.locust import WebSocketUser

    class Visitor(WebSocketUser):
        host = "ws://localhost:8765"

        @task
        def ask(self):
            self.client.request("hello", name="hello")

Locust runs its users as greenlets of one thread, by patching the standard library as it is imported. So
import ``locust`` before this module, as the ``locust`` command does by itself. docs/locust.md has the rest.
"""

from __future__ import annotations

try:
    from gevent import monkey
    from locust import exception as _  # noqa: F401 - this is where the standard library gets patched
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"no module {error.name!r}: wsclient.locust needs pip install 'wsclient[locust]'", name=error.name
    ) from error
if not monkey.is_module_patched("threading"):
    raise ImportError(
        "the standard library is not patched for gevent: unset LOCUST_SKIP_MONKEY_PATCH, or call "
        "gevent.monkey.patch_all() first; without it one waiting user would hold up all others"
    )

from wsclient.locust.client import WebSocketClient
from wsclient.locust.report import RequestFailed
from wsclient.locust.user import WebSocketUser

__all__ = ["RequestFailed", "WebSocketClient", "WebSocketUser"]
