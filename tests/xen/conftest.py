"""What is under dom0/ and guest/ runs inside Xen only: tests/xen/run boots it."""

import os

#: Set by the first process of the domains that the harness boots.
collect_ignore = [] if os.environ.get("REFIMPL_XEN") else ["dom0", "guest"]
