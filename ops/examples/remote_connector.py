#!/usr/bin/env python3
"""A complete remote connector for Lethe: the contacts of an SQLite file, called by signed HTTP. Standard library only.

    remote_connector.py --system crm --database contacts.db --secret-file crm.secret [--listen 127.0.0.1:7390]
        [--later [--callback http://127.0.0.1:7380/v1/callbacks/crm]]

What each call must do stands in connectors/kit/CONTRACT.md, the messages in schemas/json/asyncapi.json.
Replace what is below "the system" by your own, and keep the rest.
"""

import argparse
import base64
import hashlib
import hmac
import json
import re
import sqlite3
import sys
import threading
import time
import urllib.request
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

VERSION = 1
REVISION = "1"  # another one whenever MANIFEST changes
TOLERANCE_S = 300
BODY_BYTES_MAX = 8 << 20
REMEMBER_DAYS = 30  # longer than an instruction can be on its way
PAGE_CONTACTS = 200
CALLS = ("manifest", "check", "feed", "locate", "perform", "poll", "observe", "export")

MANIFEST = {
    "datasets": [{
        "name": "contacts",
        "unit": "a contact",
        "verbs": ["locate", "observe", "export", "erase", "restrict", "lift"],
        "categories": ["name", "email_address", "telephone_number"],
        "purpose": "customer_support",
        "basis": "6-1-f",
        "proves_identity": True,
    }],
    "shards": ["contacts"],
    "locates_by": ["email", "phone"],
    "detects_repeats": True,
    "independence": "separate_connection",
    "concurrency_max": 4,
    "backup_days": 30,
}


class Failed(Exception):
    """A call that failed: whether it happened (retryable, final: no; unknown: nobody knows), and why."""

    def __init__(self, kind, code):
        super().__init__(code)
        self.kind, self.code = kind, code


# ------------------------------------------------------------------------------------------------ the system

SCHEMA = """
    create table if not exists contacts
        (id text primary key, name text, email text, phone text, note text, restricted text);
    -- What the company works with: nothing that is restricted.
    create view if not exists contacts_in_use as select * from contacts where restricted is null;

    -- The newest change of each contact, in an order that only rises: what the feed reads.
    create table if not exists lethe_changes
        (seq integer primary key autoincrement, contact text unique, at integer default (strftime('%s', 'now')));
    create trigger if not exists lethe_inserted after insert on contacts
        begin insert or replace into lethe_changes (contact) values (new.id); end;
    create trigger if not exists lethe_updated after update on contacts
        begin insert or replace into lethe_changes (contact) values (new.id); end;
    create trigger if not exists lethe_removed after delete on contacts
        begin insert or replace into lethe_changes (contact) values (old.id); end;
    insert into lethe_changes (contact) select id from contacts where id not in (select contact from lethe_changes);

    -- What makes a repeat harmless: receipts by instruction, and the newest instruction of each contact.
    create table if not exists lethe_receipts
        (instruction text primary key, receipt text, at integer default (strftime('%s', 'now')));
    create table if not exists lethe_generations
        (contact text primary key, plan integer, step integer, at integer default (strftime('%s', 'now')));
    -- With --later: what was accepted and is not done yet.
    create table if not exists lethe_waiting (number integer primary key, instruction text unique, asked text);
"""

# What is remembered ends: longer than this no instruction is on its way.
EXPIRE = f"""
    delete from lethe_receipts where at < strftime('%s', 'now') - {REMEMBER_DAYS * 86400};
    delete from lethe_generations where at < strftime('%s', 'now') - {REMEMBER_DAYS * 86400};
    delete from lethe_changes where at < strftime('%s', 'now') - {REMEMBER_DAYS * 86400}
        and contact not in (select id from contacts);
"""

# A mark that somebody else set is not Lethe's to take off.
WORK = {
    "erase": ("erased", "delete from contacts where id = ?"),
    "restrict": ("restricted", "update contacts set restricted = 'lethe' where id = ? and restricted is null"),
    "lift": ("lifted", "update contacts set restricted = null where id = ? and restricted = 'lethe'"),
}

NEWER = "select 1 from lethe_generations where contact in (select value from json_each(?)) and (plan, step) > (?, ?)"

SEEN = """
    select id, restricted from contacts where id in (select value from json_each(:keys))
        or plain('email', email) in (select value from json_each(:values))
        or plain('phone', phone) in (select value from json_each(:values))
"""


def plain(kind, value):
    """An identifier as Lethe normalises it."""
    return re.sub(r"[^+0-9]", "", value or "") if kind == "phone" else (value or "").strip().lower()


def connect(database, for_looking=False):
    uri = f"{Path(database).absolute().as_uri()}?mode={'ro' if for_looking else 'rw'}"
    connection = sqlite3.connect(uri, uri=True, timeout=5, isolation_level=None)
    connection.row_factory = sqlite3.Row
    connection.create_function("plain", 2, plain, deterministic=True)
    connection.execute("pragma secure_delete = on")
    return connection


def observation(row, contact):
    if row is None:
        return {"dataset": "contacts", "key": contact, "gone": True}
    held = [{"kind": kind, "value": row[kind]} for kind in ("email", "phone") if row[kind]]
    return {"dataset": "contacts", "key": contact, "identifiers": held}


def contact(connection, key):
    return connection.execute("select * from contacts where id = ?", [key]).fetchone()


def page_of(asked):
    try:
        return int(asked.get("page", "0"))
    except ValueError:
        raise Failed("final", "page-malformed") from None


def found(connection, selector, skip):
    """Contacts that one of the person's identifiers finds."""
    wanted = [(i["kind"], i["value"]) for i in selector["identifiers"] if i["kind"] in MANIFEST["locates_by"]]
    if not wanted:
        return [], None
    matches = " or ".join(f"plain('{kind}', {kind}) = ?" for kind, _ in wanted)
    rows = connection.execute(f"select * from contacts where {matches} order by id limit ? offset ?",
                              [*(plain(*one) for one in wanted), PAGE_CONTACTS, skip]).fetchall()
    return rows, str(skip + PAGE_CONTACTS) if len(rows) == PAGE_CONTACTS else None


class Contacts:
    """The calls: each takes what is asked and returns the answer."""

    def __init__(self, database, later=False, call_back=None):
        self.database, self.later, self.call_back, self.work = database, later, call_back, threading.Event()
        with closing(sqlite3.connect(database)) as connection:
            connection.executescript(SCHEMA)
        if later:
            self.work.set()
            threading.Thread(target=self.carry_out_waiting, daemon=True).start()

    def manifest(self, asked):
        return {"manifest": MANIFEST}

    def check(self, asked):
        """Imitates real work for nobody: reads, and takes the right to write without writing."""
        try:
            with closing(connect(self.database)) as connection:
                connection.execute("begin immediate")
                contact(connection, "")
            with closing(connect(self.database, for_looking=True)) as connection:
                contact(connection, "")
            ok, detail = True, "can be read and written"
        except sqlite3.OperationalError:
            ok, detail = False, "cannot be written: expected a file, and a folder, that this program may write"
        return {"checked": {"findings": [{"what": "table contacts", "ok": ok, "detail": detail}]}}

    def feed(self, asked):
        try:
            cursor = int(asked.get("cursor", "0"))
        except ValueError:
            raise Failed("final", "cursor-malformed") from None
        with closing(connect(self.database)) as connection:
            connection.execute("begin")
            changes = connection.execute("select seq, contact from lethe_changes where seq > ? order by seq limit ?",
                                         [cursor, max(1, asked["limit"])]).fetchall()
            seen = [observation(contact(connection, change["contact"]), change["contact"]) for change in changes]
            cursor = changes[-1]["seq"] if changes else cursor
            left, total = connection.execute("select count(*) filter (where seq > ?), count(*) from lethe_changes",
                                             [cursor]).fetchone()
        progress = {"done": total - left, "total": total}
        return {"page": {"observations": seen, "cursor": str(cursor), "more": left > 0, "progress": progress}}

    def locate(self, asked):
        with closing(connect(self.database)) as connection:
            rows, following = found(connection, asked["selector"], page_of(asked))
        return {"located": {"observations": [observation(row, row["id"]) for row in rows], "next": following}}

    def export(self, asked):
        with closing(connect(self.database)) as connection:
            rows, following = found(connection, asked["selector"], page_of(asked))
        return {"exported": {"values": [dict(row) for row in rows], "next": following}}

    def perform(self, asked):
        """Answer, work, receipt and generations in one transaction: none of them is there without the others."""
        with closing(connect(self.database)) as connection:
            connection.execute("begin immediate")
            answer = self.answered(connection, asked["instruction"]) or self.refused(connection, asked)
            if answer is None:
                self.note_generation(connection, asked)
                answer = self.put_off(connection, asked) if self.later else self.act(connection, asked)
            connection.execute("commit")
        self.work.set()
        return answer

    def poll(self, asked):
        with closing(connect(self.database)) as connection:
            connection.execute("begin")  # one look: done, or waiting
            answer = self.answered(connection, asked["ticket"])
            waits = connection.execute("select 1 from lethe_waiting where instruction = ?", [asked["ticket"]])
            waits = waits.fetchone()
        if asked["ticket"] != asked["instruction"] or answer is None and waits is None:
            raise Failed("unknown", "unknown-ticket")
        return answer or self.accepted(asked["ticket"])

    def observe(self, asked):
        """Looks for records and identifiers by another statement on a connection that cannot write."""
        keys, identifiers = asked["selector"]["records"], asked["selector"]["identifiers"]
        values = [plain(i["kind"], i["value"]) for i in identifiers if i["kind"] in MANIFEST["locates_by"]]
        with closing(connect(self.database, for_looking=True)) as connection:
            rows = connection.execute(SEEN, {"keys": json.dumps(keys), "values": json.dumps(values)}).fetchall()
        seen = "absent" if not rows else "restricted" if all(row["restricted"] for row in rows) else "present"
        there = {row["id"] for row in rows}
        return {"observed": {"observed": seen, "records": len(rows), "independence": "separate_connection",
                             "gone": [key for key in keys if key and key not in there]}}

    def accepted(self, instruction):
        return {"accepted": {"instruction": instruction, "ticket": instruction, "ask_after_ms": 600_000 if self.call_back else 200}}

    @staticmethod
    def answered(connection, instruction):
        """The same instruction again gets the same receipt."""
        row = connection.execute("select receipt from lethe_receipts where instruction = ?", [instruction]).fetchone()
        return row and json.loads(row["receipt"])

    @staticmethod
    def refused(connection, asked):
        """An instruction that is older than one that was seen for one of its records is refused whole."""
        if asked["dataset"] != "contacts" or asked["verb"] not in WORK:
            return {"refused": {"instruction": asked["instruction"], "code": "verb-not-supported"}}
        records, generation = json.dumps(asked["selector"]["records"]), asked["generation"]
        newer = connection.execute(NEWER, [records, generation["plan"], generation["step"]])
        stale = {"refused": {"instruction": asked["instruction"], "code": "stale-generation"}}
        return stale if newer.fetchone() else None

    @staticmethod
    def held(connection, asked):
        return [key for key in dict.fromkeys(asked["selector"]["records"]) if contact(connection, key)]

    def note_generation(self, connection, asked):
        """Once it is accepted, so that an older instruction is refused also while this one waits."""
        generation = asked["generation"]
        noted = [[key, generation["plan"], generation["step"]] for key in self.held(connection, asked)]
        connection.executemany("insert or replace into lethe_generations (contact, plan, step) values (?, ?, ?)", noted)

    def put_off(self, connection, asked):
        connection.execute("insert or ignore into lethe_waiting (instruction, asked) values (?, ?)",
                           [asked["instruction"], json.dumps(asked)])
        return self.accepted(asked["instruction"])

    def act(self, connection, asked):
        keys, (outcome, statement) = self.held(connection, asked), WORK[asked["verb"]]
        connection.executemany(statement, [[key] for key in keys])
        answer = {"done": {"instruction": asked["instruction"], "outcome": outcome if keys else "not_found",
                           "records": len(keys), "details": {"contacts": len(keys)}}}
        connection.execute("insert into lethe_receipts (instruction, receipt) values (?, ?)",
                           [asked["instruction"], json.dumps(answer)])
        connection.execute("delete from lethe_waiting where instruction = ?", [asked["instruction"]])
        for statement in EXPIRE.strip().removesuffix(";").split(";"):
            connection.execute(statement)
        return answer

    def carry_out_waiting(self):
        """With --later: what was accepted is on file, so it is carried out also after a restart."""
        while self.work.wait():
            self.work.clear()
            try:
                with closing(connect(self.database)) as connection:
                    self.carry_out(connection)
            except sqlite3.OperationalError:
                time.sleep(1)
                self.work.set()

    def carry_out(self, connection):
        for row in connection.execute("select asked from lethe_waiting order by number").fetchall():
            asked = json.loads(row["asked"])
            connection.execute("begin immediate")
            self.act(connection, asked)
            connection.execute("commit")
            if self.call_back:
                threading.Thread(target=self.call_back, args=[asked["instruction"]], daemon=True).start()


# ---------------------------------------------------------------------------------------------- Standard Webhooks 1.0.0


class Keys:
    def __init__(self, path):
        lines = [line.strip() for line in Path(path).read_text().splitlines()]
        self.secrets = [base64.b64decode(line.removeprefix("whsec_")) for line in lines if line.startswith("whsec_")]
        if not self.secrets:
            sys.exit("secret file: expected a line that begins with whsec_")

    def signatures(self, identity, timestamp, body):
        content = f"{identity}.{timestamp}.".encode() + body
        digests = [hmac.digest(secret, content, hashlib.sha256) for secret in self.secrets]
        return ["v1," + base64.b64encode(digest).decode() for digest in digests]

    def verify(self, headers, body):
        identity, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
        given = [one.encode("utf-8", "replace") for one in headers.get("webhook-signature", "").split(" ")]
        ours = [one.encode() for one in self.signatures(identity, timestamp, body)]
        is_signed = any([hmac.compare_digest(one, other) for one in ours for other in given])
        is_fresh = timestamp.isdecimal() and abs(time.time() - int(timestamp)) <= TOLERANCE_S
        return identity if is_signed and is_fresh else None

    def headers(self, identity, body):
        timestamp = str(int(time.time()))
        return {"content-type": "application/json", "webhook-id": identity, "webhook-timestamp": timestamp,
                "webhook-signature": " ".join(self.signatures(identity, timestamp, body))}


def caller(keys, url):
    """Says that an instruction is done; Lethe then asks. Where no callback arrives, it asks all the same, later."""
    def call_back(instruction):
        for wait_s in (0.2, 1, 5, 30, 120):
            time.sleep(wait_s)
            request = urllib.request.Request(f"{url}/{instruction}", b"{}", keys.headers(instruction, b"{}"))
            try:
                with urllib.request.urlopen(request, timeout=10) as answer:
                    if json.load(answer)["asks"]:
                        return
            except OSError:
                pass  # not there, or it does not know of the ticket yet
    return call_back


# ------------------------------------------------------------------------------------------------ messages


class Program:
    """What this program is, whichever way it is asked."""

    def __init__(self, system, calls):
        self.system, self.calls = system, calls

    def answer(self, identity, body):
        """The answer; what goes wrong is said by its code, never by the text of an exception, which may be personal."""
        try:
            message = json.loads(body)
            (name, asked), = message["call"].items()
            if message["version"] != VERSION or message["system"] != self.system:
                raise Failed("final", "another-version-or-system")
            if name != "manifest" and message.get("manifest") != REVISION:
                raise Failed("final", "manifest-changed")
            if name == "perform" and asked["instruction"] != identity:
                raise Failed("final", "another-instruction-than-signed")
            if name not in CALLS:
                raise Failed("final", "unknown-call")
            return getattr(self.calls, name)(asked)
        except Failed as failed:
            return {"failed": {"class": failed.kind, "code": failed.code}}
        except sqlite3.OperationalError:
            return {"failed": {"class": "retryable", "code": "database-busy"}}  # rolled back with its connection
        except Exception as error:
            print(f"a call failed: {type(error).__name__}", file=sys.stderr)
            return {"failed": {"class": "unknown", "code": "program-error"}}

    def message(self, said):
        answer = {"version": VERSION, "system": self.system, "manifest": REVISION, "answer": said}
        return json.dumps(answer).encode()


# ------------------------------------------------------------------------------------------------ HTTP


class Handler(BaseHTTPRequestHandler):
    timeout = 30
    program = keys = None  # set by main

    def do_POST(self):
        length = self.headers.get("content-length", "")
        if not length.isdecimal() or int(length) > BODY_BYTES_MAX:
            return self.send_error(413)
        body = self.rfile.read(int(length))
        identity = self.keys.verify(self.headers, body)
        if identity is None:
            return self.send_error(401, "not signed by Lethe, or the clocks differ")
        said = self.program.answer(identity, body)
        text = self.program.message(said)
        self.send_response(202 if "accepted" in said else 200)
        for name, value in {"content-length": str(len(text)), **self.keys.headers(identity, text)}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        """No log about people."""


def arguments(description):
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--system", required=True, help="name of the system in Lethe's configuration")
    parser.add_argument("--database", required=True, help="SQLite file; created where it is missing")
    parser.add_argument("--secret-file", required=True, help="whsec_ and base64, as in Lethe's secret_file")
    parser.add_argument("--later", action="store_true", help="answer instructions with a ticket, do them afterwards")
    return parser


def main():
    parser = arguments(__doc__)
    parser.add_argument("--listen", default="127.0.0.1:7390", help="put TLS in front for other machines")
    parser.add_argument("--callback", help="with --later: where to say that one is done, .../v1/callbacks/SYSTEM")
    options = parser.parse_args()
    Handler.keys = Keys(options.secret_file)
    call_back = caller(Handler.keys, options.callback) if options.callback else None
    Handler.program = Program(options.system, Contacts(options.database, options.later, call_back))
    host, _, port = options.listen.rpartition(":")
    server = ThreadingHTTPServer((host, int(port)), Handler)
    print(f"listening on {host}:{server.server_address[1]}", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
