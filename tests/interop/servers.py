"""The servers that talk to each other: Myelin and Synapse, over TLS on the loopback interface.

Each is stopped by the number of the process that was started here. A certificate authority is made for the run.
"""

import datetime
import ipaddress
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "python"))

import processes  # noqa: E402
from gate import Gate  # noqa: E402


class Authority:
    """A certificate authority of our own, and one certificate for all servers."""

    def __init__(self):
        self.directory = processes.temporary_directory("authority")
        self.certificate = self.directory / "ca.pem"
        self.server_certificate = self.directory / "server.crt"
        self.server_key = self.directory / "server.key"
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "interop tests")])
        usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
        ca = builder(name, name, key.public_key())
        ca = ca.add_extension(x509.BasicConstraints(True, None), True).add_extension(usage, True)
        self.certificate.write_bytes(pem(ca.sign(key, hashes.SHA256())))
        server_key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        server = builder(subject, name, server_key.public_key())
        server = server.add_extension(x509.SubjectAlternativeName(names), False)
        self.server_certificate.write_bytes(pem(server.sign(key, hashes.SHA256())))
        self.server_key.write_bytes(server_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))

    def remove(self):
        """Removes its files."""
        shutil.rmtree(self.directory)


def builder(subject, issuer, key):
    """A certificate that is valid now, not signed yet."""
    now = datetime.datetime.now(datetime.timezone.utc)
    unsigned = x509.CertificateBuilder(issuer, subject, key, x509.random_serial_number())
    return (unsigned.not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=30)))


def pem(certificate):
    """As files have it."""
    return certificate.public_bytes(serialization.Encoding.PEM)


class Server:
    """A server that others know by the port of its gate: `localhost:port`. Clients use the server's own port."""

    kind = None

    def __init__(self, authority):
        self.authority = authority
        self.directory = processes.temporary_directory(self.kind)
        self.port = processes.free_port()
        self.gate = Gate(self.port)
        self.name = f"localhost:{self.gate.port}"
        self.base_url = f"https://localhost:{self.port}"
        self.log = open(self.directory / "log", "ab")
        self.process = None
        self.configure()

    def start(self):
        """Starts it and waits until it answers."""
        self.process = subprocess.Popen(self.command(), stdout=self.log, stderr=self.log, cwd=self.directory)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise SystemExit(f"{self.kind} ended with {self.process.returncode}:\n{self.last_lines()}")
            try:
                answer = requests.get(f"{self.base_url}/_matrix/client/versions", timeout=5,
                                      verify=str(self.authority.certificate))
                if answer.ok:
                    return
            except requests.RequestException:
                pass
            time.sleep(0.1)
        raise SystemExit(f"{self.kind} does not answer:\n{self.last_lines()}")

    def stop(self):
        """Asks it to end, and waits until it has."""
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(120)
            self.process = None

    def last_lines(self, count=60):
        """The end of its log."""
        return "\n".join((self.directory / "log").read_text(errors="replace").splitlines()[-count:])

    def remove(self):
        """Stops it and removes its files."""
        self.stop()
        self.gate.close()
        self.log.close()
        shutil.rmtree(self.directory)


class Myelin(Server):
    """The Myelin to test, with a managed Postgres of its own."""

    kind = "myelin"

    def configure(self):
        """Writes its configuration."""
        self.config = self.directory / "myelin.toml"
        self.config.write_text(f"""
server_name = "{self.name}"
data_dir = "{self.directory / 'data'}"

[[listeners]]
bind = "127.0.0.1"
port = {self.port}
surfaces = ["client", "federation"]
tls_certificate = "{self.authority.server_certificate}"
tls_private_key = "{self.authority.server_key}"

[federation]
ca_files = ["{self.authority.certificate}"]
allow_addresses = ["127.0.0.0/8", "::1/128"]
notaries = []

[registration]
open = true

[password]
memory_kib = 64
iterations = 1

[rate_limits]
enabled = false
""")

    def command(self):
        """How it is started."""
        return [str(processes.binary()), "--config", str(self.config)]


class Synapse(Server):
    """The reference server, with SQLite."""

    kind = "synapse"

    def configure(self):
        """Writes its configuration."""
        self.config = self.directory / "homeserver.yaml"
        log_config = self.directory / "log.yaml"
        log_config.write_text("""
version: 1
formatters: {plain: {format: '%(asctime)s %(levelname)s %(name)s %(message)s'}}
handlers: {console: {class: logging.StreamHandler, formatter: plain}}
root: {level: INFO, handlers: [console]}
disable_existing_loggers: false
""")
        often = "{per_second: 10000, burst_count: 10000}"
        self.config.write_text(f"""
server_name: "{self.name}"
pid_file: {self.directory}/pid
log_config: {log_config}
media_store_path: {self.directory}/media
signing_key_path: {self.directory}/signing.key
report_stats: false
trusted_key_servers: []
suppress_key_server_warning: true
enable_registration: true
enable_registration_without_verification: true
registration_shared_secret: interop
macaroon_secret_key: interop
form_secret: interop
bcrypt_rounds: 4
federation_custom_ca_list: ["{self.authority.certificate}"]
federation_ip_range_blacklist: []
ip_range_blacklist: []
federation_verify_certificates: true
allow_public_rooms_over_federation: true
allow_public_rooms_without_auth: true
room_list_publication_rules: [{{action: allow}}]
tls_certificate_path: {self.authority.server_certificate}
tls_private_key_path: {self.authority.server_key}
listeners:
  - port: {self.port}
    bind_addresses: ["127.0.0.1", "::1"]
    type: http
    tls: true
    resources: [{{names: [client, federation]}}]
database: {{name: sqlite3, args: {{database: "{self.directory}/homeserver.db"}}}}
presence: {{enabled: true}}
federation: {{client_timeout: 20s, max_short_retries: 1, max_short_retry_delay: 1s, destination_min_retry_interval: 1s,
  destination_max_retry_interval: 4s}}
rc_message: {often}
rc_registration: {often}
rc_login: {{address: {often}, account: {often}, failed_attempts: {often}}}
rc_joins: {{local: {often}, remote: {often}}}
rc_joins_per_room: {often}
rc_invites: {{per_room: {often}, per_user: {often}, per_issuer: {often}}}
rc_key_requests: {often}
rc_federation: {{window_size: 1000, sleep_limit: 10000, sleep_delay: 1, reject_limit: 100000, concurrent: 100}}
""")
        subprocess.run([sys.executable, "-m", "synapse.app.homeserver", "-c", str(self.config),
                        "--generate-keys"], check=True, stdout=self.log, stderr=self.log)

    def command(self):
        """How it is started."""
        return [sys.executable, "-m", "synapse.app.homeserver", "-c", str(self.config)]
