"""Accounts: what one tenant, workspace or project of a provider has, apart from all others.

An account has its configuration (defaults of the provider, changed by the control interface),
its contacts, and the events that reached people or automations because of what it was sent.
"""

import copy

import ratelimit
from store import ContactStore


class Account:
    def __init__(self, name, config, unique_fields):
        self.name = name
        self.config = config
        self.unique_fields = unique_fields
        self.clear()

    def clear(self):
        """Forget what was sent; the configuration stays."""
        self.contacts = ContactStore(self.unique_fields)
        self.events = []
        self.memory = {}

    def record(self, kind, time, **details):
        """Note something that a person or an automation would notice."""
        self.events.append({"seq": len(self.events) + 1, "kind": kind, "time": time, **details})

    def recall(self, name, factory=dict):
        """A piece of provider-specific state, made when it is first asked for."""
        if name not in self.memory:
            self.memory[name] = factory()
        return self.memory[name]


class Accounts:
    def __init__(self, default_name, defaults, unique_fields, credentials):
        self.default_name = default_name
        self._defaults = defaults
        self._unique_fields = unique_fields
        self._credentials = credentials     # settings that two accounts cannot share
        self._accounts = {}
        self.open(default_name)

    def __iter__(self):
        return iter(list(self._accounts.values()))

    def get(self, name):
        return self._accounts.get(name or self.default_name)

    def open(self, name):
        """The account of that name; a new one has the defaults, but no credentials."""
        if name not in self._accounts:
            config = copy.deepcopy(self._defaults)
            if name != self.default_name:
                config.update({setting: {} for setting in self._credentials})
            self._accounts[name] = Account(name, config, self._unique_fields)
        return self._accounts[name]

    def by_key(self, key):
        """(account, what the key may do) of an API key, or (None, None)."""
        for account in self._accounts.values():
            grant = account.config["keys"].get(key)
            if grant is not None:
                return account, grant
        return None, None

    def configure(self, name, changes):
        """Merge `changes` into the account's configuration; ValueError for an unknown setting."""
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
    """Objects are merged, anything else (null, a whole rate limit) replaces what was there."""
    for name, value in changes.items():
        old = target.get(name)
        if isinstance(value, dict) and isinstance(old, dict) and "kind" not in value:
            merge(old, value)
        else:
            target[name] = copy.deepcopy(value)
