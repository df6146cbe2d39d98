#!/usr/bin/python3
"""Hostile answers for contactsync_judge(), as lines for COPY.

usage: answers.py SEED NUMBER

Columns: server, status, headers, body, contacts, step, action, state. Most answers start as an answer that a provider
gives, in which some values are then changed, removed, repeated or given another type; the others are entirely random. All
contacts are valid, because other tests cover the rejection of contacts.
"""

import json
import random
import sys

SERVERS = ("mailingcore", "campaignlark", "owlat", "spotzee", "caramel")
BATCHES = ("mailingcore", "spotzee")

TEXTS = [
    "", "0", "1", "-1", "c1", "c2", "a@example.com", "ok", "failed", "SUBSCRIBED", "UNSUBSCRIBED", "COMPLAINED",
    "not_found", "already_exists", "rate_limited", "tier_required", "unauthorized", "idempotency_key_mismatch",
    "idempotency_in_progress", "409", "500", "quota", "scope", "tenant", "topic", "Tag ID", "Field 'x", "is required",
    "An import or export is currently in progress.", "We couldn't find a contact with that email address.",
    "We were unable to find a field with the merge_tag plan", "We were unable to find a field with the merge_tag",
    "contacts.1.email must be an email", "x" * 3000, "é用😀\n\t\"\\", "\u0001\u007f", "%s%n%d"]
NUMBERS = [0, 1, 2, 3, -1, 99, 409, 429, 500, -32001, -32601, -32602, 1.5, 1e308, -1e308, 1e-320, 2**63, 2**64,
           True, False, None]
NAMES = [
    "category", "code", "contact", "contacts", "content", "created", "data", "deleted", "detail", "doiStatus", "email",
    "error", "errors", "externalId", "external_id", "failed", "field", "id", "imported", "index", "inserted", "isError",
    "items", "jsonrpc", "message", "messsage", "meta", "ok", "param", "quota", "reason", "request_id", "result",
    "results", "retryAfter", "skipped", "status", "statusCode", "structuredContent", "succeeded", "success", "summary",
    "text", "title", "updated", "user", "users"]
ANSWERS = [
    {"created": 2, "updated": 1, "failed": 0},
    {"created": 1, "failed": 2, "errors": [{"index": 1, "message": "x", "code": "E"},
                                           {"externalId": "c1", "error": {"code": "409", "message": "m"}}]},
    {"results": [{"index": 0, "external_id": "c1", "user": {"id": 1}},
                 {"index": 1, "external_id": "c2", "error": {"code": "internal_error", "message": "m"}},
                 {"index": 2, "email": "c@example.com", "status": "failed"}], "succeeded": 1, "failed": 2},
    {"statusCode": 400, "message": ["contacts.1.email must be an email"], "error": "Bad Request"},
    {"data": {"id": "1", "status": "SUBSCRIBED", "tags": [{"id": 1}], "data": {"email_address": "a"}}, "error": None},
    {"error": {"message": "We were unable to find a field with the merge_tag plan"}},
    {"error": {"category": "not_found", "message": "Contact not found", "data": {"retryAfter": 3}}},
    {"jsonrpc": "2.0", "id": 1, "result": {"id": "con_1", "email": "a@example.com"}},
    {"jsonrpc": "2.0", "id": 1, "result": {"content": [{"type": "text", "text": '{"error": "tier_required"}'}],
                                           "isError": True}},
    {"jsonrpc": "2.0", "id": 1, "error": {"code": -32001, "message": "expired"}},
    {"status": "error", "code": "validation_failed", "message": "m", "param": "email",
     "errors": [{"param": "email", "code": "x", "message": "y"}], "request_id": "r"}]
STATUSES = ([200] * 10 + [201, 202, 204, 207, 400, 404, 409, 429] * 2
            + [0, -5, 100, 301, 401, 402, 403, 405, 407, 408, 413, 415, 418, 422, 425, 431, 500, 503, 599, 999])
HEADERS = ["Retry-After", "X-RateLimit-Reset", "Date", "Content-Type", "Location", "X-Request-Id", ""]
HEADER_VALUES = [
    "", "0", "-1", "5", "1e400", "nan", "784111800", "9" * 23, "text/html", ", ,", "%s", "é", "x" * 5000,
    "Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994",
    "Sun, 99 Zzz 99999999999 99:99:99", "Mon, 1"]


class Fuzz:
    def __init__(self, seed):
        self.random = random.Random(seed)
        self.rate = 0.0

    def chance(self, probability):
        return self.random.random() < probability

    def value(self, depth=0):
        """Return any JSON value."""
        pick = self.random.choice
        kind = self.random.random()
        if depth > 4 or kind < 0.25:
            return pick(TEXTS)
        if kind < 0.4:
            return pick(NUMBERS)
        if kind < 0.7:
            return {pick(NAMES): self.value(depth + 1) for _ in range(self.random.randint(0, 6))}
        if kind < 0.95:
            return [self.value(depth + 1) for _ in range(pick([0, 1, 2, 3, 3, 3, 7, 30]))]
        value = self.value(depth + 1)
        for _ in range(pick([1, 5, 40])):
            value = {pick(NAMES): value} if self.chance(0.5) else [value]
        return value

    def mutate(self, value):
        if self.chance(self.rate):
            return self.value()
        if isinstance(value, dict):
            return self.mutate_object(value)
        if isinstance(value, list):
            items = [self.mutate(item) for item in value]
            return items * self.random.choice([0, 2, 50]) if self.chance(self.rate) else items
        return value

    def mutate_object(self, value):
        result = {}
        for name, member in value.items():
            if not self.chance(self.rate / 2):
                name = self.random.choice(NAMES) if self.chance(self.rate / 2) else name
                result[name] = self.mutate(member)
        if self.chance(self.rate):
            result[self.random.choice(NAMES)] = self.value()
        return result

    def body(self):
        """Return the text of an answer, which may no longer be JSON."""
        self.rate = self.random.choice([0, 0.01, 0.03, 0.1])
        document = self.value() if self.chance(0.2) else self.mutate(self.random.choice(ANSWERS))
        return self.damage(json.dumps(document, ensure_ascii=self.chance(0.5)))

    def damage(self, text):
        kind = self.random.random()
        if kind < 0.06:
            return text[:self.random.randint(0, len(text))]
        if kind < 0.12:
            letters = list(text)
            for _ in range(self.random.randint(1, 5)):
                letters[self.random.randrange(len(letters))] = self.random.choice('{}[]",:0\\ue<\n')
            return "".join(letters)
        return self.random.choice([
            "<html><title>" + text, f"data: {text}\n\ndata: {text}", text + text,
            "[" * self.random.choice([31, 32, 33, 5000]) + text,
            "[" + ",".join(["{}"] * self.random.choice([32767, 32768, 40000])) + "]",
            '"' + "\\\\" * 1000 + 'u0000"']) if kind < 0.16 else text

    def contact(self, server, number):
        pick = self.random.choice
        contact = {"email": pick(["a@example.com", "b@example.com", f"A{number}@Example.com"])}
        if server not in ("owlat", "caramel"):
            contact["external_id"] = f"c{number + 1}"
            if self.chance(0.6):
                contact["attributes"] = {pick(["plan", "a", "b", "firstName"]): pick([1, None, "x", [1], {}])
                                         for _ in range(self.random.randint(0, 25))}
        if server == "campaignlark" or self.chance(0.4):
            contact["opt_in"] = self.chance(0.5)
        if self.chance(0.5):
            contact["first_name"] = pick(["Ann", "", None, "x'\"\\"])
        return contact

    def action(self, server):
        actions = {"mailingcore": ["unsubscribe", "delete"], "campaignlark": ["unsubscribe"],
                   "owlat": ["unsubscribe", "delete"], "spotzee": ["delete"], "caramel": []}
        return self.random.choice(["upsert"] * 6 + actions[server])

    def state(self):
        state = {name: True for name in ("opted_out", "claimed", "known", "direct") if self.chance(0.25)}
        for name, values in (("claim", ["yes", "if_new", "no"]), ("previous_key", ["old@example.com", "a@example.com"]), ("remote_id", ["r1"]),
                             ("limitation", ["tier_required", "users", "", "x"]), ("topics", ["top", "a b", " "])):
            if self.chance(0.2):
                state[name] = self.random.choice(values)
        return state

    def case(self):
        pick = self.random.choice
        server = pick(SERVERS)
        action = self.action(server)
        step = pick([0] * 6 + [1, 2, 3, 4, 5, 99, -1, 2**31 - 1, -2**31, self.random.randint(0, 2**30)])
        batch = server in BATCHES and action != "delete" and not (server == "mailingcore" and step == 1)
        contacts = [self.contact(server, number) for number in range(pick([1, 2, 3, 3]) if batch else 1)]
        headers = {pick(HEADERS): pick(HEADER_VALUES) for _ in range(self.random.randint(0, 4))}
        return (server, pick(STATUSES), json.dumps(headers), self.body(), json.dumps(contacts), step, action,
                json.dumps(self.state()))


def escape(value):
    text = str(value).replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
    return text.replace("\0", "")


def main():
    fuzz = Fuzz(int(sys.argv[1]))
    for _ in range(int(sys.argv[2])):
        print("\t".join(map(escape, fuzz.case())))


if __name__ == "__main__":
    main()
