"""TLS from outside: stock clients and the command line, certificates good and bad, and connections that mean no good."""

import contextlib
import hashlib
import os
import resource
import socket
import ssl
import subprocess
import time

import adbc_driver_flightsql.dbapi
import pytest
from adbc_driver_flightsql import DatabaseOptions
from pyarrow import flight

from support import refused, scalar

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
NO_SETTINGS = b"\0\0\0\x04\0\0\0\0\0"


class Certificates:
    """A CA made by openssl, and the files that it signs."""

    def __init__(self, directory):
        self.directory = directory
        self.ca = directory / "ca.pem"
        self.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "9",
                     "-subj", "/CN=CA", "-keyout", "ca.key", "-out", "ca.pem")  # fmt: skip

    def openssl(self, *arguments):
        done = subprocess.run(["openssl", *arguments], cwd=self.directory, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr

    def sign(self, name, common_name=None):
        """Makes <name>.pem and <name>.key, and returns their paths."""
        self.openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                     "-subj", f"/CN={common_name or name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")  # fmt: skip
        (self.directory / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        self.openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-days", "5",
                     "-extfile", "names", "-out", f"{name}.pem")  # fmt: skip
        return self.directory / f"{name}.pem", self.directory / f"{name}.key"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def strangers(tmp_path_factory):
    return Certificates(tmp_path_factory.mktemp("strangers"))


def with_certificate(certificates, *more):
    certificate, key = certificates.sign("server")
    settings = [f"tls.certificate={certificate}", f"tls.key={key}", *more]
    return ["--memory", *(word for setting in settings for word in ("--set", setting))]


def one(client):
    return scalar(client, "SELECT 1")


def adbc(server, **options):
    options = {getattr(DatabaseOptions, name).value: value for name, value in options.items()}
    with adbc_driver_flightsql.dbapi.connect(server.uri, db_kwargs=options, autocommit=True) as connection:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            return cursor.fetchone()[0]


def cli(server, *arguments, **variables):
    """`merganser query`: its exit code, stdout and stderr."""
    command = [os.environ["MERGANSER_BIN"], "query", "--server", server.uri, "SELECT 7 AS n", "--format", "csv"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MERGANSER_")} | variables
    command += map(str, arguments)
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)
    return ended.returncode, ended.stdout, ended.stderr


def shown_certificate(server):
    """The certificate that the server shows, and the version of TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection(("127.0.0.1", server.port)) as raw,
        context.wrap_socket(raw) as connection,
    ):
        assert connection.selected_alpn_protocol() == "h2"
        return connection.getpeercert(binary_form=True), connection.version()


def fingerprint(der):
    return hashlib.sha256(der).hexdigest()


# --- a certificate of the server's own ---


def test_self_signed(server_factory, tmp_path):
    server = server_factory("--tls-self-signed", tmp_path / "a.duckdb")
    assert server.uri.startswith("grpc+tls://")
    certificate = tmp_path / "a.duckdb.tls-certificate.pem"
    assert (tmp_path / "a.duckdb.tls-key.pem").stat().st_mode & 0o777 == 0o600
    shown, version = shown_certificate(server)
    assert version == "TLSv1.3"
    assert fingerprint(shown) in server.log()
    # The second line of stdout has all that is needed.
    hint = server.stdout_path.read_text().splitlines()[1]
    assert str(certificate) in hint and f"--tls-fingerprint {fingerprint(shown)}" in hint

    trusted = certificate.read_bytes()
    with flight.connect(server.uri, tls_root_certs=trusted) as client:
        assert one(client) == 1
    with flight.connect(f"grpc+tls://localhost:{server.port}", tls_root_certs=trusted) as client:
        assert one(client) == 1
    assert adbc(server, TLS_ROOT_CERTS=trusted.decode()) == 1

    assert server.stop() == 0
    again = server_factory("--tls-self-signed", tmp_path / "a.duckdb")
    assert shown_certificate(again)[0] == shown


def test_the_hint_connects(server_factory, tmp_path):
    server = server_factory("--tls-self-signed", tmp_path / "a.duckdb")
    hint = server.stdout_path.read_text().splitlines()[1].removeprefix("connect: ")
    python, command = hint.split(" or merganser query ")
    with eval(python, {"adbc_driver_flightsql": adbc_driver_flightsql}) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT 5")
        assert cursor.fetchone() == (5,)
    flags = command.removesuffix(' "SELECT 1"').split()[2:]
    assert cli(server, *flags)[:2] == (0, "n\n7\n")


def test_no_database_file_keeps_it_with_the_user(server_factory, tmp_path):
    shown = []
    for _ in range(2):
        server = server_factory("--tls-self-signed", "--memory")
        shown.append(shown_certificate(server)[0])
        assert server.stop() == 0
    assert shown[0] == shown[1]
    assert (tmp_path / "merganser" / "merganser.tls-key.pem").stat().st_mode & 0o777 == 0o600


# --- certificates of a CA ---


def test_stock_clients_trust_the_ca(server_factory, certificates, strangers):
    server = server_factory(*with_certificate(certificates))
    good, bad = certificates.ca.read_bytes(), strangers.ca.read_bytes()
    with flight.connect(server.uri, tls_root_certs=good) as client:
        assert one(client) == 1
    assert adbc(server, TLS_ROOT_CERTS=good.decode()) == 1
    with flight.connect(server.uri, tls_root_certs=bad) as client, refused("UNAVAILABLE"):
        one(client)
    with pytest.raises(Exception, match="certificate"):
        adbc(server, TLS_ROOT_CERTS=bad.decode())
    # Without TLS nobody is heard.
    with flight.connect(f"grpc://127.0.0.1:{server.port}") as client, refused("UNAVAILABLE"):
        one(client)


@pytest.mark.parametrize(("version", "good"), [("TLSv1_1", False), ("TLSv1_2", True), ("TLSv1_3", True)])
def test_versions(server_factory, certificates, version, good):
    server = server_factory(*with_certificate(certificates))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(certificates.ca)
    # openssl itself has to be talked into versions as old as that.
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    with pytest.warns(DeprecationWarning) if not good else contextlib.nullcontext():
        context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    with socket.create_connection(("127.0.0.1", server.port)) as raw:
        if good:
            with context.wrap_socket(raw, server_hostname="localhost") as connection:
                assert connection.version() == version.replace("_", ".")
        else:
            with pytest.raises(ssl.SSLError, match="alert (protocol version|handshake failure)"):
                context.wrap_socket(raw, server_hostname="localhost")


def test_clients_show_certificates(server_factory, certificates, strangers):
    server = server_factory(*with_certificate(certificates, f"tls.client_ca={certificates.ca}"))
    ca = certificates.ca.read_text()
    chain, key = (path.read_text() for path in certificates.sign("ada"))
    with flight.connect(server.uri, tls_root_certs=ca, cert_chain=chain, private_key=key) as client:
        assert one(client) == 1
    assert adbc(server, TLS_ROOT_CERTS=ca, MTLS_CERT_CHAIN=chain, MTLS_PRIVATE_KEY=key) == 1
    with flight.connect(server.uri, tls_root_certs=ca) as client, refused("UNAVAILABLE"):
        one(client)
    # In TLS 1.3 the client learns it after its first words, or when it cannot send any more.
    with pytest.raises(adbc_driver_flightsql.dbapi.Error, match="certificate required|broken pipe|reset"):
        adbc(server, TLS_ROOT_CERTS=ca)
    chain, key = (path.read_text() for path in strangers.sign("ada"))
    with flight.connect(server.uri, tls_root_certs=ca, cert_chain=chain, private_key=key) as client, refused("UNAVAILABLE"):
        one(client)

    flags = ["--tls-ca", certificates.ca]
    assert cli(server, *flags, "--tls-cert", certificates.directory / "ada.pem", "--tls-key", certificates.directory / "ada.key")[0] == 0
    code, _, error = cli(server, *flags)
    # HTTP/2 loses the reason, CertificateRequired, when the connection is closed before its first call.
    assert code == 1 and f"lost the connection to {server.uri}" in error and len(error.splitlines()) == 1
    code, _, error = cli(server, *flags, "--tls-cert", strangers.directory / "ada.pem", "--tls-key", strangers.directory / "ada.key")
    assert code == 1 and "grpc+tls://" in error


def test_optional_client_certificates(server_factory, certificates):
    more = [f"tls.client_ca={certificates.ca}", "tls.client_optional=true", "auth.user=ada", "auth.password=pw"]
    server = server_factory(*with_certificate(certificates, *more))
    assert cli(server, "--tls-ca", certificates.ca, "--user", "ada", MERGANSER_PASSWORD="pw")[:2] == (0, "n\n7\n")
    code, _, error = cli(server, "--tls-ca", certificates.ca, "--user", "ada", MERGANSER_PASSWORD="no")
    assert code == 1 and "wrong" in error


def test_a_renewed_certificate_is_used(server_factory, certificates):
    server = server_factory(*with_certificate(certificates))
    ca = certificates.ca.read_bytes()
    with flight.connect(server.uri, tls_root_certs=ca) as before:
        assert one(before) == 1
        old = shown_certificate(server)[0]
        certificates.sign("server")
        deadline = time.monotonic() + 20
        while (new := shown_certificate(server)[0]) == old:
            assert time.monotonic() < deadline, "the certificate was not read again"
            time.sleep(0.1)
        assert one(before) == 1
    assert fingerprint(new) in server.log()
    with flight.connect(server.uri, tls_root_certs=ca) as after:
        assert one(after) == 1
    # What cannot be used changes nothing.
    (certificates.directory / "server.pem").write_text("nothing")
    while "the old ones stay in use" not in server.log():
        assert time.monotonic() < deadline + 20
        time.sleep(0.1)
    assert shown_certificate(server)[0] == new


# --- the command line ---


def test_the_command_line_trusts(server_factory, certificates, strangers):
    server = server_factory(*with_certificate(certificates))
    pin = fingerprint(shown_certificate(server)[0])
    colons = ":".join(pin[at : at + 2] for at in range(0, 64, 2)).upper()
    rows = "n\n7\n"
    assert cli(server, "--tls-ca", certificates.ca)[:2] == (0, rows)
    assert cli(server, MERGANSER_TLS_CA=str(certificates.ca))[:2] == (0, rows)
    assert cli(server, "--tls-fingerprint", pin)[:2] == (0, rows)
    assert cli(server, MERGANSER_TLS_FINGERPRINT=colons)[:2] == (0, rows)
    code, out, warned = cli(server, "--tls-skip-verify")
    assert (code, out) == (0, rows) and "the server may be anybody" in warned
    # The system's own CAs do not know it.
    for flags, part in [
        ([], "--tls-ca"),
        (["--tls-ca", strangers.ca], "--tls-fingerprint"),
        (["--tls-fingerprint", "00" * 32], f"its certificate has the fingerprint {pin}"),
    ]:
        code, out, error = cli(server, *flags)
        assert (code, out) == (1, ""), error
        assert "cannot trust" in error and part in error and len(error.splitlines()) == 1, error
    assert cli(server, "--tls-fingerprint", "00")[0] == 2


def test_the_command_line_tells_tls_from_none(server_factory, certificates, server):
    code, _, error = cli(server, "--tls-ca", certificates.ca)
    assert code == 1 and "is without TLS" in error
    server.uri, uri = server.uri.replace("grpc://", "grpc+tls://"), server.uri
    try:
        code, _, error = cli(server, "--tls-skip-verify")
    finally:
        server.uri = uri
    # What it says depends on whether the server's answer or its end of the connection comes first.
    told = error.splitlines()[-1]
    assert code == 1 and ("cannot reach" in told or "is it a server without TLS" in told), error


def test_tokens_come_from_files(server_factory, tmp_path):
    server = server_factory("--memory", "--set", "auth.user=ada", "--set", "auth.password=pw")
    (tmp_path / "token").write_text("nonsense\n")
    for flags, variables in [(["--token-file", tmp_path / "token"], {}), ([], {"MERGANSER_TOKEN": "nonsense"})]:
        code, _, error = cli(server, *flags, **variables)
        assert code == 1 and "the token is not valid" in error, error


# --- who may start where ---


@pytest.mark.parametrize(
    ("listen", "flags", "parts"),
    [
        ("0.0.0.0:0", [], ["merganser user add", "--tls-self-signed", "--insecure"]),
        ("[::]:0", [], ["merganser user add", "--tls-self-signed", "--insecure"]),
        ("0.0.0.0:0", ["--tls-self-signed"], ["merganser user add", "--insecure"]),
        ("0.0.0.0:0", ["--set", "auth.password=pw"], ["`tls.certificate`", "--insecure"]),
        ("192.0.2.1:8815", [], ["merganser user add", "192.0.2.1:8815"]),
        ("127.0.0.1:0", ["--set", "tls.certificate=/a"], ["`tls.certificate` = /a has no use without `tls.key`"]),
        ("127.0.0.1:0", ["--set", "tls.key=/a"], ["has no use without `tls.certificate`"]),
        ("127.0.0.1:0", ["--set", "tls.client_ca=/a"], ["`tls.client_ca` = /a has no use without"]),
        ("127.0.0.1:0", ["--set", "tls.self_signed=maybe"], ["is neither true nor false"]),
        (
            "127.0.0.1:0",
            ["--tls-self-signed", "--set", "tls.certificate=/a", "--set", "tls.key=/a"],
            ["exclude each other"],
        ),
        (
            "127.0.0.1:0",
            ["--set", "tls.certificate=/nowhere", "--set", "tls.key=/nowhere"],
            ["`tls.certificate` = /nowhere cannot be read: No such file"],
        ),
    ],
)
def test_what_does_not_start(listen, flags, parts, tmp_path):
    command = [os.environ["MERGANSER_BIN"], "serve", "--listen", listen, tmp_path / "a.duckdb", *flags]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MERGANSER_")}
    environment["MERGANSER_LOG"] = "error"
    environment["XDG_CONFIG_HOME"] = "/nonexistent"
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, env=environment, check=False)
    assert ended.returncode == 1 and ended.stdout == ""
    [line] = ended.stderr.splitlines()
    for part in parts:
        assert part in line
    if not listen.startswith("127."):
        # Not even a database was made.
        assert list(tmp_path.iterdir()) == []


def test_open_to_this_machine_says_so(server_factory):
    assert "there are no users" in server_factory("--memory").log()
    guarded = server_factory("--memory", "--set", "auth.user=ada", "--set", "auth.password=pw")
    assert "there are no users" not in guarded.log()


# --- connections that mean no good ---


def raw_socket(server, said=b""):
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    connection.sendall(said)
    return connection


def seconds_to_close(connection):
    started = time.monotonic()
    with contextlib.suppress(ConnectionResetError):
        while connection.recv(4096):
            pass
    return time.monotonic() - started


@pytest.mark.parametrize("tls", [False, True])
def test_silent_connections_are_closed(server_factory, certificates, tls):
    flags = with_certificate(certificates) if tls else ["--memory"]
    server = server_factory(*flags, "--set", "server.handshake_timeout=1s")
    silent = [raw_socket(server, said) for said in (b"", b"\x16\x03\x01" if tls else PREFACE[:9])]
    trust = {"tls_root_certs": certificates.ca.read_bytes()} if tls else {}
    with flight.connect(server.uri, **trust) as client:
        assert one(client) == 1
        for connection in silent:
            assert seconds_to_close(connection) < 5
        # Who has spoken is not asked to go on.
        time.sleep(1.2)
        assert one(client) == 1


def test_a_client_that_only_shook_hands_is_closed(server_factory, certificates):
    server = server_factory(*with_certificate(certificates), "--set", "server.handshake_timeout=1s")
    context = ssl.create_default_context(cafile=certificates.ca)
    context.set_alpn_protocols(["h2"])
    with raw_socket(server) as raw, context.wrap_socket(raw, server_hostname="localhost") as connection:
        started = time.monotonic()
        with contextlib.suppress(OSError):
            while connection.recv(4096):
                pass
        assert time.monotonic() - started < 5


def test_ten_thousand_connections(server_factory):
    """The server raises its own limit of file descriptors; those who say nothing go first, and those beyond the limit at once."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 12_000:
        pytest.skip(f"this machine allows {hard} file descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    try:
        server = server_factory("--memory", "--set", "server.connections_max=10000", "--set", "server.keepalive_interval=60s")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(12_000, hard), hard))
    connections = []
    try:
        with server.flight() as client:
            assert one(client) == 1
            silent = [raw_socket(server) for _ in range(3000)]
            assert one(client) == 1
            assert "server.handshakes_max" in server.log()
            assert len(os.listdir(f"/proc/{server.pid}/fd")) < 1200
            for connection in silent:
                connection.close()
            connections += [raw_socket(server, PREFACE + NO_SETTINGS) for _ in range(10_100)]
            # A client that was there is still served; more than 10,000 are not open.
            assert one(client) == 1
            assert "server.connections_max" in server.log()
            assert 9000 < len(os.listdir(f"/proc/{server.pid}/fd")) < 10_100
        for connection in connections:
            connection.close()
        deadline = time.monotonic() + 20
        while len(os.listdir(f"/proc/{server.pid}/fd")) > 200:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        with server.flight() as client:
            assert one(client) == 1
    finally:
        for connection in connections:
            connection.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_too_many_connections_are_closed_at_once(server_factory):
    server = server_factory("--memory", "--set", "server.connections_max=5")
    with server.flight() as client:
        assert one(client) == 1
        connections = [raw_socket(server, PREFACE + NO_SETTINGS) for _ in range(4)]
        assert seconds_to_close(raw_socket(server)) < 1
        assert one(client) == 1
        assert "server.connections_max" in server.log()
    for connection in connections:
        connection.close()


def test_running_out_of_descriptors_is_not_the_end(server_factory):
    server = server_factory("--memory")
    with server.flight() as client:
        assert one(client) == 1
        used = len(os.listdir(f"/proc/{server.pid}/fd"))
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (used + 20, used + 20))
        connections = [raw_socket(server, PREFACE + NO_SETTINGS) for _ in range(60)]
        deadline = time.monotonic() + 20
        while "cannot take a connection in" not in server.log():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert one(client) == 1
        for connection in connections:
            connection.close()
    with server.flight() as client:
        assert one(client) == 1
