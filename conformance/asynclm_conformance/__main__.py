"""`python -m asynclm_conformance`: the same as `asynclm-conformance`."""

from asynclm_conformance.cli.main import main

main()
