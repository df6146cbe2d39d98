#!/usr/bin/python3
"""Break the source on purpose, one rule at a time, and check that consent.py notices.

usage: mutants.py --tree DIR --bindir DIR --work DIR [NAME ...]

Each mutant replaces pieces of the source by others that compile and violate a rule of docs/consent.md. It has the histories that show
it, and is caught if one of them gets a failing verdict that it does not get with the source as it is. A mutant whose piece is not in
the source exactly once is an error: change it with the source. If the actions of consent_history.py change, its seeds make other
choices; --find tells which seeds catch it then.
"""

import argparse
import collections
import os
import re
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
STEPS = 12

# What is broken, as (file, piece, replacement) each; and the histories that show it: a provider, the actions that they choose
# from, their seeds, and the kinds of verdicts.
Mutant = collections.namedtuple("Mutant", "name pieces provider acts seeds kinds")

MUTANTS = [
    Mutant("claim a consent again that was claimed or closed",
           [("src/delivery/claim.c", "\tif (cs_claim_is_closed(facts))\n\t\treturn CS_CLAIM_NOT;\n", "\treturn CS_CLAIM;\n")],
           "mailingcore", "rename,everybody_leaves", "1", "resubscribed claimed"),
    Mutant("take every live change for a word",
           [("src/delivery/claim.c", "return facts->row->opt_in == CS_CONSENT_NO;\n}", "return true;\n}")],
           "campaignlark", "rename,everybody_leaves", "1", "resubscribed claimed"),
    Mutant("do not list who is at the provider before the first claim",
           [("src/delivery/known.c", "\tif (cs_pull_has_to_wait(account, contact, cs_claim_is_remembered(&facts)))\n\t\treturn CS_KNOWN_AFTER_PULL;\n"
             "\tresolve_claim(account, &item->person.listed, facts.moves_on, contact);\n",
             "\tif (contact->claim == CS_CLAIM_IF_NEW)\n\t\tcontact->claim = CS_CLAIM;\n\t(void) resolve_claim;\n")],
           "mailingcore", "insert,rename", "2", "resubscribed claimed"),
    Mutant("forget consent when a contact has gone",
           [("src/delivery/outcome_writer.c", "if (n == 0 || account->consents.account == 0)", "if (true)")],
           "mailingcore", "delete_for_good,come_back", "11", "resubscribed claimed"),
    Mutant("remember consent by the key of a contact only, not by the address",
           [("src/delivery/person.c", "if (known->synced_at == 0)\n\t\treturn;", "if (true)\n\t\treturn;")],
           "mailingcore", "new_address,external,delete,come_back", "1", "resubscribed claimed"),
    Mutant("take a contact that existed at Owlat for a new one",
           [("src/provider/owlat/request.c", "(contact->claim == CS_CLAIM_IF_NEW && is_new)", "contact->claim == CS_CLAIM_IF_NEW")],
           "owlat", "insert,rename", "2", "resubscribed claimed"),
    Mutant("create a contact at Spotzee without consent",
           [("src/delivery/withhold.c", "if (cs_provider_mails_whoever_exists(endpoint) == NULL || contact->known)", "if (true)")],
           "spotzee", "insert,rename", "1", "resubscribed claimed"),
    Mutant("remove a contact that another row stands for",
           [("src/delivery/removal.c", "|| is_stood_for(lane, &known))", "|| (false && is_stood_for(lane, &known)))"),
            ("src/delivery/removal.c", "if (departure->stands ||", "if (")],
           "campaignlark", "duplicate,delete,second_table", "1", "removed"),
    Mutant("do not remove a contact whose last row has gone",
           [("src/delivery/outcome_writer.c", "cs_departure_store(endpoint, outcomes->departures.n,", "cs_departure_store(endpoint, 0,")],
           "campaignlark", "insert,delete", "1", "left"),
    Mutant("forget that a call was not answered when the row goes",
           [("src/delivery/outcomes.c", "\toutcomes->unchanged++;\n\tif (change->unconfirmed && change->upsert_key)",
             "\toutcomes->unchanged++;\n\tif (false)")],
           "campaignlark", "lose_change", "5 6", "stale"),
    Mutant("do not store a withdrawal before the call",
           [("src/delivery/intent.c", "if (contact->consent != CS_CONSENT_NO)", "if (true)")],
           "mailingcore", "lose_withdrawal", "1 2", "stale"),
    Mutant("let an older row of an address overwrite a newer one",
           [("src/delivery/decide.c", "\tif (is_outdated(item))\n", "\tif (false)\n")],
           "campaignlark", "change_in_turn", "1", "stale"),
]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--tree", "--bindir", "--work"):
        parser.add_argument(name, required=True)
    parser.add_argument("--find", type=int, metavar="N", help="try the seeds from 1 to N instead, and print all that catch a mutant")
    parser.add_argument("names", nargs="*", help="only mutants whose names contain one of these")
    return parser.parse_args()


def install(options):
    subprocess.run(["make", "-s", "-C", options.tree, f"PG_CONFIG={options.bindir}/pg_config", "with_llvm=no", "-j2", "install"], check=True)


def verdicts(options, mutant):
    """Return the first verdict of the mutant's kinds in each of its histories on the installed product, by seed."""
    seeds = range(1, options.find + 1) if options.find else mutant.seeds.split()
    run = subprocess.run(
        [sys.executable, os.path.join(HERE, "consent.py"), "--bindir", options.bindir, "--work", options.work, "--these",
         ",".join(map(str, seeds)), "--providers", mutant.provider, "--acts", mutant.acts, "--steps", str(STEPS), "--show", "1000"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if len(re.findall(r"^seed \d+: ", run.stdout, re.M)) < len(seeds):
        sys.exit(f"{mutant.name}: the histories did not end:\n{run.stdout}")
    found = {}
    for seed, text in re.findall(rf"^seed (\d+), \w+: ((?:{mutant.kinds.replace(' ', '|')}): .*)$", run.stdout, re.M):
        found.setdefault(int(seed), text)
    return found


def misfits(tree):
    """Return the pieces that are not in the source exactly once."""
    found = []
    for mutant in MUTANTS:
        for name, old, _ in mutant.pieces:
            with open(os.path.join(tree, name), encoding="utf-8") as file:
                count = file.read().count(old)
            if count != 1:
                found.append(f"{mutant.name}: {name} has {count} times: {old}")
    return found


def break_source(options, mutant):
    """Replace the pieces of a mutant, and return the files as they were."""
    files = {}
    for name, old, new in mutant.pieces:
        path = os.path.join(options.tree, name)
        with open(path, encoding="utf-8") as file:
            source = file.read()
        files.setdefault(path, source)
        with open(path, "w", encoding="utf-8") as file:
            file.write(source.replace(old, new))
    return files


def try_mutant(options, mutant, without):
    """Return the verdicts that the source as it is does not get."""
    files = break_source(options, mutant)
    try:
        install(options)
        return [f"seed {seed}, {text}" for seed, text in sorted(verdicts(options, mutant).items()) if seed not in without]
    finally:
        for path, source in files.items():
            with open(path, "w", encoding="utf-8") as file:
                file.write(source)


def main():
    options, caught, survived = arguments(), 0, 0
    if misfits(options.tree):
        sys.exit("\n".join(misfits(options.tree)))
    mutants = [mutant for mutant in MUTANTS if not options.names or any(name in mutant.name for name in options.names)]
    install(options)
    without = {mutant.name: verdicts(options, mutant) for mutant in mutants}
    for mutant in mutants:
        for seed, text in without[mutant.name].items():
            print(f"without a mutant, {mutant.provider}, seed {seed}: {text}; this history is left out", flush=True)
        found = try_mutant(options, mutant, without[mutant.name])
        caught, survived = caught + bool(found), survived + (not found)
        print(f"{'caught' if found else 'SURVIVED'}: {mutant.name}", flush=True)
        for text in found if options.find else found[:1]:
            print(f"    {text}", flush=True)
    install(options)
    print(f"\n{caught} caught, {survived} survived")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
