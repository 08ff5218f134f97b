"""Processes that the test scripts start: a throw-away Postgres, and Myelin itself.

Everything is stopped by the number of the process that was started here, never by name. Only the standard
library is used.
"""

import http.client
import json
import os
import pathlib
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]


def binary():
    """The Myelin to test: $MYELIN_BIN, or the newest that Cargo has built."""
    if "MYELIN_BIN" in os.environ:
        return pathlib.Path(os.environ["MYELIN_BIN"]).resolve()
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    built = [path for path in (target / kind / "myelin" for kind in ("debug", "release")) if path.exists()]
    if not built:
        raise SystemExit("no Myelin is built: run `cargo build`, or set MYELIN_BIN")
    return max(built, key=lambda path: path.stat().st_mtime)


def free_port():
    """A port of the loopback interface that nobody uses at this moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def free_port_range(count):
    """`first:last`, of ports that nobody uses at this moment, below those that the system hands out."""
    for first in random.sample(range(18000, 30000, count), 100):
        try:
            for port in range(first, first + count):
                with socket.socket() as listener:
                    listener.bind(("127.0.0.1", port))
            return f"{first}:{first + count - 1}"
        except OSError:
            continue
    raise SystemExit("no free ports")


def temporary_directory(purpose):
    """A new directory that an unprivileged Postgres can pass through."""
    directory = pathlib.Path(tempfile.mkdtemp(prefix=f"myelin-{purpose}-"))
    directory.chmod(0o711)
    return directory


def postgres_programs():
    """Where initdb and postgres are."""
    found = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    found += [pathlib.Path(path) for path in [shutil.which("initdb")] if path]
    if not found:
        raise SystemExit("no Postgres programs were found: install postgresql")
    return found[-1].parent


class Postgres:
    """A cluster on a loopback port, with trust authentication and without fsync, gone when it is stopped."""

    def __init__(self):
        self.directory = temporary_directory("postgres")
        self.port = free_port()
        self.user = "postgres"
        # Postgres refuses to run as root.
        self.owner = "postgres" if os.geteuid() == 0 else None
        if self.owner:
            account = pwd.getpwnam(self.owner)
            os.chown(self.directory, account.pw_uid, account.pw_gid)
        programs, data = postgres_programs(), self.directory / "data"
        initdb = [programs / "initdb", "-D", data, "-U", self.user, "-A", "trust", "-E", "UTF8",
                  "--locale=C", "--no-sync"]
        subprocess.run(initdb, check=True, user=self.owner, cwd="/", stdout=subprocess.DEVNULL)
        settings = ["listen_addresses=127.0.0.1", f"port={self.port}", f"unix_socket_directories={data}",
                    "fsync=off", "full_page_writes=off", "synchronous_commit=off", "max_connections=200"]
        command = [programs / "postgres", "-D", data]
        for setting in settings:
            command += ["-c", setting]
        self.log = open(self.directory / "log", "wb")
        self.process = subprocess.Popen(command, user=self.owner, cwd="/", stdout=self.log, stderr=self.log,
                                        process_group=0)
        wait_for_port(self.port, self.process)

    def stop(self):
        """Ends it and removes its files."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(60)
        self.log.close()
        shutil.rmtree(self.directory)


def wait_for_port(port, process, patience=60):
    """Returns when something listens there. Fails when the process ends first."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"{process.args[0]} ended with {process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise SystemExit(f"nothing listens on port {port}")


class Myelin:
    """A server with a data directory and a managed Postgres of its own. It can be killed and started again."""

    def __init__(self, server_name="myelin.test"):
        self.directory = temporary_directory("server")
        self.port = free_port()
        self.server_name = server_name
        self.config = self.directory / "myelin.toml"
        self.config.write_text(config(self.server_name, self.port, self.directory / "data"))
        self.process = None
        self.log = open(self.directory / "log", "ab")

    @property
    def base_url(self):
        """Where its client API is."""
        return f"http://127.0.0.1:{self.port}"

    def start(self):
        """Starts it and waits until it answers."""
        command = [str(binary()), "--config", str(self.config)]
        environment = {**os.environ, "RUST_BACKTRACE": "1"}
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log, env=environment)
        try:
            self.wait_until_ready()
        except SystemExit:
            print(self.last_lines())
            raise

    def wait_until_ready(self, patience=120):
        """Returns when /versions answers."""
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise SystemExit(f"the server ended with {self.process.returncode}")
            try:
                status, _ = request(self.port, "GET", "/_matrix/client/versions")
                if status == 200:
                    return
            except OSError:
                pass
            time.sleep(0.05)
        raise SystemExit("the server does not answer")

    def stop(self):
        """Asks it to end, and waits until it has."""
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(120)
        if status != 0:
            raise SystemExit(f"the server ended with {status}:\n{self.last_lines()}")

    def kill(self):
        """Ends it without a chance to say good-bye."""
        self.process.kill()
        self.process.wait()

    def postmaster(self):
        """The process number of its Postgres."""
        lines = (self.directory / "data" / "postgres" / "postmaster.pid").read_text().splitlines()
        return int(lines[0])

    def fsck(self):
        """What `myelin fsck` says of the database, while the server is stopped: exit status and output."""
        command = [str(binary()), "fsck", "--config", str(self.config)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        return done.returncode, done.stdout + done.stderr

    def last_lines(self, count=30):
        """The end of its log."""
        return "\n".join((self.directory / "log").read_text(errors="replace").splitlines()[-count:])

    def remove(self):
        """Removes its files. It must have been stopped."""
        self.log.close()
        shutil.rmtree(self.directory)


def config(server_name, port, data):
    """A configuration for tests: everybody may register, nobody is slowed down."""
    return f"""
server_name = "{server_name}"
data_dir = "{data}"

[[listeners]]
port = {port}

[registration]
open = true

[password]
memory_kib = 64
iterations = 1

[rate_limits]
enabled = false
"""


def request(port, method, path, body=None, token=None, timeout=60):
    """One request on a connection of its own: status and body. OSError when there is no answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        return send(connection, method, path, body, token)
    except http.client.HTTPException as error:
        raise ConnectionError(str(error)) from error
    finally:
        connection.close()


def send(connection, method, path, body=None, token=None):
    """One request on this connection: status and body."""
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    connection.request(method, path, None if body is None else json.dumps(body), headers)
    answer = connection.getresponse()
    text = answer.read()
    return answer.status, json.loads(text) if text else None
