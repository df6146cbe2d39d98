"""Strict validation of JSON objects by a table of fields.

The rules are shared; each provider decides on the message and the status of a violation.
"""

import re
from dataclasses import dataclass
from typing import Any, Callable, NamedTuple, Optional

TYPES = {
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "number": lambda value: isinstance(value, (int, float)) and not isinstance(value, bool),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
}

EMAIL = re.compile(
    r"""(?!\.)[^\s@<>()\[\]\\,;:"\x00-\x1f]{1,64}(?<!\.)@"""
    r"(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.)+[^\W\d_][\w-]*[^\W_]")


@dataclass(frozen=True)
class Field:
    kind: str
    required: bool = False
    nullable: bool = False
    shortest: int = 0
    longest: Optional[int] = None
    choices: Optional[tuple] = None
    check: Optional[Callable] = None
    what: str = ""       # what `check` accepts, for messages: "an email"


class Problem(NamedTuple):
    path: str            # contacts.0.email
    rule: str            # unknown, missing, null, type, short, long, choice, format
    field: Any           # the Field, or None for an unknown name

    @property
    def parent(self):
        return self.path.rpartition(".")[0]

    @property
    def name(self):
        return self.path.rpartition(".")[2]


def is_email(text):
    return len(text) <= 254 and ".." not in text and EMAIL.fullmatch(text) is not None


def find_problems(schema, value, path=""):
    """Return all Problems of an object; `path` is its position in the request."""
    prefix = path + "." if path else ""
    found = [Problem(prefix + name, "unknown", None) for name in value if name not in schema]
    for name, field in schema.items():
        rule = broken_rule(field, value, name)
        if rule:
            found.append(Problem(prefix + name, rule, field))
    return found


def broken_rule(field, value, name):
    """Return the rule of `field` that value[name] violates, or None."""
    if name not in value:
        return "missing" if field.required else None
    item = value[name]
    if item is None:
        return None if field.nullable else "null"
    if not TYPES[field.kind](item):
        return "type"
    if field.kind in ("string", "array"):
        if len(item) < field.shortest:
            return "short"
        if field.longest is not None and len(item) > field.longest:
            return "long"
    if field.choices is not None and item not in field.choices:
        return "choice"
    if field.check is not None and not field.check(item):
        return "format"
    return None


def describe(problem):
    """Return a plain message for providers whose documentation does not give one."""
    field = problem.field
    return {
        "unknown": lambda: f"{problem.path} is not a known field",
        "missing": lambda: f"{problem.path} is required",
        "null": lambda: f"{problem.path} must not be null",
        "type": lambda: f"{problem.path} must be of type {field.kind}",
        "short": lambda: f"{problem.path} must have a length of at least {field.shortest}",
        "long": lambda: f"{problem.path} must have a length of at most {field.longest}",
        "choice": lambda: f"{problem.path} must be one of {', '.join(map(str, field.choices))}",
        "format": lambda: f"{problem.path} must be {field.what}",
    }[problem.rule]()
