"""Sets the balance of the hot account through the service's API."""

from __future__ import annotations

import http.client
import json
import time
from urllib.parse import urlsplit

from .processes import Failed

HOT_USER = 1
SECONDS_MAX = 60


def set_balance(service_url: str, target: int):
    """Sets the balance to the target, and returns when it stays there.

    Requests that wrk had sent before it ended may still be in flight.
    """
    give_up = time.monotonic() + SECONDS_MAX
    steady = 0
    while steady < 2:
        if time.monotonic() > give_up:
            raise Failed(f"user {HOT_USER}'s balance did not stay at {target}")
        balance = ask(service_url, "GET", f"/users/{HOT_USER}")
        if balance == target:
            steady += 1
            time.sleep(0.05)
            continue
        steady = 0
        change = {"userId": HOT_USER, "amount": target - balance}
        ask(service_url, "PATCH", "/approach/self/balance", change)


def check_served(url: str):
    """Requests a change by 0, which every server under test answers with a balance."""
    parts = urlsplit(url)
    ask(f"http://{parts.netloc}", "PATCH", parts.path, {"userId": HOT_USER, "amount": 0})


def ask(service_url: str, method: str, path: str, body: dict | None = None) -> int | None:
    """The balance in the answer, or None if the change was refused for lack of funds."""
    connection = http.client.HTTPConnection(urlsplit(service_url).netloc, timeout=30)
    try:
        headers = {"Content-Type": "application/json"} if body else {}
        connection.request(method, path, json.dumps(body) if body else None, headers)
        answer = connection.getresponse()
        text = answer.read().decode(errors="replace")
    except OSError as why:
        raise Failed(f"{method} {path}: {why}") from None
    finally:
        connection.close()
    if answer.status == 200:
        return json.loads(text)["balance"]
    if answer.status == 400 and "Insufficient funds" in text:
        return None
    raise Failed(f"{method} {path} was answered with {answer.status} {text}")
