"""A xenstore client that never hangs, over pyxs: both platforms use it."""
