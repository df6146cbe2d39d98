"""The control interface, through which tests configure and inspect the sandbox.

It uses JSON under /control, without authentication; README.md lists the calls.
"""

from urllib.parse import parse_qsl

from exchange import Answer, parse_json


class ControlError(Exception):
    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


class Control:
    def __init__(self, sandbox):
        self._sandbox = sandbox

    def answer(self, method, path, query, body):
        """Answer /control{path}: each call is a method named verb_noun, e.g. get_journal."""
        try:
            options = dict(parse_qsl(query))
            document = parse_json(body) if body else {}
            *provider, noun = path.strip("/").split("/")
            return Answer(200, self._call(provider, f"{method.lower()}_{noun}")(
                *self._find(provider), options, document))
        except ControlError as error:
            return Answer(error.status, {"error": str(error)})
        except (ValueError, KeyError, TypeError) as error:
            return Answer(400, {"error": f"{type(error).__name__}: {error}"})

    def _call(self, provider, name):
        call = getattr(ProviderCalls if provider else self, name, None)
        if call is None:
            raise ControlError(404, f"no such control call: {name}")
        return call

    def _find(self, name):
        if not name:
            return []
        if len(name) > 1 or name[0] not in self._sandbox.providers:
            raise ControlError(404, f"no provider {'/'.join(name)}")
        return [self._sandbox.providers[name[0]]]

    def post_reset(self, options, document):
        self._sandbox.reset()
        return {"reset": True}

    def get_clock(self, options, document):
        return {"now": self._sandbox.clock.now(), "speed": self._sandbox.clock.speed}

    def post_clock(self, options, document):
        self._sandbox.clock.advance(document["advance"])
        return self.get_clock(options, document)

    def post_certificate(self, options, document):
        if self._sandbox.certificates is None:
            raise ControlError(404, "it serves http")
        self._sandbox.certificates.serve(**document)
        return document


class ProviderCalls:
    """The calls for one provider; each takes (provider, query options, JSON document)."""

    @staticmethod
    def get_contacts(provider, options, document):
        return list(find_account(provider, options).contacts)

    @staticmethod
    def post_contacts(provider, options, document):
        account = find_account(provider, document)
        return [provider.edit_contact(account, fields) for fields in document["contacts"]]

    @staticmethod
    def delete_contacts(provider, options, document):
        account = find_account(provider, options)
        contact = provider.find_contact(account, options)
        if contact is not None:
            provider.drop_contact(account, contact)
        return {"removed": contact is not None}

    @staticmethod
    def get_mailable(provider, options, document):
        """Who could be mailed now, by whose word, and what led there."""
        return find_account(provider, options).people.report(options.get("email"), int(options.get("since", 0)))

    @staticmethod
    def post_people(provider, options, document):
        """What a person does: {"email", "act", ...}."""
        account = find_account(provider, document)
        document.pop("account", None)
        email, act = document.pop("email"), document.pop("act")
        return provider.act(account, email, act, document)

    @staticmethod
    def get_events(provider, options, document):
        return find_account(provider, options).events

    @staticmethod
    def get_journal(provider, options, document):
        return provider.journal.entries(int(options.get("since", 0)), options.get("account"))

    @staticmethod
    def get_count(provider, options, document):
        name = options.get("account")
        accounts = [find_account(provider, options)] if name else provider.accounts
        contacts = sum(len(account.contacts) for account in accounts)
        return {**provider.journal.counts(name), "contacts": contacts, "last": provider.journal.last()}

    @staticmethod
    def get_fault(provider, options, document):
        return provider.faults.report()

    @staticmethod
    def post_fault(provider, options, document):
        return provider.faults.add(document)

    @staticmethod
    def delete_fault(provider, options, document):
        provider.faults.clear(options.get("account"))
        return provider.faults.report()

    @staticmethod
    def get_config(provider, options, document):
        return find_account(provider, options).config

    @staticmethod
    def post_config(provider, options, document):
        name = document.pop("account", None)
        return provider.accounts.configure(name, document).config

    @staticmethod
    def post_reset(provider, options, document):
        account = find_account(provider, document)
        account.clear()
        provider.limits.forget(account.name)
        return {"reset": account.name}


def find_account(provider, options):
    account = provider.accounts.get(options.get("account"))
    if account is None:
        raise ControlError(404, f"no account {options['account']} at {provider.name}")
    return account
