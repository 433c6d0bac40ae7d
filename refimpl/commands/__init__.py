"""Section *Commands Ring*: the ring, the seven commands, what a new one would take, error numbers and addresses.

One module a command holds its request's layout, what the frontend sends, and what the backend does, step by step.
"""
