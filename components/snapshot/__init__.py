"""snapshot: what the data set, the base model and the published model are right now."""
