"""Section *Xenstore*: how the two ends find each other, what they publish, and the XenBus state machine."""
