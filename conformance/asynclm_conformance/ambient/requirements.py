"""Every requirement that the ambient checks can find broken."""

from __future__ import annotations

_NUMBERS = {
    "BIND": "001 002 005 006 007 008",
    "CALL": "001 004 006 010 011 012 014 022 041 051 070 071 072 073 074 076 090 113",
    "CML": "054",
    "INT": "002 004 011 012 020 021 022 025 030 040 043 044 045 046 062",
    "LIM": "002",
    "SEC": "022",
    "SES": "001 010 012 014 015 019 041 042 047 049 060 066 073 074 076 078 090 091 092 094 095 100 102 103 116",
    "TRAP": "001 002 010 012 020 021 031 040 043 044",
    "WIRE": "010 011 014 019 031 041 050 051 052 053 055 057 058 062 063 068 070 072 074 080 081 083 091 119",
}

REQUIREMENTS = frozenset(f"{area}-{number}" for area, numbers in _NUMBERS.items() for number in numbers.split())
"""Their ids."""
