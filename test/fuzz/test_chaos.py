"""Test what chaos_judge.py allows and what it finds in the calls of an account.

Run with: python3 -m unittest discover -s test/fuzz
"""

import random
import types
import unittest

from chaos_judge import Bucket, Judge, Values, cells_of, values_of
from consent_accounts import CLASSES
from consent_oracle import Row
from test_consent import FEATURES

JANE = "p1c7@s7.example"


def row(name, uid=7000001, live=True):
    return Row("w", uid, ("a", str(uid)), "Ep1c7", "Mp1c7", JANE, True, None, name, live)


class JudgeTest(unittest.TestCase):
    def setUp(self):
        self.account = CLASSES["campaignlark"]("campaignlark", 1, random.Random(1), FEATURES)
        self.account.options.update(pace="10", burst="20")
        self.values = Values(self.account)
        self.seq = 0

    def commit(self, at, *rows):
        self.values.add(at, {row.uid: row for row in rows})

    def sent(self, at, name):
        self.seq += 1
        return self.values.judge({"seq": self.seq, "monotonic": at}, JANE, name)

    def test_order(self):
        self.commit(1, row("A"))
        self.commit(2, row("B"))
        self.commit(3, row("C"))
        self.assertIsNone(self.sent(4, "B"))
        self.assertIsNone(self.sent(5, "B"))
        self.assertIn("older", self.sent(6, "A"))
        self.assertIsNone(self.sent(7, "C"))

    def test_a_value_that_returns_is_not_older(self):
        for at, name in enumerate("ABA"):
            self.commit(at, row(name))
        self.assertIsNone(self.sent(5, "B"))
        self.assertIsNone(self.sent(6, "A"))

    def test_what_was_rolled_back_or_is_yet_to_come(self):
        self.commit(1, row("A"))
        self.commit(5, row("B"))
        self.assertIn("not committed", self.sent(2, "undone"))
        self.assertIsNotNone(self.sent(2, "B"))
        self.assertIsNone(self.sent(6, "B"))

    def test_what_a_crash_undid(self):
        self.commit(1, row("A"))
        self.values.add_undone(3, 5, {7000001: row("B")})
        self.assertIn("not committed", self.sent(2, "B"))
        self.assertIsNone(self.sent(4, "B"), "everybody saw it until the crash")
        self.assertIn("not committed", self.sent(6, "B"))
        self.assertIsNone(self.sent(7, "A"), "which is what the crash left")

    def test_a_row_that_is_filtered_out_says_nothing(self):
        self.commit(1, row("A", live=False))
        self.assertIsNotNone(self.sent(2, "A"))

    def test_pace(self):
        bucket = Bucket(self.account, 1)
        for number in range(20):
            bucket.add(0.001 * number)
        for number in range(100):
            bucket.add(0.1 + 0.1 * number)
        self.assertFalse(bucket.exceeded())
        for number in range(20):
            bucket.add(10.05 + 0.001 * number)
        self.assertTrue(bucket.exceeded(), "another bucket, as after a restart")

    def judge(self):
        return Judge(types.SimpleNamespace(SPEED=1, options=types.SimpleNamespace(show=0)),
                     [types.SimpleNamespace(accounts={"campaignlark": self.account})])

    def call(self, seq, begin, duration=1, key=None, body="{}"):
        return {"seq": seq, "monotonic": begin, "duration": duration, "keys": [JANE], "path": "/", "body": body, "fault": None,
                "headers": [["Idempotency-Key", key]] if key else []}

    def count(self, kind, *calls, cuts=()):
        judge = self.judge()
        judge.problem = lambda kind, text: judge.counts.update([kind])
        judge.cuts = list(cuts)
        judge._check_calls(self.account, calls)         # pylint: disable=protected-access
        return judge.counts[kind]

    def test_overlap(self):
        self.assertEqual(self.count("overlap", self.call(1, 0), self.call(2, 1)), 0)
        self.assertEqual(self.count("overlap", self.call(1, 0), self.call(2, 0.5)), 1)
        self.assertEqual(self.count("overlap", self.call(1, 0), self.call(2, 0.5), cuts=[0.3]), 0, "its process was killed")
        self.assertEqual(self.count("overlap", self.call(1, 0, duration=None), self.call(2, 29)), 1, "before the client can have given up")
        self.assertEqual(self.count("overlap", self.call(1, 0, duration=None), self.call(2, 59.8)), 0, "it took 0.2 s to arrive")

    def test_keys(self):
        self.assertEqual(self.count("key", self.call(1, 0, key="k"), self.call(2, 2, key="k")), 0, "the same call again")
        self.assertEqual(self.count("key", self.call(1, 0, key="k"), self.call(2, 2, key="k", body="[]")), 1)

    def test_what_is_read_of_requests(self):
        self.assertEqual(list(values_of({"contacts": [{"email": JANE, "externalId": "Mp1c7", "attributes": {"name": "A"}}]})), [("Mp1c7", "A")])
        self.assertEqual(list(values_of({"params": {"arguments": {"email": JANE, "first_name": "A"}}})), [(JANE, "A")])
        self.assertEqual(cells_of([JANE, "Ep3c12", "left5@s4.example", "other@example.com"]), {7, 12, 4})


if __name__ == "__main__":
    unittest.main()
