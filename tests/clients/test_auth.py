"""Who gets in: users, API tokens and JWTs, changed while the server runs; whose session is whose; what is logged."""

import base64
import json
import os
import subprocess
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jwt
import pytest
import support
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from pyarrow import flight

AUDIENCE = "merganser"
SECRET = "a secret of at least thirty-two bytes!"
# Time in which a running server follows the users file.
FOLLOW_SECONDS = 1.2


class Users:
    """A users file, and the commands that change it."""

    def __init__(self, path):
        self.path = path

    def run(self, *arguments, stdin=""):
        command = [os.environ["MERGANSER_BIN"], *arguments, "--users-file", str(self.path)]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def fails(self, *arguments, stdin=""):
        command = [os.environ["MERGANSER_BIN"], *arguments, "--users-file", str(self.path)]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60)
        assert done.returncode == 1 and not done.stdout
        return done.stderr

    def add(self, name, password, role="admin", *more):
        return self.run("user", "add", name, "--role", role, "--password-stdin", *more, stdin=password + "\n")


@pytest.fixture
def users(tmp_path):
    users = Users(tmp_path / "private" / "users.toml")
    users.add("ann", "apple")
    users.add("bob", "berry:with=colons")
    return users


@pytest.fixture
def guarded(server_factory, users):
    return server_factory("--memory", "--set", f"auth.users_file={users.path}")


def basic(name, password):
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def options(authorization=None, cookie=None):
    pairs = [(b"authorization", authorization), (b"cookie", cookie)]
    return flight.FlightCallOptions(headers=[(name, value.encode()) for name, value in pairs if value])


def select(client, authorization=None, cookie=None, sql="SELECT 1 AS n"):
    return client.do_get(flight.Ticket(sql.encode()), options(authorization, cookie)).read_all().to_pylist()


def refused(client, authorization=None, cookie=None):
    with pytest.raises(flight.FlightUnauthenticatedError) as caught:
        select(client, authorization, cookie)
    return str(caught.value)


class Offers(flight.ClientMiddlewareFactory):
    """Keeps the session that the server offered last."""

    bearer = cookie = None

    def start_call(self, _info):
        factory = self

        class Middleware(flight.ClientMiddleware):
            def received_headers(self, headers):
                headers = {name.lower(): value for name, value in headers.items()}
                if "authorization" in headers:
                    [factory.bearer] = headers["authorization"]
                    factory.cookie = headers["set-cookie"][0].split(";")[0]

        return Middleware()


# --- users ---


def test_commands_write_the_file_and_show_no_secret(users):
    assert users.path.stat().st_mode & 0o777 == 0o600
    text = users.path.read_text()
    assert text.count("$argon2id$v=19$") == 2 and "apple" not in text
    users.add("carl@example.com", "x", "writer", "--grant", "read:*", "--grant", "write:tmp_?")
    users.run("user", "add", "robot", "--role", "reader", "--no-password")
    listed = json.loads(users.run("user", "list", "--json"))
    assert [user["name"] for user in listed] == ["ann", "bob", "carl@example.com", "robot"]
    assert listed[2]["grants"] == ["read:*", "write:tmp_?"] and not listed[3]["has_password"]
    users.run("user", "set", "carl@example.com", "--role", "reader", "--all-tables")
    assert json.loads(users.run("user", "list", "--json"))[2] | {"created": 0} == {
        "name": "carl@example.com",
        "role": "reader",
        "grants": [],
        "has_password": True,
        "created": 0,
    }
    assert "argon2" not in users.run("user", "list")
    assert 'user "ann" is there already' in users.fails(
        "user", "add", "ann", "--role", "reader", "--password-stdin", stdin="x"
    )
    assert "is not the name of a user" in users.fails("user", "add", "a b", "--role", "reader", "--no-password")
    assert "a password has 1 to" in users.fails("user", "add", "x", "--role", "reader", "--password-stdin")
    assert "say --password-stdin" in users.fails("user", "add", "x", "--role", "reader")
    assert 'there is no user "zoe"' in users.fails("user", "remove", "zoe")
    assert 'there is no user "zoe"' in users.fails("token", "create", "--user", "zoe")


def test_changes_at_the_same_time_are_all_there(users):
    command = [os.environ["MERGANSER_BIN"], "user", "add", "--role", "reader", "--no-password", "--users-file", users.path]
    running = [subprocess.Popen([*command, f"many_{number}"], stdout=subprocess.DEVNULL) for number in range(16)]
    assert [process.wait(timeout=60) for process in running] == [0] * 16
    assert len(json.loads(users.run("user", "list", "--json"))) == 18


def test_a_password_on_any_call_and_in_a_handshake(guarded):
    with guarded.flight() as client:
        assert select(client, basic("ann", "apple")) == [{"n": 1}]
        assert select(client, basic("bob", "berry:with=colons")) == [{"n": 1}]
        name, bearer = client.authenticate_basic_token("ann", "apple")
        assert select(client, bearer.decode()) == [{"n": 1}]
        messages = {refused(client, basic(*pair)) for pair in (("ann", "berry"), ("zoe", "apple"), ("ann", ""))}
        assert len(messages) == 1 and "the user or the password is wrong" in messages.pop()
        assert "the server wants to know who calls" in refused(client)
        with pytest.raises(flight.FlightUnauthenticatedError):
            client.authenticate_basic_token("ann", "wrong")
    with guarded.adbc(db_kwargs={"username": "ann", "password": "apple"}) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)


def test_users_change_without_a_restart(guarded, users):
    with guarded.flight() as client:
        bearer = client.authenticate_basic_token("bob", "berry:with=colons")[1].decode()
        assert select(client, bearer) == [{"n": 1}]
        users.add("late", "x")
        users.run("user", "set", "ann", "--password-stdin", stdin="other")
        users.run("user", "remove", "bob")
        time.sleep(FOLLOW_SECONDS)
        assert select(client, basic("late", "x")) == select(client, basic("ann", "other")) == [{"n": 1}]
        for authorization in (bearer, basic("bob", "berry:with=colons"), basic("ann", "apple")):
            refused(client, authorization)

        # A broken file changes nothing, and neither does one that is gone.
        text = users.path.read_text()
        users.path.write_text(text.replace("role", "rule"))
        time.sleep(FOLLOW_SECONDS)
        assert select(client, basic("late", "x")) == [{"n": 1}]
        users.path.unlink()
        time.sleep(FOLLOW_SECONDS)
        assert select(client, basic("late", "x")) == [{"n": 1}]
        refused(client)
    log = guarded.log()
    assert log.count("the users stay as they were") == 2 and "$argon2" not in log


def test_a_server_that_is_open_closes_with_its_first_user(server_factory, tmp_path):
    """The default place of the file, which is not there at first."""
    server = server_factory("--memory")
    with server.flight() as client:
        offers = Offers()
        with flight.FlightClient(server.uri, middleware=[offers]) as other:
            select(other)
        assert select(client) == select(client, offers.bearer) == [{"n": 1}]
        Users(tmp_path / "merganser" / "users.toml").add("ann", "apple")
        time.sleep(FOLLOW_SECONDS)
        refused(client)
        refused(client, offers.bearer)
        assert select(client, basic("ann", "apple")) == [{"n": 1}]


def test_a_file_that_is_configured_must_be_there(tmp_path):
    command = [os.environ["MERGANSER_BIN"], "serve", "--memory", "--listen", "127.0.0.1:0"]
    missing = tmp_path / "none.toml"
    done = subprocess.run([*command, "--set", f"auth.users_file={missing}"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and f"users file not found: {missing}" in done.stderr
    missing.write_text("")
    missing.chmod(0o666)
    done = subprocess.run([*command, "--set", f"auth.users_file={missing}"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "others may write it" in done.stderr


# --- API tokens ---


def test_an_api_token_until_it_is_revoked(guarded, users):
    token = users.run("token", "create", "--user", "bob", "--expires", "90d", "--name", "nightly")
    _, identity, secret = token.split("_", 2)
    assert token.startswith("mgt_") and len(secret) == 43 and secret not in users.path.read_text()
    [listed] = json.loads(users.run("token", "list", "--json"))
    assert (listed["id"], listed["user"], listed["name"]) == (identity, "bob", "nightly")
    brief = users.run("token", "create", "--user", "ann", "--expires", "2s")
    time.sleep(FOLLOW_SECONDS)
    with guarded.flight() as client:
        offers = Offers()
        with flight.FlightClient(guarded.uri, middleware=[offers]) as other:
            assert select(other, f"Bearer {token}") == [{"n": 1}]
        assert select(client, offers.bearer) == [{"n": 1}]
        assert "the API token is not valid" in refused(client, f"Bearer {token}x")
        command = [os.environ["MERGANSER_BIN"], "query", "--server", guarded.uri, "SELECT 1 AS n", "--format", "csv"]
        done = subprocess.run(command, env=os.environ | {"MERGANSER_TOKEN": token}, capture_output=True, text=True)
        assert done.stdout.split() == ["n", "1"], done.stderr
        users.run("token", "revoke", identity)
        time.sleep(FOLLOW_SECONDS)
        refused(client, f"Bearer {token}")
        refused(client, offers.bearer)
        assert "the API token has expired" in refused(client, f"Bearer {brief}")
    assert secret not in guarded.log()


# --- sessions ---


def test_a_session_is_its_users_own(guarded):
    offers = Offers()
    with flight.FlightClient(guarded.uri, middleware=[offers]) as client:
        select(client, basic("ann", "apple"))
        cookie, bearer = offers.cookie, offers.bearer
        client.do_get(
            flight.Ticket(b"CREATE TEMP TABLE mine AS SELECT 7 AS n"), options(basic("ann", "apple"), cookie)
        ).read_all()
        assert select(client, basic("ann", "apple"), cookie, "SELECT n FROM mine") == [{"n": 7}]
        assert select(client, bearer, None, "SELECT n FROM mine") == [{"n": 7}]
        # With another user's cookie, bob is in a session of his own.
        with pytest.raises(Exception, match="mine"):
            select(client, basic("bob", "berry:with=colons"), cookie, "SELECT n FROM mine")
        offers.cookie = None
        assert select(client, basic("bob", "berry:with=colons"), cookie) == [{"n": 1}]
        assert offers.cookie not in (None, cookie)
        # A cookie proves nothing.
        refused(client, None, cookie)


def test_a_sessions_token_expires(server_factory, users):
    server = server_factory(
        "--memory", "--set", f"auth.users_file={users.path}", "--set", "auth.session_token_expire=2s"
    )
    with server.flight() as client:
        bearer = client.authenticate_basic_token("ann", "apple")[1].decode()
        assert select(client, bearer) == [{"n": 1}]
        time.sleep(2.1)
        assert "it has expired" in refused(client, bearer)


# --- attempts ---


def test_attempts_are_limited(server_factory, users):
    settings = {"auth.users_file": users.path, "auth.attempts_max": 3, "auth.attempts_window": "6s"}
    server = server_factory("--memory", *(word for key, value in settings.items() for word in ("--set", f"{key}={value}")))
    with server.flight() as client:
        select(client, basic("bob", "berry:with=colons"))
        for _ in range(3):
            refused(client, basic("ann", "SECRET-guess"))
            refused(client, basic("bob", "SECRET-guess"))
        for password in ("SECRET-guess", "apple"):
            started = time.monotonic()
            with support.refused("RESOURCE_EXHAUSTED", "too many attempts to sign in", "auth.attempts_max"):
                select(client, basic("ann", password))
            assert time.monotonic() - started < 1
        # Who was verified before is not shut out by somebody who guesses.
        assert select(client, basic("bob", "berry:with=colons")) == [{"n": 1}]
        time.sleep(2.1)
        assert select(client, basic("ann", "apple")) == [{"n": 1}]
    assert "SECRET-guess" not in server.log() and "a sign-in has failed" in server.log()


def test_a_user_that_is_not_there_takes_as_long(guarded):
    def seconds(name):
        with guarded.flight() as client:
            started = time.monotonic()
            refused(client, basic(name, f"wrong {time.monotonic_ns()}"))
            return time.monotonic() - started

    known, unknown = (sorted(seconds(name) for _ in range(7))[3] for name in ("ann", "nobody"))
    assert known / 3 < unknown < known * 3


# --- JWTs ---


def claims(**changes):
    now = int(time.time())
    everything = {"iss": "us", "aud": AUDIENCE, "sub": "jane", "exp": now + 60, "merganser_role": "admin"} | changes
    return {name: value for name, value in everything.items() if value is not None}


def pem(key):
    public = key.public_key()
    return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def jwt_server(server_factory, **settings):
    settings = {"issuer": "us", "audience": AUDIENCE} | settings
    return server_factory("--memory", *(w for key, value in settings.items() for w in ("--set", f"jwt.{key}={value}")))


def check_claims(client, sign):
    """What must hold for any kind of key."""
    assert select(client, "Bearer " + sign(claims())) == [{"n": 1}]
    assert select(client, "Bearer " + sign(claims(aud=["x", AUDIENCE]))) == [{"n": 1}]
    now = int(time.time())
    for message, changes in {
        "it has expired": {"exp": now - 120},
        "it is not valid yet": {"nbf": now + 120},
        "it is for another audience": {"aud": "geese"},
        "it is of another issuer": {"iss": "them"},
        "it lacks one of": {"exp": None},
    }.items():
        assert message in refused(client, "Bearer " + sign(claims(**changes)))
    for changes in ({"merganser_role": None}, {"merganser_role": "king"}, {"merganser_grants": "all"}):
        with support.refused("PERMISSION_DENIED", 'user "jane" is refused'):
            select(client, "Bearer " + sign(claims(**changes)))
    header = base64.urlsafe_b64encode(b'{"alg":"none"}').decode().rstrip("=")
    for signature in ("", sign(claims()).rsplit(".")[2]):
        refused(client, f"Bearer {header}.{sign(claims()).split('.')[1]}.{signature}")
    refused(client, "Bearer " + sign(claims())[:-8])


def confused(public, token_claims):
    """HS256 with the public key as the secret. PyJWT refuses to make it, so that it is made by hand."""
    import hashlib
    import hmac

    encode = lambda raw: base64.urlsafe_b64encode(raw).rstrip(b"=")  # noqa: E731
    text = encode(b'{"alg":"HS256","typ":"JWT"}') + b"." + encode(json.dumps(token_claims).encode())
    return (text + b"." + encode(hmac.new(public, text, hashlib.sha256).digest())).decode()


def test_hs256(server_factory):
    server = jwt_server(server_factory, secret=SECRET)
    with server.flight() as client:
        check_claims(client, lambda token: jwt.encode(token, SECRET, "HS256"))
        refused(client, "Bearer " + jwt.encode(claims(), SECRET, "HS512"))
        refused(client, "Bearer " + jwt.encode(claims(), SECRET + "x", "HS256"))
        assert "the server wants to know who calls" in refused(client)
        refused(client, basic("jane", "x"))

        # Its session goes on without it, and ends with it.
        offers = Offers()
        with flight.FlightClient(server.uri, middleware=[offers]) as other:
            token = jwt.encode(claims(exp=int(time.time()) - 27), SECRET, "HS256")  # 30 s of leeway
            assert select(other, f"Bearer {token}") == [{"n": 1}]
        assert select(client, offers.bearer) == [{"n": 1}]
        # The cookie of one is no session of another.
        other = jwt.encode(claims(sub="jim"), SECRET, "HS256")
        assert select(client, f"Bearer {other}", offers.cookie) == [{"n": 1}]
        time.sleep(4)
        refused(client, offers.bearer)
        refused(client, f"Bearer {token}")
    assert SECRET not in server.log() and token not in server.log()


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
def test_public_keys(server_factory, tmp_path, algorithm):
    make = {"RS256": lambda: rsa.generate_private_key(65537, 2048), "ES256": lambda: ec.generate_private_key(ec.SECP256R1())}
    key, other = make[algorithm](), make[algorithm]()
    (tmp_path / "key.pem").write_bytes(pem(key))
    server = jwt_server(server_factory, public_key_file=tmp_path / "key.pem")
    with server.flight() as client:
        check_claims(client, lambda token: jwt.encode(token, key, algorithm))
        assert "its signature is wrong" in refused(client, "Bearer " + jwt.encode(claims(), other, algorithm))
        der = key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        for public in (pem(key), der):
            refused(client, "Bearer " + confused(public, claims()))
        if algorithm == "RS256":
            for same_family in ("RS512", "PS256"):
                refused(client, "Bearer " + jwt.encode(claims(), key, same_family))


class Issuer:
    """An OpenID issuer, on this machine, whose keys change."""

    def __init__(self):
        issuer = self
        self.keys, self.requests, self.is_down, self.document = [], 0, False, {}

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                issuer.requests += 1
                pages = {"/realm/.well-known/openid-configuration": issuer.document, "/keys": {"keys": issuer.keys}}
                body = json.dumps(pages.get(self.path)).encode()
                self.send_response(503 if issuer.is_down else 200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_arguments):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        root = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.name = f"{root}/realm"
        self.document = {"issuer": self.name, "jwks_uri": f"{root}/keys"}

    @staticmethod
    def public(key, kid):
        kind = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
        return json.loads(kind.to_jwk(key.public_key())) | {"kid": kid, "use": "sig"}

    def sign(self, key, kid, **changes):
        algorithm = "RS256" if isinstance(key, rsa.RSAPrivateKey) else "ES256"
        return jwt.encode(claims(**({"iss": self.name} | changes)), key, algorithm, headers={"kid": kid})


@pytest.fixture
def issuer():
    issuer = Issuer()
    thread = threading.Thread(target=issuer.server.serve_forever)
    thread.start()
    yield issuer
    issuer.server.shutdown()
    issuer.server.server_close()
    thread.join()


def test_an_issuers_keys_rotate_and_it_may_be_down(server_factory, issuer):
    first, second, third = rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP256R1()), None
    issuer.keys = [issuer.public(first, "a")]
    issuer.is_down = True
    server = jwt_server(server_factory, issuer=issuer.name, keys_refetch="1s", keys_expire="4s")
    with server.flight() as client:
        token = issuer.sign(first, "a")
        with support.refused("UNAVAILABLE", "the keys of the token's issuer cannot be fetched"):
            select(client, f"Bearer {token}")
        issuer.is_down = False
        time.sleep(1.1)
        assert select(client, f"Bearer {token}") == [{"n": 1}]
        assert issuer.requests == 3  # one in vain, then the document and the keys

        # Keys are kept, and unknown ones are asked for, but not each time.
        for number in range(20):
            refused(client, "Bearer " + issuer.sign(first, f"unknown {number}"))
        assert issuer.requests <= 7
        issuer.keys = [issuer.public(second, "b")]
        time.sleep(1.1)
        assert select(client, "Bearer " + issuer.sign(second, "b")) == [{"n": 1}]
        assert "its issuer has no such key" in refused(client, f"Bearer {token}")
        assert "it is of another issuer" in refused(client, "Bearer " + issuer.sign(second, "b", iss="us"))
        assert "algorithm" in refused(client, "Bearer " + issuer.sign(first, "b"))

        # While it is down, what is known stays, also when it is old.
        issuer.is_down = True
        time.sleep(4.1)
        for _ in range(3):
            assert select(client, "Bearer " + issuer.sign(second, "b")) == [{"n": 1}]
        issuer.is_down = False

        # What it says that cannot be, is not taken.
        issuer.document |= {"jwks_uri": "http://example.com/keys"}
        time.sleep(1.1)
        assert select(client, "Bearer " + issuer.sign(second, "b")) == [{"n": 1}]
        assert "is not https" in server.log()


def test_a_key_set_at_its_own_place(server_factory, issuer):
    key = ec.generate_private_key(ec.SECP256R1())
    secret = {"kty": "oct", "kid": "s", "k": base64.urlsafe_b64encode(SECRET.encode()).decode().rstrip("=")}
    issuer.keys = [issuer.public(key, "a"), secret]
    server = jwt_server(server_factory, issuer=issuer.name, jwks_url=issuer.document["jwks_uri"], role_default="reader")
    with server.flight() as client:
        assert select(client, "Bearer " + issuer.sign(key, "a", merganser_role=None)) == [{"n": 1}]
        refused(client, "Bearer " + jwt.encode(claims(iss=issuer.name), SECRET, "HS256", headers={"kid": "s"}))
        refused(client, "Bearer " + confused(pem(key), claims(iss=issuer.name)))
        assert issuer.requests == 1


@contextmanager
def bad_start(*settings):
    command = [os.environ["MERGANSER_BIN"], "serve", "--memory", "--listen", "127.0.0.1:0"]
    done = subprocess.run([*command, *settings], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    yield done.stderr


def test_settings_that_cannot_be(tmp_path):
    for settings, message in {
        ("jwt.issuer=us",): "without `jwt.audience`",
        (f"jwt.secret={SECRET}",): "without `jwt.issuer`",
        ("jwt.issuer=us", "jwt.audience=x", "jwt.secret=SHORT-SECRET"): "less than 32 bytes",
        ("jwt.issuer=us", "jwt.audience=x"): "is no URL",
        ("jwt.issuer=http://example.com", "jwt.audience=x"): "is not https",
        ("jwt.issuer=us", "jwt.audience=x", f"jwt.public_key_file={tmp_path}/none"): "cannot read",
        ("jwt.issuer=us", "jwt.audience=x", f"jwt.secret={SECRET}", "jwt.jwks_url=https://x"): "are both set",
    }.items():
        with bad_start(*(word for setting in settings for word in ("--set", setting))) as stderr:
            assert message in stderr and "SECRET" not in stderr and SECRET not in stderr


def test_secrets_are_not_printed():
    command = [os.environ["MERGANSER_BIN"], "serve", "--print-config", "--set", "jwt.issuer=us", "--set", "jwt.audience=x"]
    environment = os.environ | {"MERGANSER_JWT_SECRET": SECRET, "MERGANSER_AUTH_PASSWORD": "SECRET-password"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and 'secret = "(set)"' in done.stdout
    assert SECRET not in done.stdout and "SECRET-password" not in done.stdout
