"""Accounts: the data of one tenant, workspace or project of a provider, separate from all others.

An account has a configuration (defaults of the provider, changed through the control interface),
contacts, people, and the events that reached people or automations as a result of its requests.
"""

import copy

import ratelimit
from people import People
from store import ContactStore


class Account:
    def __init__(self, name, config, unique_fields, shared_fields):
        self.name = name
        self.config = config
        self.unique_fields = unique_fields
        self.shared_fields = shared_fields
        self.clear()

    def clear(self):
        """Forget everything that was sent, but keep the configuration."""
        self.contacts = ContactStore(self.unique_fields, self.shared_fields)
        self.people = People()
        self.events = []
        self.memory = {}

    def record(self, kind, time, **details):
        """Record something that a person or an automation would notice."""
        self.events.append({"seq": len(self.events) + 1, "kind": kind, "time": time, **details})

    def recall(self, name, factory=dict):
        """Return a piece of provider-specific state, which is created on first use."""
        if name not in self.memory:
            self.memory[name] = factory()
        return self.memory[name]


class Accounts:
    def __init__(self, default_name, defaults, unique_fields, shared_fields, credentials):
        self.default_name = default_name
        self._defaults = defaults
        self._fields = unique_fields, shared_fields
        self._credentials = credentials     # settings that must be unique among accounts
        self._accounts = {}
        self.open(default_name)

    def __iter__(self):
        return iter(list(self._accounts.values()))

    def get(self, name):
        return self._accounts.get(name or self.default_name)

    def open(self, name):
        """Return the account of that name; a new account has the defaults, but no credentials."""
        if name not in self._accounts:
            config = copy.deepcopy(self._defaults)
            if name != self.default_name:
                config.update({setting: {} for setting in self._credentials})
            self._accounts[name] = Account(name, config, *self._fields)
        return self._accounts[name]

    def by_key(self, key):
        """Return (account, privileges of the key) for an API key, or (None, None)."""
        for account in self._accounts.values():
            grant = account.config["keys"].get(key)
            if grant is not None:
                return account, grant
        return None, None

    def configure(self, name, changes):
        """Merge `changes` into the configuration; raise ValueError for an unknown setting."""
        unknown = sorted(set(changes) - set(self._defaults))
        if unknown:
            known = ", ".join(sorted(self._defaults))
            raise ValueError(f"unknown setting {', '.join(unknown)}; valid settings are {known}")
        account = self.open(name or self.default_name)
        config = copy.deepcopy(account.config)
        merge(config, changes)
        for limit in config["limits"].values():
            if limit is not None:
                ratelimit.make(limit)
        account.config = config
        return account


def merge(target, changes):
    """Merge objects; any other value (null, a whole rate limit) replaces the old one."""
    for name, value in changes.items():
        old = target.get(name)
        if isinstance(value, dict) and isinstance(old, dict) and "kind" not in value:
            merge(old, value)
        else:
            target[name] = copy.deepcopy(value)
