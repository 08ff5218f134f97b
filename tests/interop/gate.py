"""What other servers reach a server through: it can be shut, as if the network were broken.

Bytes are passed on as they are, so that TLS is the server's. Clients of the server do not come through here.
"""

import contextlib
import socket
import threading


class Gate:
    """Listens on a port of the loopback interface, and passes on to another one."""

    def __init__(self, target):
        self.target = target
        self.is_open = True
        self.connections = set()
        self.lock = threading.Lock()
        self.listeners = [listener(socket.AF_INET, "127.0.0.1", 0)]
        self.port = self.listeners[0].getsockname()[1]
        with contextlib.suppress(OSError):
            self.listeners.append(listener(socket.AF_INET6, "::1", self.port))
        for each in self.listeners:
            threading.Thread(target=self.accept, args=[each], daemon=True).start()

    def shut(self):
        """Ends all connections, and lets none come."""
        with self.lock:
            self.is_open = False
            connections, self.connections = self.connections, set()
        for connection in connections:
            end(connection)

    def open(self):
        """Lets connections come again."""
        with self.lock:
            self.is_open = True

    def close(self):
        """Ends for good."""
        self.shut()
        for each in self.listeners:
            end(each)

    def accept(self, listening):
        """Takes connections until there are no more."""
        while True:
            try:
                inside, _ = listening.accept()
            except OSError:
                return
            try:
                outside = socket.create_connection(("127.0.0.1", self.target), timeout=5)
                outside.settimeout(None)
            except OSError:
                inside.close()
                continue
            with self.lock:
                is_open = self.is_open
                if is_open:
                    self.connections |= {inside, outside}
            if not is_open:
                inside.close()
                outside.close()
                continue
            for source, sink in [(inside, outside), (outside, inside)]:
                threading.Thread(target=self.copy, args=[source, sink], daemon=True).start()

    def copy(self, source, sink):
        """Passes on in one direction until the end, which is passed on too."""
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass
        end(source)
        end(sink)
        with self.lock:
            self.connections -= {source, sink}


def listener(family, address, port):
    """A socket that listens."""
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind((address, port))
    listening.listen(128)
    return listening


def end(connection):
    """Ends it, also for those who wait in it."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()


@contextlib.contextmanager
def apart(*servers):
    """Meanwhile these servers do not hear each other, while their users are served."""
    for server in servers:
        server.gate.shut()
    try:
        yield
    finally:
        for server in servers:
            server.gate.open()
