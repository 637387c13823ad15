"""All mutants: importing this registers those of every file of faults."""

from __future__ import annotations

from tests.mutants import (
    faults_calls,
    faults_cml,
    faults_errors,
    faults_interrupts,
    faults_limits,
    faults_scripts,
    faults_session,
    faults_traps,
    faults_wire,
)
from tests.mutants.mutant import MUTANTS, Mutant

__all__ = ["FILES", "MUTANTS", "Mutant"]

FILES = (
    faults_calls,
    faults_cml,
    faults_errors,
    faults_interrupts,
    faults_limits,
    faults_scripts,
    faults_session,
    faults_traps,
    faults_wire,
)
