"""Probes that ask another implementation's end, from outside, whether it keeps the document's requirements.

A *probe* is one function of one end under test. It names the requirements it is the test of, does what the peer of that
end would do, and ends in one of four ways:

    returns                 the requirement is kept, as far as can be seen
    Failed                  it is not (as is any AssertionError: what should have come did not)
    Differs                 an erratum is about it, and the end chose another way than ours; names the erratum
    NotObservable           this time it could not be seen, and why

:mod:`refimpl.conform.backend` has the probes of a backend, :mod:`refimpl.conform.frontend` those of a frontend, one
module a section of the document; :mod:`refimpl.conform.walk` carries them out, :mod:`refimpl.conform.report` prints.
Nothing of refimpl's own ends is used: the probes read and write raw bytes (:mod:`refimpl.testing.raw`).
"""
