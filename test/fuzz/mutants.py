#!/usr/bin/python3
"""Break the source on purpose, one rule at a time, and check that consent.py notices.

usage: mutants.py --tree DIR --bindir DIR --work DIR [NAME ...]

Each mutant replaces a piece of the source by another one that compiles and violates a rule of docs/consent.md. It is caught if a
history gets a failing verdict that it does not get with the source as it is. A mutant whose piece is not in the source exactly once is
an error: change it with the source.
"""

import argparse
import collections
import os
import re
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
Mutant = collections.namedtuple("Mutant", "name file old new provider kinds")

MUTANTS = [
    Mutant("claim a consent again that was claimed or closed", "src/delivery/claim.c",
           "\tif (cs_claim_is_closed(facts))\n\t\treturn CS_CLAIM_NOT;\n", "\treturn CS_CLAIM;\n", "mailingcore", "resubscribed claimed"),
    Mutant("take every live change for a word", "src/delivery/claim.c",
           "return was_not_true(facts->row->opt_in);\n}", "return true;\n}", "campaignlark", "resubscribed claimed"),
    Mutant("do not list who is at the provider before the first claim", "src/delivery/known.c",
           "account->learning == CS_LEARNING_DONE && !person->listed.found ?", "true ?", "mailingcore", "resubscribed claimed"),
    Mutant("forget consent when a contact has gone", "src/delivery/outcome_writer.c",
           "if (n == 0 || account->consents.account == 0)", "if (true)", "mailingcore", "resubscribed claimed"),
    Mutant("remember consent by the key of a contact only, not by the address", "src/delivery/person.c",
           "if (known->synced_at == 0)\n\t\treturn;", "if (true)\n\t\treturn;", "mailingcore", "resubscribed claimed"),
    Mutant("take a contact that existed at Owlat for a new one", "src/provider/owlat/request.c",
           "(contact->claim == CS_CLAIM_IF_NEW && is_new)", "contact->claim == CS_CLAIM_IF_NEW", "owlat", "resubscribed claimed"),
    Mutant("create a contact at Spotzee without consent", "src/delivery/withhold.c",
           "if (endpoint->provider->mails_whoever_exists == NULL || contact->known)", "if (true)", "spotzee", "resubscribed claimed"),
    Mutant("remove a contact that another row stands for", "src/delivery/removal.c",
           "|| is_stood_for(lane, &known))", ")", "campaignlark", "removed"),
    Mutant("do not remove a contact whose last row has gone", "src/delivery/outcome_writer.c",
           "cs_departure_store(endpoint, outcomes->departures.n,", "cs_departure_store(endpoint, 0,", "campaignlark", "left"),
    Mutant("forget that a call was not answered when the row goes", "src/delivery/outcomes.c",
           "\toutcomes->unchanged++;\n\tif (change->unconfirmed && change->upsert_key)", "\toutcomes->unchanged++;\n\tif (false)",
           "campaignlark", "stale"),
    Mutant("do not store a withdrawal before the call", "src/delivery/intent.c",
           "contact->consent == CS_CONSENT_NO && known->found &&", "false && known->found &&", "mailingcore", "stale"),
    Mutant("let an older row of an address overwrite a newer one", "src/delivery/decide.c",
           "if (cs_change_is_outdated(change))", "if (false)", "campaignlark", "stale"),
]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--tree", "--bindir", "--work"):
        parser.add_argument(name, required=True)
    parser.add_argument("--seeds", type=int, default=30, help="histories for each mutant, at most")
    parser.add_argument("--seed", type=int, default=1, help="the first of them")
    parser.add_argument("names", nargs="*", help="only mutants whose names contain one of these")
    return parser.parse_args()


def install(options):
    subprocess.run(["make", "-s", "-C", options.tree, f"PG_CONFIG={options.bindir}/pg_config", "with_llvm=no", "-j2", "install"], check=True)


def verdicts(options, mutant):
    """Return the first verdict of the mutant's kinds in each history on the installed product, by seed."""
    run = subprocess.run(
        [sys.executable, os.path.join(HERE, "consent.py"), "--bindir", options.bindir, "--work", options.work, "--seed", str(options.seed),
         "--seeds", str(options.seeds), "--provider", mutant.provider, "--show", "1000"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    found = {}
    for seed, text in re.findall(rf"^seed (\d+), \w+: ((?:{mutant.kinds.replace(' ', '|')}): .*)$", run.stdout, re.M):
        found.setdefault(int(seed), text)
    return found


def try_mutant(options, mutant, without):
    """Return a verdict that the source as it is does not get, or None."""
    path = os.path.join(options.tree, mutant.file)
    with open(path) as file:
        source = file.read()
    if source.count(mutant.old) != 1:
        sys.exit(f"{mutant.name}: {mutant.file} has {source.count(mutant.old)} times: {mutant.old}")
    try:
        with open(path, "w") as file:
            file.write(source.replace(mutant.old, mutant.new))
        install(options)
        return next((f"seed {seed}, {text}" for seed, text in verdicts(options, mutant).items() if seed not in without), None)
    finally:
        with open(path, "w") as file:
            file.write(source)


def main():
    options, caught, survived = arguments(), 0, 0
    mutants = [mutant for mutant in MUTANTS if not options.names or any(name in mutant.name for name in options.names)]
    install(options)
    without = {key: verdicts(options, Mutant("none", None, None, None, *key))
               for key in sorted({(mutant.provider, mutant.kinds) for mutant in mutants})}
    for (provider, kinds), found in without.items():
        for seed, text in found.items():
            print(f"without a mutant, {provider}, seed {seed}: {text}; this history is left out", flush=True)
    for mutant in mutants:
        found = try_mutant(options, mutant, without[mutant.provider, mutant.kinds])
        caught, survived = caught + bool(found), survived + (not found)
        print(f"{'caught' if found else 'SURVIVED'}: {mutant.name}" + (f"\n    {found}" if found else ""), flush=True)
    install(options)
    print(f"\n{caught} caught, {survived} survived")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
