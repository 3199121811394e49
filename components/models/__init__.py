"""Published models: where they lie, which version is the latest, and what each says of itself.

    catalog.py   names and versions in the store, ``latest.json`` and how it moves
    record.py    what a version's manifest says of how it was made

Publishing one is `components.convert`'s.
"""
