"""Published models from the command line: ``python -m pipelines models``.

command.py      the actions and their options
describe.py     versions as lines of text
difference.py   what two versions differ in
hub.py          a version to the Hugging Face hub
published.py    which version is meant, and what it says of itself
"""
