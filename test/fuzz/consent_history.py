"""The actions of a history: on rows, watches, accounts and people, and faults."""

import copy
import json
import os
import random
import subprocess
import time

import psycopg2

from consent_accounts import TOPICS
from consent_world import QUIET_SECONDS, Stuck, World, brief, literal


class History(World):
    """The history of one seed."""

    # Running

    def run(self):
        try:
            self.live()
        except Stuck:
            pass

    def live(self):
        actions = self.ROWS + self.OTHERS + self.PEOPLE + self.FAULTS
        if self.place.features["opt_in_at"]:
            actions = actions + [(History.say_at, 2)]
        if self.place.options.acts:
            actions = [(getattr(History, name), 1) for name in self.place.options.acts.split(",")]
        self.set_up()
        self.quiet()
        for _ in range(self.place.options.steps):
            self.step_number += 1
            # a generator for each step, so that timing in one step does not change the choices in others
            self.rng = random.Random(f"{self.seed}/{self.step_number}")
            act = self.rng.choices([action for action, _ in actions], [weight for _, weight in actions])[0]
            act(self)
            if self.rng.random() < 0.6:
                self.quiet()
            else:
                time.sleep(self.rng.random() * 0.05)
                self.look(False)
        self.step_number += 1
        self.finish()

    def finish(self):
        self.quiet()
        before = None
        while True:
            failures = sorted(self.sql("SELECT server, key, reason FROM contactsync.failures"))
            if not failures or failures == before:
                break
            before = failures
            for account in self.accounts.values():
                self.attempt(account, f"SELECT contactsync_retry('{account.server}')")
            self.note("failures are tried again")
            self.quiet()
        # a removal waits for the first import of all watches of its server
        for account in self.accounts.values():
            for table in account.watched.keys() - account.imported:
                self.import_(account, table)
        self.quiet()
        if self.place.features["delete_delay"]:
            time.sleep(15 / self.place.SPEED + 0.2)
            self.quiet()
        for name, account in self.accounts.items():
            self.ledgers[name].finish(self.rows, self.contacts(account), self.mailable(account))

    def set_up(self):
        self.place.run(self.place.connect("postgres", "admin"), f"CREATE DATABASE {self.database} OWNER sender")
        self.sql("CREATE EXTENSION contactsync; GRANT USAGE ON FOREIGN DATA WRAPPER contactsync TO sender; GRANT ALL ON SCHEMA public TO sender",
                 user="admin")
        columns = ("uid int NOT NULL, region text NOT NULL DEFAULT 'a', id {} NOT NULL, ext text NOT NULL, mc_ext text, email text NOT NULL,"
                   " opt bool, opt_at timestamptz, name text NOT NULL, live bool NOT NULL DEFAULT true")
        number = "text" if self.kind == "text" else "int"
        key = "region, id" if self.kind == "part" else "id"
        self.sql(f"CREATE TABLE w ({columns.format(number)}, PRIMARY KEY ({key}))"
                 + (" PARTITION BY LIST (region); CREATE TABLE w_a PARTITION OF w FOR VALUES IN ('a');"
                    "CREATE TABLE w_rest PARTITION OF w DEFAULT;" if self.kind == "part" else ";")
                 + f"CREATE TABLE x ({columns.format('int')}, PRIMARY KEY (id))")
        for account in self.accounts.values():
            self.open_account(account)
            self.make_server(account)
        before = self.rng.random() < 0.5     # rows that exist before the watch
        if before:
            for person in self.rng.sample(self.people, 4):
                self.sql(self.insert_sql(person=person))
            self.rows = self.read_rows()
            self.note("rows before the watch: " + ", ".join(map(brief, self.rows.values())))
        if self.rng.random() < 0.6:
            self.older_contacts()
        for account in self.accounts.values():
            self.watch(account, "w", account.rng.choices([None, "all"], [9, 1])[0])
        if before:
            for account in self.accounts.values():
                self.import_(account, "w")
        else:
            for person in self.rng.sample(self.people, 4):
                self.change("insert", self.insert_sql(person=person))

    def older_contacts(self):
        """Create people whom the providers know already; some of them opted out."""
        for account in self.accounts.values():
            for person in self.rng.sample(self.people, 2):
                address = self.address(person)
                self.act(account, address, "opt_in")
                if self.rng.random() < 0.7:
                    self.act(account, address, "opt_out")

    def watch(self, account, table, claims=None):
        arguments = {"mapping": json.dumps(account.mapping()), "filter": "live", "on_delete": account.on_delete}
        if claims and account.features["claims"]:
            arguments["claims"] = claims
        if account.features["delete_delay"]:
            arguments["delete_delay"] = self.rng.choice(["0", "10 s"])
        sql = "SET client_min_messages = error; SELECT contactsync_watch(%s, %s" + "".join(f", {name} => %s" for name in arguments) + ")"
        try:
            self.sql(sql, (table, account.server, *arguments.values()))
        except psycopg2.Error as error:
            self.broken.append(f"{account.describe()}: {error}")
            return
        account.watched[table] = arguments
        account.imported.discard(table)
        self.ledgers[account.provider].claims_all = any(watch.get("claims") == "all" for watch in account.watched.values())
        self.note(f"watch of {table}" + (f", claims {claims}" if "claims" in arguments else ""), None, account.provider)

    def import_(self, account, table, function="import"):
        if table not in account.watched:
            return
        ledger, marks = self.ledgers[account.provider], self.marks()
        arguments = ", automations => 'accepted'"
        account.imported.add(table)
        ledger.imported(self.next_moment(), marks[account.provider], self.rows, self.present(account), {table})
        self.note(f"{function} of {table}", None, account.provider, marks)
        self.attempt(account, f"SELECT * FROM contactsync_{function}('{table}', '{account.server}'{arguments})")

    # Rows

    def insert_sql(self, table="w", person=None, like=None, uid=None, opt="random"):
        uid = uid or self.fresh()
        person = person or self.rng.choice(self.people)
        values = {"uid": uid, "id": uid, "ext": f"E{person}", "mc_ext": f"M{person}", "email": self.address(person),
                  "opt": self.rng.choice([True, True, True, False, None]) if opt == "random" else opt,
                  "opt_at": None, "name": f"N{self.fresh()}", "live": True}
        if like is not None:
            values.update(ext=like.ext, mc_ext=like.mc_ext, email=like.email)
        names = ", ".join(values)
        return f"INSERT INTO {table} ({names}) VALUES ({', '.join(literal(value) for value in values.values())})"

    def on_row(text, clause):                       # pylint: disable=no-self-argument
        """Return an action that updates one row."""
        def act(self):
            row = self.some_row()
            if row:
                self.change(text, f"UPDATE {row.table} SET {clause(self, row)} WHERE uid = {row.uid}")
        act.__name__ = text
        return act

    rename = on_row("update the name", lambda self, row: f"name = 'N{self.fresh()}'")
    say = on_row("update opt_in", lambda self, row: f"opt = {literal(self.rng.choice([True, True, False, None]))}")
    toggle = on_row("toggle opt_in", lambda self, row: f"opt = {literal(row.opt is not True)}")
    say_at = on_row("opt_in with a new opt_in_at", lambda self, row: "opt = true, opt_at = clock_timestamp()")
    hide = on_row("move through the filter", lambda self, row: f"live = {literal(not row.live)}")
    case = on_row("change the case of the address", lambda self, row: f"email = {literal(row.email.upper() if row.email.islower() else row.email.lower())}")
    rekey = on_row("change the key", lambda self, row: f"id = {self.number(row.table, self.fresh() + 1000)}")
    rekey_and_say = on_row("change the key and opt_in", lambda self, row: f"id = {self.number(row.table, self.fresh() + 1000)}, opt = {literal(row.opt is not True)}")
    move_region = on_row("move to another region", lambda self, row: f"region = {literal(self.rng.choice(['a', 'b', 'c']))}")
    external = on_row("set or clear the external id", lambda self, row: f"mc_ext = {literal(None if row.mc_ext else 'M' + row.ext[1:])}")

    def number(self, table, value):
        return literal(str(value)) if self.kind == "text" and table == "w" else str(value)

    def insert(self):
        here = {row.address for row in self.rows.values()}
        free = [person for person in self.people if self.address(person) not in here]
        if free:
            self.change("insert", self.insert_sql(person=self.rng.choice(free)))
        else:
            self.delete()

    def duplicate(self):
        row = self.some_row()
        if row and len(self.rows) < 10:
            self.change("insert a second row of a person", self.insert_sql(like=row, person="p0"))

    def delete(self):
        row = self.some_row()
        if row:
            self.stash.append(row)
            self.change("delete", f"DELETE FROM {row.table} WHERE uid = {row.uid}")

    def delete_for_good(self):
        """Delete a row, and wait until its contact is removed. Only --acts chooses this."""
        self.delete()
        for account in self.accounts.values():
            for table in account.watched.keys() - account.imported:
                self.import_(account, table)
        self.quiet()
        end = time.monotonic() + QUIET_SECONDS
        while time.monotonic() < end and self.sql("SELECT 1 FROM contactsync.departure WHERE NOT failed", user="admin"):
            time.sleep(0.03)
        self.quiet()

    def come_back(self):
        """Insert a deleted row again, with the same or another key."""
        if self.stash:
            row = self.stash.pop(self.rng.randrange(len(self.stash)))
            if not any(other.ext == row.ext for other in self.rows.values()):
                self.change("insert a deleted row again", self.copy_sql(row, self.rng.random() < 0.5))

    def copy_sql(self, row, same_key=True):
        uid = self.fresh()
        values = {"uid": uid, "region": row.key[0], "id": row.key[1] if same_key else str(uid + 5000), "ext": row.ext, "mc_ext": row.mc_ext,
                  "email": row.email, "opt": row.opt, "name": row.name, "live": row.live}
        if row.opt_at:
            values["opt_at"] = str(row.opt_at)
        return f"INSERT INTO {row.table} ({', '.join(values)}) VALUES ({', '.join(literal(value) for value in values.values())})"

    def delete_and_insert(self):
        row = self.some_row()
        if row:
            self.change("delete and insert in one transaction",
                        f"DELETE FROM {row.table} WHERE uid = {row.uid}; {self.copy_sql(row, self.rng.random() < 0.5)}")

    def rekey_all(self):
        self.change("change all keys", "UPDATE w SET id = id || 'k'" if self.kind == "text" else "UPDATE w SET id = id + 10000")

    def swap(self):
        rows = [row for row in self.rows.values() if row.table == "w"]
        if len(rows) >= 2:
            one, two = self.rng.sample(rows, 2)
            self.change("swap the persons of two rows", f"""
                UPDATE w AS a SET email = b.email, ext = b.ext, mc_ext = b.mc_ext FROM w AS b
                WHERE a.uid IN ({one.uid}, {two.uid}) AND b.uid IN ({one.uid}, {two.uid}) AND a.uid <> b.uid""")

    def new_address(self):
        """Change the address of a person in all of their rows."""
        row = self.some_row()
        if row:
            person = row.ext[1:]
            address = self.address(person)
            if row.address == address:
                address = f"{person}.new@s{self.seed}.example"
            self.change("change the address", f"UPDATE w SET email = {literal(address)} WHERE ext = {literal(row.ext)};"
                        f"UPDATE x SET email = {literal(address)} WHERE ext = {literal(row.ext)}")

    def share_address(self):
        rows = [row for row in self.rows.values()]
        if len(rows) >= 2:
            one, two = self.rng.sample(rows, 2)
            self.change("share the address of another row", f"UPDATE {one.table} SET email = {literal(two.email)} WHERE uid = {one.uid}")

    def hand_over(self):
        """Let one row leave an address, and another row take it in the next transaction."""
        rows = [row for row in self.rows.values()]
        if len(rows) >= 2:
            one, two = self.rng.sample(rows, 2)
            left = one.email
            self.change("leave an address", f"UPDATE {one.table} SET email = 'left{self.fresh()}@s{self.seed}.example' WHERE uid = {one.uid}")
            self.change("... and another row takes it", f"UPDATE {two.table} SET email = {literal(left)} WHERE uid = {two.uid}")

    def change_in_turn(self):
        """Change two rows of one address in turn before any change is read: the first one changed last. Only --acts chooses this."""
        rows = [row for row in self.rows.values() if row.live]
        pairs = [(one, two) for one in rows for two in rows if one.uid != two.uid and (one.table, one.address) == (two.table, two.address)]
        if not pairs:
            self.duplicate()
            return
        one, two = self.rng.choice(pairs)
        for account in self.accounts.values():
            self.attempt(account, f"SELECT contactsync_pause('{account.server}')")
        for row in (one, two, one):
            self.change("change in turn", f"UPDATE {row.table} SET name = 'N{self.fresh()}' WHERE uid = {row.uid}")
        for account in self.accounts.values():
            self.attempt(account, f"SELECT contactsync_resume('{account.server}')")

    def truncate(self):
        self.stash += [row for row in self.rows.values() if row.table == "w"]
        self.change("truncate", "TRUNCATE w")

    def reload(self):
        self.change("truncate and load again", "CREATE TEMP TABLE copy ON COMMIT DROP AS TABLE w; TRUNCATE w; INSERT INTO w SELECT * FROM copy".replace(
            "CREATE TEMP", "BEGIN; CREATE TEMP") + "; COMMIT", rewrites="w")

    def reload_anew(self):
        """Delete all rows and insert them with other keys, as a nightly job does."""
        text = "id || 'r'" if self.kind == "text" else "id + 20000"
        self.change("delete all and insert with other keys", f"""
            BEGIN; CREATE TEMP TABLE copy ON COMMIT DROP AS TABLE w; DELETE FROM w;
            INSERT INTO w SELECT uid + 100000, region, {text}, ext, mc_ext, email, opt, opt_at, name, live FROM copy; COMMIT""")

    # Watches and accounts

    def unwatch(self, account, table):
        self.attempt(account, f"SELECT contactsync_unwatch('{table}', '{account.server}')")
        account.watched.pop(table, None)
        self.ledgers[account.provider].unwatched(self.rows, table)
        self.note(f"unwatch of {table}", None, account.provider)

    def watch_again(self):
        account = self.some_account()
        self.unwatch(account, "w")
        if self.rng.random() < 0.5:
            self.rng.choice([History.rename, History.say, History.insert, History.delete])(self)
        self.watch(account, "w", self.rng.choice([None, None, "new"]))
        if self.rng.random() < 0.7:
            self.import_(account, "w", self.rng.choice(["import", "reconcile"]))

    def alter_mapping(self):
        account = self.some_account()
        if "w" not in account.watched:
            return
        if account.provider == "mailingcore" and self.rng.random() < 0.5 and account.on_delete != "delete":
            account.external = not account.external
            self.ledgers[account.provider].remap(self.rows)
        else:
            account.attribute = not account.attribute
        for table in account.watched:
            self.attempt(account, "SELECT contactsync_alter_watch(%s, %s, mapping => %s)", (table, account.server, json.dumps(account.mapping())))
        self.note(f"mapping is {json.dumps(account.mapping())}", None, account.provider)
        if self.rng.random() < 0.7:
            self.import_(account, "w", "reconcile")

    def second_watch(self):
        account = self.some_account()
        if "x" in account.watched:
            self.unwatch(account, "x")
            return
        self.watch(account, "x")
        if self.rng.random() < 0.5:
            self.import_(account, "x")

    def second_table(self):
        """Insert a row for the same person into the other table."""
        row = self.some_row("w")
        if row and not any(other.table == "x" and other.ext == row.ext for other in self.rows.values()):
            self.change("insert into the other table", self.insert_sql("x", like=row, person="p0"))

    def upsert_beside(self):
        account = self.some_account()
        if account.provider == "spotzee" or account.provider in ("mailingcore", "webhook") and account.external:
            return
        address = self.rng.choice([self.address(person) for person in self.people])
        opt, name, marks = self.rng.choice([True, None, False]), f"N{self.fresh()}", self.marks()
        contact = {"email": address, **({"attributes": {"name": name}} if account.provider == "mailingcore" else {"first_name": name})}
        if opt is not None:
            contact["opt_in"] = opt
        self.ledgers[account.provider].upsert(self.next_moment(), marks[account.provider], address, opt, name, self.present(account))
        self.note(f"upsert {json.dumps(contact)}", {address}, account.provider, marks)
        self.attempt(account, "SELECT contactsync_upsert(%s, %s)", (account.server, json.dumps(contact)))

    def reconcile(self):
        self.import_(self.some_account(), "w", "reconcile")

    def send_again(self):
        """Mark everything that was sent as stale, and reconcile. This must not repeat a claim."""
        account = self.some_account()
        self.attempt(account, f"SELECT contactsync_mark_stale('{account.server}')")
        self.note("everything sent is marked as stale", None, account.provider)
        self.import_(account, "w", "reconcile")

    def import_again(self):
        self.import_(self.some_account(), "w")

    def new_server(self):
        """Drop the server and create it again for the same account."""
        account = self.some_account()
        self.quiet()
        for table in list(account.watched):
            self.unwatch(account, table)
        self.ledgers[account.provider].dropped()
        self.attempt(account, f"DROP SERVER {account.server} CASCADE")
        self.make_server(account)
        self.note("the server is created again", None, account.provider)
        self.watch(account, "w")
        self.import_(account, "w", self.rng.choice(["import", "reconcile"]))

    def other_topic(self):
        account = self.accounts.get("owlat")
        if account:
            for topic in (TOPICS["other"], account.topic):
                self.attempt(account, f"ALTER SERVER {account.server} OPTIONS (SET topic_id '{topic}')")
                self.note(f"topic {topic}", None, "owlat")
                if topic != account.topic and self.rng.random() < 0.3:
                    self.import_(account, "w", "reconcile")

    def rotate_key(self):
        account = self.some_account()
        old = account.key
        account.generation += 1
        self.call("POST", f"{account.provider}/config", {"account": account.name, **account.key_config(old)})
        self.note("the key is rotated", None, account.provider)
        time.sleep(self.rng.random() * 0.1)
        (name, value), = account.secret().items()
        self.attempt(account, f"ALTER USER MAPPING FOR CURRENT_USER SERVER {account.server} OPTIONS (SET {name} '{value}')")

    # People

    def person_acts(self):
        account = self.some_account()
        present = sorted(self.present(account))
        if present:
            act = self.rng.choice(["opt_out"] * 6 + ["complain", "opt_in"])
            options = {}
            if account.provider == "owlat" and act == "opt_in":
                options["topic"] = account.topic
            if account.provider == "owlat" and self.rng.random() < 0.2:
                act, options = "confirm", {}
            self.act(account, self.rng.choice(present), act, **options)

    def everybody_leaves(self):
        """Let most people opt out, so that a claim without a word becomes visible."""
        for account in self.accounts.values():
            for address in sorted(self.present(account)):
                if self.rng.random() < 0.6:
                    self.act(account, address, "opt_out")

    def pull(self):
        for account in self.accounts.values():
            if account.can_list and self.attempt(account, f"SELECT contactsync_pull('{account.server}')") is not None:
                self.ledgers[account.provider].pulled()
                self.note("pull", None, account.provider)

    # Faults

    def fault(self):
        account = self.some_account()
        action, effect = self.rng.choice([
            ({"status": 503}, "after"), ({"reset": "before"}, "after"), ({"truncate": True}, "after"), ({"status": 503}, "before"),
            ({"status": 429, "retry_after": "1"}, "before"), ({"stall": True}, "after"), ({"stall": True}, "before")])
        times = self.rng.choice([1, 1, 3])
        self.call("POST", f"{account.provider}/fault", {"match": {"account": account.name}, "times": times, "effect": effect, "action": action})
        self.note(f"fault: {json.dumps(action)} {effect}, {times} times", None, account.provider)

    def lose_withdrawal(self):
        """Lose the answer to a withdrawal, reload or restart, and give consent again."""
        rows = [row for row in self.rows.values() if row.opt]
        if rows:
            row = self.rng.choice(rows)
            self.lose_answers()
            self.change("withdraw consent", f"UPDATE {row.table} SET opt = false WHERE uid = {row.uid}")
            self.moment()
            self.rng.choice([History.reload_definitions, History.end_worker, History.restart, History.kill_worker])(self)
            self.change("... and give it again", f"UPDATE {row.table} SET opt = true WHERE uid = {row.uid}")

    def lose_change(self):
        """Lose the answer to a change, and restore the row before the outcome is known."""
        row = self.some_row()
        if row:
            self.lose_answers()
            self.change("update the name", f"UPDATE {row.table} SET name = 'lost' WHERE uid = {row.uid}")
            self.moment()
            self.change("... the row leaves the filter", f"UPDATE {row.table} SET live = false WHERE uid = {row.uid}")
            self.moment()
            self.change("... and returns as it was", f"UPDATE {row.table} SET live = true, name = {literal(row.name)} WHERE uid = {row.uid}")

    def lose_creation(self):
        """Lose the answer to a creation, and delete the row."""
        here = {row.address for row in self.rows.values()}
        free = [person for person in self.people if self.address(person) not in here]
        if free:
            self.lose_answers()
            uid = self.fresh()
            self.change("insert", self.insert_sql(person=self.rng.choice(free), uid=uid, opt=True))
            self.moment()
            self.rng.choice([History.reload_definitions, History.end_worker, History.kill_worker, History.person_acts])(self)
            self.change("... and delete it", f"DELETE FROM w WHERE uid = {uid}")

    def lose_answers(self):
        times = self.rng.choice([1, 3, 100])
        for account in self.accounts.values():
            self.call("POST", f"{account.provider}/fault", {
                "match": {"account": account.name}, "times": times, "effect": "after",
                "action": self.rng.choice([{"status": 503}, {"reset": "before"}, {"stall": True}])})
        self.note(f"the next {times} answers are lost")

    def moment(self):
        time.sleep(self.rng.choice([0, 0.05, 0.15]))

    def reload_definitions(self):
        account = self.some_account()
        self.sql(f"ALTER SERVER {account.server} OPTIONS (SET timeout '{self.rng.choice([60, 61, 62])}s')")
        self.note("ALTER SERVER reloads the definitions", None, None)

    def end_worker(self):
        self.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'contactsync worker' AND datname = current_database()",
                 user="admin")
        self.note("the worker is terminated")

    def kill_worker(self):
        for pid, in self.sql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'contactsync worker' AND datname = current_database()", user="admin"):
            os.kill(pid, 9)
        time.sleep(0.3)
        self.note("the worker is killed, and the server restarts")
        self.crashed()

    def restart(self):
        mode = self.rng.choice(["fast", "immediate"])
        self.place.server.stop(mode)
        self.place.server.start()
        self.note(f"restarted ({mode})")
        if mode == "immediate":
            self.crashed()

    def crashed(self):
        for ledger in self.ledgers.values():
            ledger.crashed()

    def dump(self):
        bindir, host = self.place.options.bindir, self.place.server.sockets
        return subprocess.run([f"{bindir}/pg_dump", "-h", host, "-U", "admin", "-Fc", self.database], check=True, stdout=subprocess.PIPE).stdout

    def restore_dump(self, dump):
        """Restore a dump, and continue with the copy."""
        bindir, host = self.place.options.bindir, self.place.server.sockets
        other = self.database + "r"
        self.place.run(self.place.connect("postgres", "admin"), f"CREATE DATABASE {other} OWNER sender")
        subprocess.run([f"{bindir}/pg_restore", "-h", host, "-U", "admin", "-d", other, "--single-transaction"], input=dump, check=True)
        self.place.run(self.place.connect("postgres", "admin"), f"DROP DATABASE {self.database} WITH (FORCE)")
        self.place.run(self.place.connect("postgres", "admin"), f"ALTER DATABASE {other} RENAME TO {self.database}")
        for account in self.accounts.values():
            (name, value), = account.secret().items()
            self.attempt(account, f"ALTER USER MAPPING FOR CURRENT_USER SERVER {account.server} OPTIONS (SET {name} '{value}')")
            self.attempt(account, f"SELECT contactsync_resume('{account.server}')")

    def restore(self):
        self.quiet()
        self.restore_dump(self.dump())
        self.note("dumped and restored")
        for ledger in self.ledgers.values():
            ledger.restored = True

    def keep_backup(self):
        """Make a backup for restore_backup()."""
        self.quiet()
        self.backup = self.dump(), {account.provider: account.backup() for account in self.accounts.values()}, {
            name: ledger.backup() for name, ledger in self.ledgers.items()}
        self.note("a backup is made")

    def restore_backup(self):
        """Restore an old backup, and reconcile; what happened since is not known any more."""
        if self.backup is None or not self.accounts.keys() <= self.backup[1].keys():
            self.keep_backup()
            return
        dump, accounts, ledgers = self.backup
        for account in self.accounts.values():
            account.__dict__.update(copy.deepcopy(accounts[account.provider]))
        self.restore_dump(dump)
        self.rows = self.read_rows()
        self.note("an old backup is restored: " + "; ".join(map(brief, self.rows.values())))
        for name, account in self.accounts.items():
            self.ledgers[name].reverted(copy.deepcopy(ledgers[name]), self.rows)
            for table in account.watched:
                self.import_(account, table, "reconcile")

    def fail_over(self):
        """Promote a standby when the primary has gone."""
        self.quiet()
        self.place.fail_over()
        self.note("failed over to a standby")
        self.crashed()

    def forget(self):
        row = self.some_row()
        if row:
            self.attempt(None, "SELECT * FROM contactsync_forget(%s)", (row.address,))
            self.note("contactsync_forget(), but the row stays", {row.address})
            for ledger in self.ledgers.values():
                ledger.forgotten(row.address, self.rows)

    # Actions and their weights

    ROWS = [(rename, 3), (say, 4), (toggle, 4), (hide, 2), (case, 1), (rekey, 2), (rekey_and_say, 1), (move_region, 2), (external, 1),
            (insert, 5), (duplicate, 1), (delete, 3), (come_back, 3), (delete_and_insert, 2), (rekey_all, 1), (swap, 1), (new_address, 2),
            (share_address, 1), (hand_over, 1), (truncate, 0.5), (reload, 0.7), (reload_anew, 0.7), (second_table, 2)]
    OTHERS = [(watch_again, 1.5), (alter_mapping, 1), (second_watch, 1.5), (upsert_beside, 1.5), (reconcile, 1.5), (import_again, 1), (send_again, 0.5),
              (new_server, 0.7), (other_topic, 0.5), (rotate_key, 0.5), (pull, 1), (forget, 1)]
    PEOPLE = [(person_acts, 8), (everybody_leaves, 2)]
    FAULTS = [(fault, 3), (lose_withdrawal, 1), (lose_change, 1), (lose_creation, 1), (reload_definitions, 1), (end_worker, 0.5),
              (kill_worker, 0.4), (restart, 0.4), (restore, 0.3), (keep_backup, 0.4), (restore_backup, 0.4), (fail_over, 0.1)]
