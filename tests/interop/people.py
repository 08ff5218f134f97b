"""Users, and what they do and see, on whatever server they are."""

import itertools
import time
import urllib.parse

import requests

PATIENCE = 40

numbers = itertools.count(1)


class Refused(Exception):
    """The server refused a request."""

    def __init__(self, what, answer):
        super().__init__(f"{what}: {answer.status_code} {answer.text[:400]}")
        self.status = answer.status_code
        try:
            self.errcode = answer.json().get("errcode")
        except ValueError:
            self.errcode = None


def quoted(text):
    """As part of a path."""
    return urllib.parse.quote(text, safe="")


class User:
    """A logged-in user."""

    def __init__(self, server, name):
        self.server = server
        self.http = requests.Session()
        # Another authority in the environment would win over ours.
        self.http.trust_env = False
        self.http.verify = str(server.authority.certificate)
        name = f"{name}{next(numbers)}"
        body = {"username": name, "password": "correct horse battery staple", "auth": {"type": "m.login.dummy"}}
        answer = self.call("POST", "register", body)
        self.id, self.device = answer["user_id"], answer["device_id"]
        self.http.headers["Authorization"] = f"Bearer {answer['access_token']}"
        self.since = None

    def call(self, method, path, body=None, patience=120, **query):
        """One request; the answer's body."""
        url = path if path.startswith("/") else f"/_matrix/client/v3/{path}"
        answer = self.http.request(method, self.server.base_url + url, json=body, params=query, timeout=patience)
        if not answer.ok:
            raise Refused(f"{self.server.kind} {method} {path}", answer)
        return answer.json()

    def create_room(self, version, **options):
        """A new room's id."""
        return self.call("POST", "createRoom", {"room_version": version, **options})["room_id"]

    def join(self, room, via):
        """Joins with the help of a server."""
        return self.call("POST", f"join/{quoted(room)}", {}, server_name=via.name, via=via.name)

    def act(self, action, room, user=None, **more):
        """`invite`, `kick`, `ban`, `unban`, `leave`, `forget`."""
        body = {"user_id": user.id} if user else {}
        return self.call("POST", f"rooms/{quoted(room)}/{action}", {**body, **more})

    def knock(self, room, via):
        """Asks to be let in."""
        return self.call("POST", f"knock/{quoted(room)}", {}, server_name=via.name, via=via.name)

    def say(self, room, text):
        """Sends a message; its id."""
        path = f"rooms/{quoted(room)}/send/m.room.message/txn{next(numbers)}"
        return self.call("PUT", path, {"msgtype": "m.text", "body": text})["event_id"]

    def set_state(self, room, event_type, content, key=""):
        """Sends a state event; its id."""
        path = f"rooms/{quoted(room)}/state/{event_type}/{quoted(key)}"
        return self.call("PUT", path, content)["event_id"]

    def state(self, room, event_type, key=""):
        """The content of a state event; None: there is none."""
        try:
            return self.call("GET", f"rooms/{quoted(room)}/state/{event_type}/{quoted(key)}")
        except Refused as error:
            if error.status in (403, 404):
                return None
            raise

    def membership_of(self, room, user):
        """What the other user is in the room, as this one's server knows it."""
        return (self.state(room, "m.room.member", user.id) or {}).get("membership")

    def sync(self, timeout_ms=0):
        """What is new."""
        query = {"timeout": timeout_ms, **({"since": self.since} if self.since else {})}
        answer = self.call("GET", "sync", **query)
        self.since = answer["next_batch"]
        return answer

    def wait_in_sync(self, what, condition):
        """Waits until an answer to /sync fulfils the condition; the condition's value."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            found = condition(self.sync(2000))
            if found:
                return found
        raise AssertionError(f"{self.id} waited in vain for {what}")

    def history(self, room, pages=20, limit=20):
        """The texts of all messages that can be paged back to, oldest first."""
        texts, token = [], None
        for _ in range(pages):
            query = {"dir": "b", "limit": limit, **({"from": token} if token else {})}
            answer = self.call("GET", f"rooms/{quoted(room)}/messages", **query)
            texts += [event["content"].get("body") for event in answer["chunk"] if event["type"] == "m.room.message"]
            token = answer.get("end")
            if token is None:
                break
        return texts[::-1]


def eventually(what, condition, patience=PATIENCE):
    """Waits until it holds; its value."""
    deadline = time.monotonic() + patience
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"in vain waited for: {what}")
        time.sleep(0.2)


def section(answer, kind, room):
    """The room's part of an answer to /sync."""
    return answer.get("rooms", {}).get(kind, {}).get(room)
