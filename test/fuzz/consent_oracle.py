"""The oracle of consent.py: judge by the rules of consent what reached the people of one account.

A ledger belongs to one account at a provider. It receives every committed change of a row, every act of a person at the
provider, and, from the sandbox, every request that a person could notice. For each address it keeps the words of the person
that no request has carried yet. The rules:

    A word is a live change of opt_in from not true to true; the first live row with opt_in true of an address that neither
    contactsync nor the provider knows; a newer opt_in_at; or an explicit claims => 'all'.
    A key change, a row that is inserted again, a new watch and an import are no words.
    A consent is claimed once for each word, whatever happens to rows, keys, watches and servers in between.
    NULL says nothing: true, NULL, true is no change.

Changes between two quiet points may be read together or one by one, and a call may be repeated. Therefore a word stays valid
until the first quiet point after a request has carried it, and a word must reach the provider only if the state that it
changes was present at a quiet point.

Verdicts that fail a run:

    resubscribed    a request made a person reachable again who had left, without a later word
    claimed         a request claimed consent without a word
    removed         a request removed or unsubscribed a person who had a row all the time
    left            a contact without a row is still there, or can still be mailed, contrary to on_delete
    stale           the provider has other values, or another consent, than the row that changed last
    stuck           the account does not come to rest; the history continues without it

Verdicts that are counted and shown:

    window          a request carried a word from before the opt-out, and nothing had told us of the opt-out yet
    contested       the rules do not decide whether there was a word
"""

import collections
import copy
import dataclasses
import json
import time

CRASH_LOSES = 3     # seconds
FAILING = ("resubscribed", "claimed", "removed", "left", "stale", "stuck")
SHOWN = ("window", "contested")
UNASKED = "campaigns that do not ask"


@dataclasses.dataclass(frozen=True)
class Row:
    """A committed row. The uid stays the same when the key changes."""
    table: str
    uid: int
    key: tuple
    ext: str
    mc_ext: str
    email: str
    opt: bool
    opt_at: object
    name: str
    live: bool

    @property
    def address(self):
        return self.email.strip().lower()


@dataclasses.dataclass
class Word:
    step: int           # when it was given
    mark: int           # the newest request at the provider before the commit
    why: str
    required: bool      # it must reach the provider, not only may
    carried: bool = False
    again: bool = False     # it was carried before, but a crash may have lost the outcome
    recent: bool = True     # given since the last quiet point
    uid: int = 0            # of the row that gave it


class Memory:
    """The state of one address at one account."""

    def __init__(self):
        self.known = False          # a row or an upsert had this address
        self.said = None            # the last opt_in that was not NULL
        self.rest_said_no = False   # the rows that stayed when one left said no, and none has said true since
        self.no_left = False        # a row that said no has left, and nothing was claimed since
        self.said_yes = False       # a row said true at some moment since the last quiet point
        self.settled = None         # said, at the last quiet point
        self.newest = None          # the newest opt_in_at
        self.timeless = False       # the person was forgotten, and nothing was claimed since
        self.words = []
        self.claimed = False        # a request has claimed it before
        self.claimed_by = set()     # the identities of contacts that such a request created or changed, where it tells
        self.topics = set()         # the topics that were claimed
        self.no_step = None         # the opt-out of a person who has not come back
        self.no_mark = None
        self.yes_step = None        # when the person opted in at the provider
        self.told = None            # the request whose answer showed the opt-out first; 0: a pull did
        self.gap = True             # there was no row at some moment since the last quiet point
        self.row_said_no = False    # a row said false at some moment since the last quiet point
        self.refused = False        # ... and until the one that is being judged
        self.abandoned = False      # the watch ended or the row got another address, so on_delete does not apply
        self.withdrawn_at = None    # the newest withdrawing request since the last quiet point
        self.undecided = False      # the rules do not say whether there was a word, and none was carried since
        self.removed = False        # a request removed the contact, and none has made the address reachable since
        self.last_reads = None      # the mapped values of the row that spoke last
        self.changed_step = 0       # when they became what they are


class Verdict:
    def __init__(self, kind, address, request, text, step):
        self.kind, self.address, self.request, self.text, self.step = kind, address, request, text, step

    def __str__(self):
        when = f"request {self.request}" if self.request else f"after step {self.step}"
        return f"{self.kind}: {self.address}, {when}, {self.text}"


class Ledger:
    """The oracle of one account, which is described in consent_accounts.py."""

    def __init__(self, account):
        self.account = account
        self.partitioned = False
        self.rested = {}            # what rows said at the last quiet point, by uid
        self.said_yes = set()       # uids of rows that said true since then
        self.said_no = set()        # uids of rows that said false since then
        self.no_at = set()          # uids and addresses of rows that said false of these since then, or at that point
        self.step = 0
        self.memories = collections.defaultdict(Memory)
        self.verdicts = []
        self.rows = {}              # of the last commit
        self.seen = set()           # uids of rows that changed under the watch or were imported
        self.spoke = {}             # the step of the last change of mapped values, by uid
        self.echo = {}              # the step of the last change of the key only, by uid
        self.became = {}            # what rows have been since the last quiet point, and the steps at which they became that, by uid
        self.loose = set()          # addresses whose last changed row is no longer watched
        self.ours = set()           # ids of contacts that a request created
        self.stood = set()          # identities that rows have stood for
        self.homes = {}             # the address of the row that spoke last, by identity
        self.joining = {}           # addresses to which rows that do not say true come with the present commit: their uids
        self.lacking = set()        # those without a row at some moment since the last quiet point
        self.refusing = set()       # identities with a row that said false at some moment since the last quiet point
        self.erased = set()         # identities that a request removed, and none has created since
        self.given_up = set()       # identities whose watch ended, so that on_delete does not apply
        self.remapped = set()       # uids of rows whose identity another mapping changed, and that were not read since
        self.upserted = {}          # address: (opt, name, step)
        self.unmade = set()         # those of them without a contact at a quiet point: the upsert was withheld, and made none
        self.events_read = 0
        self.claims_all = False
        self.restored = False       # after a restore an unknown address may have been claimed before
        self.recent = []            # (time, address, word) of carried words; a crash can lose their outcomes
        self.lasting = set()        # verdicts of the last quiet point, which are reported once
        self.lasting_now = set()

    def verdict(self, kind, address, request, text):
        self.verdicts.append(Verdict(kind, address, request, text, self.step))

    def lasting_verdict(self, kind, address, text):
        """Report a difference at a quiet point, once for as long as it lasts."""
        self.lasting_now.add((kind, address, text))
        if (kind, address, text) not in self.lasting:
            self.verdict(kind, address, None, text)

    # Rows

    def standing(self, rows, seen_only=True):
        """Return the rows that stand for a contact of this account."""
        return [row for row in rows.values() if row.live and row.table in self.account.watched
                and (not seen_only or row.uid in self.seen)]

    def says(self, row):
        """Return the consent of a row. Without opt_in in the mapping, every row is a yes."""
        return row.opt if self.account.maps_opt_in else True

    def committed(self, step, mark, before, after, present, rewritten=frozenset()):
        """Record a commit. before and after have rows by uid; present has the addresses that the provider knows; rewritten has
        the rows that it deleted and inserted again as they were."""
        self.rows = after
        by_key = {(row.table, row.key): row for row in before.values()}
        changed = [uid for uid in {**before, **after} if before.get(uid) != after.get(uid)
                   and (before.get(uid) or after.get(uid)).table in self.account.watched]
        self.joining = self._find_joining(before, [after[uid] for uid in changed if uid in after])
        for uid in sorted(changed):
            old, new = before.get(uid), after.get(uid)
            if old and new and uid not in self.seen and self._is_unchanged(old, new):
                continue            # "a live committed change seen": of what the watch reads, nothing has changed
            if new and not old:     # a row that is deleted and inserted with the same key was updated
                old = by_key.get((new.table, new.key))
                if old and old.uid in self.seen:
                    self.seen.add(uid)
                    self.spoke[uid] = self.spoke.get(old.uid, 0)
            if new and new.live:
                self._speak(step, mark, old, new, present)
            if old and old.live and old.uid in self.seen and not (new and new.live and new.address == old.address):
                if new and new.live and not self.account.address_follows(old, new):
                    self.memories[old.address].abandoned = True
                self._leave(step, mark, old)
        for row in self.standing(after, seen_only=False):
            if row.uid in rewritten and row.uid not in self.seen:
                # "the first live row of an address"; what it says may be older, but nothing is stored of it
                self._speak(step, mark, None, row, present, live=False)
        self.look(after)

    def _find_joining(self, before, rows):
        joining = collections.defaultdict(set)
        for row in rows:
            old = before.get(row.uid)
            if row.live and self.says(row) is not True and not (old and old.live and old.address == row.address):
                joining[row.address].add(row.uid)
        return joining

    def _is_first(self, row):
        """Of two rows that come to an address in one commit, either may be the first one: they "really are equal in time"."""
        return not self.joining.get(row.address, set()) - {row.uid}

    def _is_of_who_left(self, row):
        """Whether the contact of a row has been at another address, whose person left: it "carried its own consent", and with that
        an opt-out, which "gets none with another address"."""
        identity = self.account.identity(row)
        home = self.homes.get(identity, row.address)
        return home != row.address and identity not in self.erased and self.memories[home].no_step is not None

    def _is_unchanged(self, old, new):
        """Whether a row has the same key, and the same in what is mapped, also in the case of letters, which a trigger sees. The
        region is a part of the key where the table has partitions."""
        keys = [row.key if self.partitioned and row.table == "w" else row.key[1] for row in (old, new)]
        return keys[0] == keys[1] and (old.live, old.email) == (new.live, new.email) and self.account.reads(old) == self.account.reads(new)

    def _leave(self, step, mark, old):
        """Record that a row has left an address: what the others say is what its contact is said to say. A row that says true
        can "take the place of one that has gone, if no other row of the address says false", also one that came before, as long
        as it need not have been read: "changes that are read together count as their end state"."""
        memory = self.memories[old.address]
        rows = [row for row in self.standing(self.rows) if row.address == old.address]
        said = {self.says(row) for row in rows}
        memory.rest_said_no |= False in said and True not in said
        if self.account.looks_first:
            # "A word that is given within moments of other changes of the same person can be missed": its call was a lookup as
            # yet, and of whoever was removed thereafter it is not known what the provider knew
            for word in memory.words:
                word.required = word.required and not (word.recent and word.uid == old.uid)
        if self.says(old) is not False and not self._may_be_read_as_no(memory, old):
            return
        memory.no_left = True
        memory.words += [Word(step, mark, "a new row takes the place of one that said no", None, uid=row.uid) for row in rows
                         if self.says(row) is True and row.uid not in self.rested and False not in said]

    def _may_be_read_as_no(self, memory, old):
        """Whether a row that leaves an address need not have been read since it said no there: "changes that are read together count
        as their end state", which is that a row has gone that said no. A word of it that was carried shows that it was read."""
        return (old.uid, old.address) in self.no_at and not any(word.uid == old.uid and word.carried for word in memory.words)

    def look(self, rows):
        """Note for each address and identity whether it has a row, and for each address whether a row says no."""
        standing = collections.defaultdict(list)
        for row in self.standing(rows, seen_only=False):
            standing[row.address].append(row)
        present = {self.account.identity(row) for row in self.standing(rows, seen_only=False)}
        self.given_up -= {self.account.identity(row) for row in self.standing(rows)}
        self.refusing |= self._refusing(rows)
        self.stood |= present
        self.lacking |= self.stood - present
        for address in {*self.memories, *standing}:
            memory = self.memories[address]
            if not standing[address] and not self._is_upserted(address):
                memory.gap = True
            if any(self.says(row) is False for row in standing[address]):
                memory.row_said_no = True

    def _is_upserted(self, address):
        """Whether the contact of an address "made by contactsync_upsert() stands until an upsert or forget ends it"."""
        return address in self.upserted and address not in self.unmade

    def _refusing(self, rows):
        return {self.account.identity(row) for row in self.standing(rows, seen_only=False) if self.says(row) is False}

    def _speak(self, step, mark, old, new, present, live=True):
        memory, says = self.memories[new.address], self.says(new)
        same = bool(old and old.live and old.uid in self.seen and old.address == new.address)
        before = self.says(old) if old else None
        if says is True:
            self._yes(step, mark, memory, same, old, before, new, present)
        memory.abandoned = False
        if same and self.account.reads(old) == self.account.reads(new):
            self.echo[new.uid] = step
            return
        if says is not None:
            memory.said = says
        if says is True:
            memory.said_yes = True
            self.said_yes.add(new.uid)
        elif says is False:
            self.said_no.add(new.uid)
            self.no_at.add((new.uid, new.address))
        memory.rest_said_no &= says is not True
        memory.known = True
        if memory.last_reads != self.account.reads(new):
            memory.last_reads, memory.changed_step = self.account.reads(new), step
        if self.account.maps_opt_at and new.opt_at and says is not None:
            memory.newest = max(filter(None, [memory.newest, new.opt_at]))
        self.seen.add(new.uid)
        if live or new.uid not in self.spoke:
            self.spoke[new.uid] = step
            self.became.setdefault(new.uid, []).append((step, self._values(new)))
        else:                       # "an import is no word": what the row says is older, but nothing is stored of it any more
            self.echo[new.uid] = step
        self.loose -= {new.address, self.account.identity(new)}
        self.homes[self.account.identity(new)] = new.address
        self.remapped.discard(new.uid)

    def _yes(self, step, mark, memory, same, old, before, new, present):
        def word(why, required=True):
            # a second word of a row since the last quiet point changes a state that was not present at that
            again = new.uid in self.said_yes
            memory.words.append(Word(step, mark, why, required and memory.settled is not True and not again, uid=new.uid))
            memory.undecided |= required is None

        newer = self.account.maps_opt_at and new.opt_at and (memory.newest is None or new.opt_at > memory.newest)
        if newer and memory.known:
            # forget keeps 'hash and "closed" (no times, no topics)', so that nothing is known to be newer; and where no time is
            # known of this (account, address), one that the row had before it got the address need not be
            timed = memory.newest is not None or same and old.opt_at != new.opt_at
            memory.words.append(Word(step, mark, "a newer opt_in_at", timed and not memory.timeless))
        elif same and old.key != new.key and before is not True and not self._nobody_says_no(new):
            word("opt_in became true together with the key, while another row says no", None)
        elif same and before is False:
            # "changes that are read together count as their end state": of a row that said true before, that is no change
            word("opt_in became true", memory.said is not True and self.rested.get(new.uid) is not True)
        elif same and before is None and memory.said is not True:
            word("opt_in became true")
        elif same and memory.said is False and self._nobody_says_no(new):
            word("the row that says yes spoke again", None)
        elif same:
            pass
        elif not memory.known and new.address not in present:
            moved = old and old.live and old.uid in self.seen and before is True
            left = self.memories[old.address] if moved else None
            free = moved and (self.account.address_follows(old, new) or left.no_step is not None or left.said is not True)
            # of two rows that come together, the other one may be the first; then "a second row with the same address" is no word
            word("the first row of an address that nobody knows" + (", to which a person moved" if moved else ""),
                 None if not self._is_first(new) else
                 not free and not self._is_of_who_left(new) and not self.restored and self.account.proves_absence)
        elif not memory.known and self.claims_all:
            word("claims => 'all'")
        elif not old and memory.known and (memory.said is not True or memory.rest_said_no or memory.no_left) and self._nobody_says_no(new):
            word("a new row takes the address from not true to true", None)
        elif self.claims_all or old is not None and before is not True:
            word("changed together with the key, or out of sight", None)
        elif old is not None and (memory.said is False or (memory.rest_said_no or memory.no_left) and self._nobody_says_no(new)):
            word("a row that says yes took over an address that said no", None)
        elif old is not None and (old.uid in self.said_no or self.rested.get(old.uid) is False):
            # "changes that are read together count as their end state"
            word("opt_in became true at another address, or out of sight, which may be read together", None)
        elif memory.known and not memory.claimed and memory.said is not False and memory.no_step is None:
            word("a row of an address that was never claimed", None)

    def _nobody_says_no(self, row):
        if self.upserted.get(row.address, (None,))[0] is False:
            return False
        return not any(self.says(other) is False for other in self.standing(self.rows, seen_only=False)
                       if other.address == row.address and other.uid != row.uid)

    def imported(self, step, mark, rows, present, tables):
        """Record an import or a reconciliation, which reads the rows that the watch has not read yet."""
        for row in self.standing(rows, seen_only=False):
            if row.table in tables:
                self.remapped.discard(row.uid)
                if row.uid not in self.seen:
                    self._speak(step, mark, None, row, present, live=False)
        self.look(rows)

    def upsert(self, step, mark, address, opt, name, present):
        """Record a contactsync_upsert(), whose contact needs no row."""
        memory = self.memories[address]
        nobody = not any(row.address == address for row in self.standing(self.rows, seen_only=False))
        # nothing is remembered of an address that no row stands for any more, and that was never sent
        never = memory.said is None and not memory.claimed and address not in present and nobody
        # "the first live row of an address without memory that the provider does not know either"; without opt_in, "consent is
        # never claimed ... by omission" of an address that is known
        new = (not memory.known or never) and address not in present
        if new or opt is True and memory.known and memory.said is not True:
            memory.words.append(Word(step, mark, "an upsert with opt_in true", not memory.known and opt is True))
        if opt is not None:
            memory.said = opt
        memory.known, memory.abandoned = True, False
        memory.row_said_no |= opt is False
        # without opt_in it says nothing, and its contact "stands until an upsert or forget ends it"
        said = opt if opt is not None else self.upserted.get(address, (None,))[0]
        self.upserted[address] = (said, name, step)
        self.unmade.discard(address)

    def unwatched(self, rows, table):
        """Record the end of a watch; its contacts are not removed any more."""
        for row in rows.values():
            if row.table == table and row.uid in self.seen:
                self.seen.discard(row.uid)
                self.loose |= {row.address, self.account.identity(row)}
        self.given_up |= self.stood - {self.account.identity(row) for row in self.standing(rows)}
        others = {row.address for row in self.standing(rows)}
        for address, memory in self.memories.items():
            if not self._is_upserted(address) and address not in others:
                memory.abandoned = memory.gap = True

    def remap(self, rows):
        """Record that another mapping changed the identities of rows, which are not read again for that."""
        self.remapped |= {row.uid for row in self.standing(rows)}

    def dropped(self):
        """Record the end of the server. What contactsync_upsert() made stands until an upsert or forget ends it."""
        for address in self.upserted:
            self.memories[address].abandoned = True
        self.upserted.clear()

    def forgotten(self, address, rows):
        """Record an erasure. Rows with this address are as good as new; on_delete does not apply until one is sent again."""
        # forget keeps 'hash and "closed"', and not what was said
        self.memories[address].abandoned = self.memories[address].timeless = True
        self.memories[address].said = None
        self.loose |= {address} | {self.account.identity(row) for row in rows.values() if row.address == address}
        self.seen -= {row.uid for row in rows.values() if row.address == address}
        # it "erases everything else about a person", so that nothing is left to tell whose contact that of a row was
        self.given_up |= {self.account.identity(row) for row in rows.values() if row.address == address}

    def crashed(self):
        """Record a crash, which can lose the latest outcomes, so that calls are repeated."""
        for moment, address, word in self.recent:
            if time.monotonic() - moment < CRASH_LOSES:
                self.memories[address].words.append(Word(word.step, word.mark, word.why + ", before a crash", False, again=True))
        self.recent = []

    def backup(self):
        """Return what a restored backup brings back."""
        return copy.deepcopy((self.seen, self.spoke, self.echo, self.upserted, self.claims_all, {
            address: (memory.newest, memory.said) for address, memory in self.memories.items() if memory.known}))

    def reverted(self, backup, rows):
        """Record that an old backup was restored. Words since then may be lost, and need not arrive; nothing is claimed anew for that."""
        self.seen, self.spoke, self.echo, self.upserted, self.claims_all, known = backup
        self.restored = True
        said = collections.defaultdict(list)
        for row in self.standing(rows):
            said[row.address].append((self.spoke.get(row.uid, 0), self.says(row)))
        for address, memory in self.memories.items():
            for word in memory.words:
                word.required = False
            memory.known = address in known
            memory.newest, before = known.get(address, (None, None))
            memory.said = max(said[address], key=lambda item: item[0])[1] if said[address] else None
            if said[address] and memory.said is None:
                memory.said = before        # "true, null and true again is no change, because null says nothing"
            memory.settled = memory.said
            memory.told = None
            memory.abandoned |= not said[address]
            memory.gap = True
        self.look(rows)

    # People

    def person(self, step, address, act, mark):
        memory = self.memories[address]
        self.account.acted(address, act)
        if act in ("opt_out", "complain"):
            memory.no_step, memory.no_mark, memory.told = step, mark, None
        else:
            memory.no_step, memory.yes_step = None, step

    def pulled(self):
        """Record a complete pull; all earlier opt-outs are known from now on."""
        for memory in self.memories.values():
            if memory.no_step is not None:
                memory.told = 0

    def answered(self, entry):
        """Record an answer, which can show an opt-out."""
        if not entry["answered"] or entry["fault"] or entry["status"] is None or entry["status"] >= 300:
            return
        for address in self.account.told_by(entry):
            memory = self.memories.get(address)
            if memory and memory.no_step is not None and entry["seq"] > memory.no_mark:
                memory.told = entry["seq"] if memory.told is None else memory.told

    # Requests

    def read(self, people):
        """Judge the events since the last call. people is the answer of /mailable."""
        news = [(event["seq"], person["email"].lower(), event) for person in people for event in person["events"]
                if event["seq"] > self.events_read]
        news.sort(key=lambda item: item[0])
        for position, (number, address, event) in enumerate(news):
            self.events_read = number
            if event["by"] != "request" or event["kind"] in ("resubscribed", "mailed"):
                continue
            over = None
            if position + 1 < len(news):
                following = news[position + 1][2]
                if following["kind"] == "resubscribed" and news[position + 1][1] == address:
                    over = following["over"]
            self._judge(address, event, over)

    def _judge(self, address, event, over):
        memory, kind = self.memories[address], event["kind"]
        gained = set(event.get("gained", ())) - {UNASKED}
        if "new" in event:
            self.ours.add(event["new"])
            if not any(row.address == address for row in self.standing(self.rows, seen_only=False)):
                self.unmade.discard(address)
        if kind == "withdrawn" and "new" not in event:      # to create a contact without consent withdraws nothing
            memory.withdrawn_at = event["journal"]
        # "a consent is claimed once per word of the person, whatever rows, keys, ... come and go in between": who was claimed at
        # an address that the contact has left is not expected there again without a word
        memory.removed |= kind == "removed" or self.account.leaves(address, event)
        (self.erased.add if kind == "removed" else self.erased.discard)(event.get("external_id"))
        if kind in ("claimed", "asked") or gained:
            memory.removed = memory.undecided = memory.timeless = False
            memory.claimed_by.add(event.get("external_id"))
            self._judge_claim(memory, address, event, gained, over)
        if kind == "removed" or kind == "withdrawn" and set(event.get("lost", ())) - {UNASKED}:
            self._judge_removal(memory, address, event)
        if event.get("before") == "COMPLAINED" and event.get("status") == "UNSUBSCRIBED":
            told = memory.told is not None and memory.told < event["journal"]
            self.verdict("stale" if told else "window", address, event["journal"],
                         "COMPLAINED, which was known, was overwritten by UNSUBSCRIBED" if told else
                         "COMPLAINED, which nothing had told, was overwritten by UNSUBSCRIBED")

    def _judge_claim(self, memory, address, event, gained, over):
        request, what = event["journal"], f"{event['kind']}{' ' + ', '.join(sorted(gained)) if gained else ''}"
        words = [word for word in memory.words if word.mark < request]
        for word in words:
            word.carried = True
        why = "; ".join(word.why for word in words) or "no word"
        memory.claimed, memory.removed, memory.no_left = True, False, False
        new_topic = event.get("topic") and memory.topics and event["topic"] not in memory.topics
        memory.topics |= {event.get("topic")} - {None}
        if over == "person" or memory.no_step is not None and event["kind"] == "claimed" and gained:
            since = [word for word in words if memory.no_step is None or word.step > memory.no_step]
            if since:
                memory.no_step = None       # the person has come back
                return
            told = memory.told is not None and memory.told < request
            if told or not words and event["kind"] not in ("created", "changed"):
                known = "which was known" if told else "without a word since"
                self.verdict("resubscribed", address, request, f"{what}, after the person had left, {known} ({why})")
            else:
                self.verdict("window", address, request, f"{what}, after the person had left, which nothing had told ({why})")
        elif words or self.account.free(event):
            return
        # a request can be of any moment since the last quiet point
        elif new_topic or event["kind"] in ("created", "changed") and True in (memory.said, memory.settled, memory.said_yes):
            self.verdict("contested", address, request, f"{what}, and a row says yes, but it is no new word")
        else:
            self.verdict("claimed", address, request, f"{what}, and there is no word for it")

    def _judge_removal(self, memory, address, event):
        request, kind = event["journal"], event["kind"]
        memory.removed |= kind == "removed"
        identities = self.account.removed_identities(event, address)
        if identities and not any(identity in self.stood and identity not in self.lacking
                                  and not (kind == "withdrawn" and identity in self.refusing) for identity in identities):
            return
        if memory.gap or kind == "withdrawn" and memory.row_said_no or not memory.known:
            return
        self.verdict("removed", address, request, f"{kind}, though a row stood for it all the time, and none said no")

    # Quiet points

    def quiet(self, rows, contacts, people, failures):
        """Check a quiet point. contacts and people are the answers of /contacts and /mailable, failures has reasons by key."""
        reach = {person["email"].lower(): person for person in people}
        standing = collections.defaultdict(list)
        for row in self.standing(rows):
            standing[row.address].append(row)
        failed = self._failed(standing, failures)
        self.unmade |= self.upserted.keys() - {self.account.address_of(contact) for contact in contacts}
        for address, memory in self.memories.items():
            there = self.account.subscribed(reach.get(address), contacts)
            self._quiet_words(address, memory, there, address in failed, standing[address], contacts)
            if standing[address]:
                memory.settled = memory.said
            anybody = [row for row in self.standing(rows, seen_only=False) if row.address == address]
            memory.gap = not anybody and not self._is_upserted(address)
            memory.refused, memory.row_said_no = memory.row_said_no, any(self.says(row) is False for row in anybody)
            memory.said_yes = False
        self.lacking = self.stood - {self.account.identity(row) for row in self.standing(rows, seen_only=False)}
        self.refusing = self._refusing(rows)
        self.said_yes, self.said_no = set(), set()
        self.rested = {row.uid: self.says(row) for row in self.standing(rows)}
        self.no_at = {(row.uid, row.address) for row in self.standing(rows) if self.says(row) is False}
        self._quiet_values(standing, contacts, failed)
        self.became = {row.uid: [(self.spoke.get(row.uid, 0), self._values(row))] for row in self.standing(rows)}
        self.lasting, self.lasting_now = self.lasting_now, set()

    def _failed(self, standing, failures):
        """Return the addresses with a failure. A failure that the rows do not justify is a verdict."""
        failed = set()
        for address, rows in standing.items():
            for row in rows:
                reason = failures.get(address) or failures.get(self.account.identity(row)) or failures.get(row.key)
                if reason:
                    failed.add(address)
                    if not self.account.may_fail(reason, row, standing):
                        self.lasting_verdict("stale", address, f"failed as {reason}")
        return failed

    def _quiet_words(self, address, memory, there, failed, rows, contacts):
        undone, memory.withdrawn_at = memory.withdrawn_at is not None, None
        last = max((self.spoke.get(row.uid, 0) for row in rows), default=0)
        divided = any(self.says(row) is False and self.spoke.get(row.uid, 0) == last for row in rows)   # equal in time
        for word in memory.words:
            # an opt-out counts from "the answer to a call that shows it", also if the word is newer that was queued before that
            late = memory.no_step is not None and (memory.no_step > word.step or (memory.told or 0) > word.mark)
            # a withdrawal undoes what was said since the last quiet point: "changes that are read together count as their end state"
            undid = undone and word.recent and word.required is False and not word.again
            if (word.required or undid) and self.account.carries_to(address, contacts) and not word.carried and not there and not failed and not late and rows:
                # "changes that are read together count as their end state": a word of a row that has gone need not arrive
                says_yes = any(self.says(row) is True for row in rows)
                # and a row takes the place of one that has gone only "if no other row of the address says false"
                refused = not any(row.uid == word.uid for row in rows) and any(self.says(row) is False for row in rows)
                unsaid = refused or self._is_unsaid(word, rows)
                if memory.said is True and says_yes and not unsaid and not divided and not self._is_spoken_elsewhere(address, rows):
                    self.lasting_verdict("stale", address, f"consent did not arrive ({word.why}, step {word.step})")
        self.recent += [(time.monotonic(), address, word) for word in memory.words if word.carried]
        # an optional word stays valid, for example until a failure is retried
        memory.words = [dataclasses.replace(word, recent=False, required=word.required and not self._is_unsaid(word, rows))
                        for word in memory.words if not word.carried and not (there and word.required)]
        unread = [row for row in self.standing(self.rows, seen_only=False) if row.address == address]
        withdrawn = rows and all(self.says(row) is False for row in rows + unread) and memory.said is False
        # what has not changed is not sent, so that a row inserted anew with the same values withdraws nothing again
        came = memory.yes_step is not None and memory.yes_step > memory.changed_step
        ours = memory.claimed or not self.account.withholds
        if (withdrawn and there and ours and not came and not failed and self.account.can_withdraw
                and not self._is_left_behind(address, contacts)):
            self.lasting_verdict("stale", address, "consent was withdrawn in the table, and not at the provider")

    def _is_unsaid(self, word, rows):
        """Whether the row of a word left its address before that was read for sure, and all rows there that say true did so before:
        "changes that are read together count as their end state", and "a second row with the same address" is no word."""
        said = [self.rested.get(row.uid) for row in rows if self.says(row) is True]
        return bool(word.uid and word.recent and said) and not any(row.uid == word.uid for row in rows) and all(said)

    def _is_spoken_elsewhere(self, address, rows):
        """Whether the contacts of these rows have the address of another row, which spoke for them last."""
        others = [row for row in self.standing(self.rows) if row.address != address]
        return all(any(self.account.identity(other) == self.account.identity(row) and self.spoke[other.uid] > self.spoke[row.uid]
                       for other in others) for row in rows)

    def _is_left_behind(self, address, contacts):
        """Whether the contacts that can be mailed at the address are of no row: those of rows that have gone, which on_delete leaves
        as they are, or those that other senders made."""
        rows = self.standing(self.rows, seen_only=False)
        mailed = [contact for contact in contacts if self.account.address_of(contact) == address and self.account.is_mailed(contact)]
        ignored = self.account.on_delete == "ignore"
        return bool(mailed or ignored) and all(
            not any(self.account.is_of(contact, row) for row in rows) and (ignored or contact["id"] not in self.ours) for contact in mailed)

    def _quiet_values(self, standing, contacts, failed):
        groups, there = collections.defaultdict(list), {}
        for rows in standing.values():
            for row in rows:
                found = self.account.contacts_of(row, contacts)
                group = found[0]["id"] if found else self.account.identity(row)
                groups[group].append(row)
                there[group] = found
        for group, rows in groups.items():
            last = max(self.spoke[row.uid] for row in rows)
            surely = max(map(self._changed_surely, rows))
            speakers = [row for row in rows if max(self.spoke[row.uid], self.echo.get(row.uid, 0)) >= surely]
            address = max(speakers, key=lambda row: self.spoke[row.uid]).address
            upserted = self.upserted.get(address)
            if any(row.address in failed or row.uid in self.remapped or {row.address, self.account.identity(row)} & self.loose
                   for row in rows) or upserted and upserted[2] >= last:
                continue
            if not there[group] and not any(self._counts(row) for row in rows):
                continue
            expected = {(row.address, row.name) for row in speakers}
            expected |= {(self.account.values(contact)[0], row.name) for row in speakers for contact in there[group]
                         if self._keeps_address(row)}
            has = [self.account.values(contact) for contact in there[group]]
            if not has:
                self.lasting_verdict("stale", address, f"the provider has no contact for {sorted(expected)}")
            elif not expected & set(has):
                self.lasting_verdict("stale", address, f"the provider has {has}, not {sorted(expected)}")

    def _changed_surely(self, row):
        """Return the last step at which a row is sure to have changed: "changes that are read together count as their end state", so
        that one that is again what it was before, since the last quiet point or at that, need not have been read in between."""
        return next((step for step, was in self.became.get(row.uid, ()) if was == self._values(row)), self.spoke[row.uid])

    def _values(self, row):
        return row.address, self.account.reads(row)

    def _counts(self, row):
        """Whether the provider must have a contact for this row. Where creating claims, it may be withheld."""
        memory = self.memories[row.address]
        return not self.account.withholds or (
            self.says(row) is True and memory.claimed and memory.no_step is None and not memory.removed
            and self.account.identity(row) not in self.erased
            and (self.account.identity(row) == row.address or self.account.identity(row) in memory.claimed_by))

    def _keeps_address(self, row):
        """Whether a contact that is found by an ID may keep another address: nobody consented to that of the row."""
        memory = self.memories[row.address]
        return self.account.withholds and self.account.identity(row) != row.address and (
            # "until a row gives consent for the new one, also if only one of its rows says no there"
            self.says(row) is not True or memory.removed or memory.undecided or memory.refused or not self._nobody_says_no(row)
            # contactsync_forget() "leaves the hash with the state closed, ... so that a row that still exists ... subscribes nobody"
            or memory.timeless)

    def finish(self, rows, contacts, people):
        """Check at the end of the history that nothing is left over."""
        reach = {person["email"].lower(): person for person in people}
        standing = self.standing(rows, seen_only=False)
        addresses = {row.address for row in standing}
        for contact in contacts:
            address = self.account.values(contact)[0]
            memory = self.memories.get(address)
            if (any(self.account.is_of(contact, row) for row in standing) or self._is_upserted(address) or memory is None
                    or memory.abandoned or self.account.identity_of(contact) in self.given_up or not memory.known or contact["id"] not in self.ours):
                continue
            if self.account.on_delete == "delete" and self.account.can_delete(contact):
                self.verdict("left", address, None, "the contact is still there, and no row stands for it")
            elif self.account.on_delete == "unsubscribe" and address not in addresses and self.account.subscribed(reach.get(address), contacts):
                came = memory.yes_step is not None
                if not came:
                    self.verdict("left", address, None, "can still be mailed, and no row stands for it")


def shorten(text, length=300):
    text = text if isinstance(text, str) else json.dumps(text)
    return text if len(text) <= length else text[:length] + "..."
