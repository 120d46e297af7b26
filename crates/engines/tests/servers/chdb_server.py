"""ClickHouse in one process (chdb-core) behind ClickHouse's HTTP interface, for tests.

    python chdb_server.py --path DIR [--config FILE] [--port N] [--user NAME] [--password TEXT]

Prints its port when it is ready and serves until its standard input ends, so that it never
outlives the test that started it. Nothing is kept here: killed at any moment and started again on
the same directory, it is what ClickHouse makes of that directory.

Each request gets a connection of its own (0.2 ms), so that settings end with the request and
requests run beside each other. What a real server does and this does not: sessions (`session_id`),
names of queries (`query_id` is sent back, but KILL QUERY does not know it), compression, results
that begin before the query ends.
"""

import argparse
import http.server
import os
import re
import sys
import threading
import urllib.parse
import uuid

from chdb import _chdb

# More requests than this wait for one another.
IN_FLIGHT_MAX = 16
CHUNK_BYTES = 1 << 20
# Where the head of a request ends at the latest, as ClickHouse's own max_query_size.
HEAD_BYTES_MAX = 1 << 18

# An INSERT whose data follow it. With quotes other than those around names, VALUES or SELECT it is
# left to the engine to find where its data begin.
INSERT_HEAD = re.compile(
    rb"\s*(?P<insert>INSERT\s+INTO\s"
    rb"(?:`[^`]*`|\"[^\"]*\"|(?!\b(?:SELECT|VALUES|WITH)\b)[^`\"';])*?)"
    rb"\bFORMAT\s+(?P<format>\w+)[ \t\r]*(?:\n|;\s*)?",
    re.IGNORECASE,
)
CODE = re.compile(r"Code: (\d+)\. ")

# Of the parameters of a request, those that are not settings.
NO_SETTINGS = {
    "query", "database", "user", "password", "default_format", "query_id", "quota_key",
    "session_check", "session_timeout", "stacktrace", "buffer_size", "wait_end_of_query",
}  # fmt: skip
UNSUPPORTED = {"session_id", "compress", "decompress", "role"}

STATUS = {
    400: {6, 26, 27, 36, 38, 41, 43, 53, 62, 69, 70, 72, 117, 130, 170, 349, 386, 457},
    401: {194},
    403: {192, 193, 516},
    404: {16, 46, 47, 50, 56, 60, 63, 73, 78, 81, 115},
    408: {159},
    501: {48},
}


class Refused(Exception):
    """An error in ClickHouse's words."""


def quoted(text):
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


class Engine:
    def __init__(self, path, config):
        # Whatever is written after the first "?" is an option of the engine, by its own spelling.
        self.address = path if config is None else f"{path}?config-file={config}"
        # The engine ends with its last connection.
        self.held = _chdb.connect(self.address)
        self.in_flight = threading.Semaphore(IN_FLIGHT_MAX)
        self.version = self.held.query("SELECT version()", "TSV").bytes().decode().strip()

    def run(self, head, rest, parameters, is_readonly):
        """The result of one request, whose text is `head`, then what `rest` yields."""
        with self.in_flight:
            connection = _chdb.connect(self.address)
            try:
                self.prepare(connection, parameters, is_readonly)
                insert = INSERT_HEAD.match(head)
                if insert:
                    return self.insert(connection, insert, head[insert.end() :], rest)
                text = head + b"".join(rest)
                # The engine runs several statements at once, a server does not.
                if connection.classify_query(text[:HEAD_BYTES_MAX])["statement_count"] > 1:
                    raise Refused(
                        "Code: 62. DB::Exception: Syntax error (Multi-statements are not allowed)"
                        ". (SYNTAX_ERROR)"
                    )
                values = {
                    name.removeprefix("param_"): value
                    for name, value in parameters.items()
                    if name.startswith("param_")
                }
                form = parameters.get("default_format", "TabSeparated")
                result = connection.query(text, form, params=values)
                if result.has_error():
                    raise Refused(result.error_message())
                return result.bytes()
            finally:
                connection.close()

    def prepare(self, connection, parameters, is_readonly):
        connection.query("SET implicit_select = 0", "TSV")
        if "database" in parameters:
            name = parameters["database"].replace("\\", "\\\\").replace("`", "\\`")
            connection.query(f"USE `{name}`", "TSV")
        settings = {
            name: value
            for name, value in parameters.items()
            if name not in NO_SETTINGS and not name.startswith("param_")
        }
        for name in sorted(settings.keys() & UNSUPPORTED):
            raise Refused(
                f"Code: 48. DB::Exception: The parameter {name} is not supported here."
                " (NOT_IMPLEMENTED)"
            )
        if is_readonly:
            settings.setdefault("readonly", "2")
        # Nothing can be set after it.
        for name in sorted(settings, key=lambda name: name == "readonly"):
            if not re.fullmatch(r"\w+", name):
                raise Refused(
                    f"Code: 115. DB::Exception: Unknown setting {quoted(name)}. (UNKNOWN_SETTING)"
                )
            connection.query(f"SET {name} = {quoted(settings[name])}", "TSV")

    def insert(self, connection, insert, first, rest):
        statement, form = insert["insert"].decode(), insert["format"].decode()
        handle = connection.send_insert(statement, form)
        done = False
        try:
            connection.insert_append(handle, first)
            for chunk in rest:
                connection.insert_append(handle, chunk)
            result = connection.insert_done(handle)
            done = True
            if result.has_error():
                raise Refused(result.error_message())
            return b""
        finally:
            if not done:
                connection.insert_cancel(handle)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    # A response leaves in one piece.
    wbufsize = -1

    def do_GET(self):
        self.respond(is_readonly=True)

    def do_POST(self):
        self.respond(is_readonly=False)

    def respond(self, is_readonly):
        address = urllib.parse.urlsplit(self.path)
        body = self.body()
        if address.path == "/ping":
            return self.send(200, b"Ok.\n")
        if address.path != "/":
            text = f"There is no handle {address.path}\n\nUse / or /ping for health checks.\n"
            return self.send(404, text.encode())
        parameters = dict(urllib.parse.parse_qsl(address.query, keep_blank_values=True))
        try:
            self.authenticate(parameters)
            head = parameters.get("query", "").encode("utf-8", "surrogateescape")
            head += b"\n" if head else b""
            while len(head) < HEAD_BYTES_MAX and (chunk := next(body, None)) is not None:
                head += chunk
            self.send(200, self.server.engine.run(head, body, parameters, is_readonly))
        except (Refused, RuntimeError) as error:
            self.send_error_of(str(error))
        except Exception as error:
            self.send_error_of(f"Code: 1001. DB::Exception: {error!r}. (STD_EXCEPTION)")
        finally:
            # What was not read would be taken for the next request.
            for _ in body:
                pass

    def authenticate(self, parameters):
        user = self.headers.get("X-ClickHouse-User") or parameters.get("user") or "default"
        password = self.headers.get("X-ClickHouse-Key") or parameters.get("password") or ""
        if (user, password) != (self.server.user, self.server.password):
            raise Refused(
                f"Code: 516. DB::Exception: {user}: Authentication failed: password is incorrect,"
                " or there is no user with such name. (AUTHENTICATION_FAILED)"
            )

    def body(self):
        """What the request carries, in chunks."""
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while size := int(self.rfile.readline().split(b";")[0], 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return
        left = int(self.headers.get("Content-Length", 0))
        while left > 0:
            chunk = self.rfile.read(min(left, CHUNK_BYTES))
            if not chunk:
                return
            left -= len(chunk)
            yield chunk

    def send_error_of(self, message):
        version = self.server.engine.version
        if "(version " not in message:
            message = f"{message.rstrip()} (version {version})"
        match = CODE.search(message)
        code = int(match[1]) if match else 1001
        status = next((status for status, codes in STATUS.items() if code in codes), 500)
        self.send(status, (message + "\n").encode(), {"X-ClickHouse-Exception-Code": str(code)})

    def send(self, status, content, headers={}):
        self.send_response(status)
        self.send_header("Content-Type", "text/tab-separated-values; charset=UTF-8")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-ClickHouse-Server-Display-Name", "mendb-test")
        self.send_header("X-ClickHouse-Timezone", "UTC")
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        self.send_header("X-ClickHouse-Query-Id", query.get("query_id", [str(uuid.uuid4())])[0])
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--path", required=True)
    arguments.add_argument("--config")
    arguments.add_argument("--port", type=int, default=0)
    arguments.add_argument("--user", default="default")
    arguments.add_argument("--password", default="")
    given = arguments.parse_args()

    server = Server(("127.0.0.1", given.port), Handler)
    server.user, server.password = given.user, given.password
    server.engine = Engine(given.path, given.config)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    sys.stdin.read()
    os._exit(0)


main()
