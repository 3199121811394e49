"""Clean-up of the store: what nothing refers to any more goes, and everything else says why it stays.

contents.py   what the store holds, read once: the listing, and what its records refer to
policy.py     how long what nobody refers to stays
roots.py      what is reachable: versions that stay, what they refer to, what is under way
groups.py     objects that go or stay, by the reason why
plan.py       what goes and what stays, and why: a function of contents and policy
runs.py       the same for one training run
uploads.py    files sent in parts whose sender was killed
sweep.py      deleting it, references before contents
command.py    the ``gc`` command
"""
