#!/usr/bin/env python3
"""What it costs to join a large room of another server: CPU and memory of the joining Myelin.

    MYELIN_BIN=target/release/myelin tests/cost/join.py [--members 20000]

Two Myelins on the loopback interface, over TLS, each with a Postgres of its own. One has a room that all of its
users have joined; a user of the other joins it, and sees everybody. Ends by itself, after some minutes at most.
"""

import argparse
import concurrent.futures
import http.client
import json
import os
import pathlib
import ssl
import sys
import threading
import time
import urllib.parse

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "interop"))

import servers  # noqa: E402

AT_ONCE = 8
TICKS = os.sysconf("SC_CLK_TCK")


def main():
    """Fills a room, joins it from outside, and says what that took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, default=20_000, help="how many users the room has")
    members = parser.parse_args().members
    authority = servers.Authority()
    host, guest = servers.Myelin(authority), servers.Myelin(authority)
    try:
        host.start()
        guest.start()
        measure(Client(host), Client(guest), guest, members)
    finally:
        for server in (guest, host):
            server.remove()
        authority.remove()


def measure(host, guest, server, members):
    """Prints a line of figures."""
    owner = host.register("owner")
    room = host.call("POST", "/v3/createRoom", owner, {"preset": "public_chat"})["room_id"]
    fill(host, room, members - 1)
    visitor = guest.register("visitor")
    idle = Usage(server)
    began = time.monotonic()
    path = f"/v3/join/{quoted(room)}?via={quoted(host.server.name)}"
    guest.call("POST", path, visitor, {})
    took = time.monotonic() - began
    seen = guest.call("GET", f"/v3/rooms/{quoted(room)}/joined_members", visitor)["joined"]
    if len(seen) != members + 1:
        raise SystemExit(f"{len(seen)} members are seen, not {members + 1}")
    used = Usage(server)
    print(f"{members} members: {took:.1f} s; joining server: {used.server - idle.server:.1f} s of CPU, "
          f"its Postgres {used.postgres - idle.postgres:.1f} s; peak memory {used.peak // 1024} MiB "
          f"(before {idle.peak // 1024} MiB)")


def fill(host, room, count):
    """Lets so many users register and join."""
    done = 0

    def enter(number):
        token = host.register(f"user{number}")
        host.call("POST", f"/v3/join/{quoted(room)}", token, {})

    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        for _ in pool.map(enter, range(count)):
            done += 1
            if done % 2000 == 0:
                print(f"{done} of {count} users have joined", flush=True)


def quoted(text):
    """As it stands in a path."""
    return urllib.parse.quote(text, safe="")


class Client:
    """Requests to one server, on a connection for each thread."""

    def __init__(self, server):
        self.server = server
        self.context = ssl.create_default_context(cafile=str(server.authority.certificate))
        self.local = threading.local()

    def register(self, name):
        """A new user's token."""
        body = {"username": name, "password": "p", "auth": {"type": "m.login.dummy"}}
        return self.call("POST", "/v3/register", None, body)["access_token"]

    def call(self, method, path, token, body=None):
        """The answer to a request that must succeed."""
        connection = getattr(self.local, "connection", None)
        if connection is None:
            connection = http.client.HTTPSConnection("localhost", self.server.port, timeout=600,
                                                     context=self.context)
            self.local.connection = connection
        headers = {"Content-Type": "application/json"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        text = None if body is None else json.dumps(body)
        connection.request(method, f"/_matrix/client{path}", text, headers)
        answer = connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise SystemExit(f"{method} {path}: {answer.status} {content[:300]}")
        return json.loads(content)


class Usage:
    """CPU seconds so far, and the most memory that the server had."""

    def __init__(self, server):
        postmaster = server.directory / "data" / "postgres" / "postmaster.pid"
        self.server = cpu(server.process.pid)
        self.postgres = tree(int(postmaster.read_text().splitlines()[0]))
        status = pathlib.Path(f"/proc/{server.process.pid}/status").read_text()
        self.peak = int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


def cpu(pid):
    """User and system time of a process and of its children that have ended."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15]) / TICKS


def tree(pid):
    """The same, with the children that live."""
    children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return cpu(pid) + sum(cpu(child) for child in children)


if __name__ == "__main__":
    main()
