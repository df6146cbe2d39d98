"""Track for each person of an account who could be mailed, and by whose word.

A person is an address. After every change the provider states which mail can reach an address (its reach, a set of names
such as "campaigns" or "topic x"). This file keeps the history: what requests claimed or withdrew, what the person did, and
which requests made an address reachable again that had refused. The last is a re-subscription, however it came about.
"""

EVERYTHING = "*"                                    # refused by a person who leaves altogether
UNASKED = "campaigns that do not ask"               # reach without any consent
WORDS = {"opted_in": "person", "confirmed": "person", "claimed": "claim"}


class Person:
    def __init__(self, email):
        self.email = email
        self.events = []
        self.reach = frozenset()
        self.refused = set()        # by the person
        self.withdrawn = set()      # by a request
        self.by = "never"           # whose word led to the present reach
        self.request = None         # the request that carried that word

    def mailable(self):
        return bool(self.reach - {UNASKED})

    def report(self, since=0):
        events = self.events if since == 0 else [event for event in self.events if event["seq"] > since]
        return {"email": self.email, "mailable": self.mailable(), "by": self.by, "request": self.request,
                "reach": sorted(self.reach), "refused": sorted(self.refused), "events": events}


class People:
    """The people of one account."""

    def __init__(self):
        self._people = {}
        self._seq = 0

    def report(self, email=None, since=0):
        """Report everybody, or one person, with the events after number `since`."""
        found = self._people.values() if email is None else filter(None, [self._people.get(email)])
        return [person.report(since) for person in found]

    def note(self, email, kind, moment, by, **details):
        """Add an event. moment: {"time", "journal"}; by: "request", "person" or "dashboard"."""
        person = self._people.setdefault(email, Person(email))
        self._seq += 1
        event = {"seq": self._seq, **moment, "kind": kind, "by": by, **details}
        person.events.append(event)
        return person

    def felt(self, email, kind, moment, by, reach, **details):
        """Add an event and the reach that follows from it.

        Return "person" or "withdrawal" if that re-subscribes over the word of either, else None.
        """
        person = self.note(email, kind, moment, by, **details)
        gained, lost = reach - person.reach, person.reach - reach
        person.reach = frozenset(reach)
        person.events[-1].update({"gained": sorted(gained), "lost": sorted(lost)})
        if by == "request":
            return self._felt_request(person, kind, moment, gained, lost)
        self._felt_person(person, kind, gained, lost)
        return None

    def _felt_request(self, person, kind, moment, gained, lost):
        over = None
        if kind == "withdrawn":
            person.withdrawn |= lost or {EVERYTHING}
        if gained & person.refused or EVERYTHING in person.refused and gained - {UNASKED}:
            over = "person"
        elif gained & person.withdrawn or EVERYTHING in person.withdrawn and gained - {UNASKED}:
            over = "withdrawal"
        if over:
            person.withdrawn -= gained | {EVERYTHING}
            self.note(person.email, "resubscribed", moment, "request", over=over, reach=sorted(gained))
        if kind == "claimed" and (gained or person.by != "person"):
            self._due(person, "claim", moment)
        elif gained - {UNASKED}:
            self._due(person, "default", moment)
        elif lost:
            self._due(person, "removal" if kind == "removed" else "withdrawal", moment)
        return over

    @staticmethod
    def _felt_person(person, kind, gained, lost):
        if kind in ("opted_out", "complained"):
            person.refused |= lost or {EVERYTHING}
            if not person.mailable():
                person.refused.add(EVERYTHING)
        elif kind in ("opted_in", "confirmed") or gained:
            person.refused -= person.reach | {EVERYTHING}
            person.withdrawn -= person.reach | {EVERYTHING}
        elif lost:
            person.refused |= lost | (set() if person.mailable() else {EVERYTHING})
        if gained or lost or kind in WORDS or kind in ("opted_out", "complained"):
            person.by, person.request = "person", None

    @staticmethod
    def _due(person, by, moment):
        person.by, person.request = by, moment["journal"]
