"""Section *Indexes Page and Data ring*: the page of indexes and grants, the two byte rings, and how data moves."""
