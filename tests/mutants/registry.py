"""All mutants: importing this registers those of every file of faults."""

from __future__ import annotations

from types import ModuleType

from tests.mutants import (
    faults_calls,
    faults_cml,
    faults_errors,
    faults_hosted,
    faults_interrupts,
    faults_limits,
    faults_scripts,
    faults_session,
    faults_traps,
    faults_weights,
    faults_wire,
)
from tests.mutants.mutant import MUTANTS, Mutant

__all__ = ["FILES", "MUTANTS", "Mutant", "mutants_of", "subject_of"]

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
    faults_weights,
    faults_hosted,
)


def mutants_of(file: ModuleType) -> list[Mutant]:
    """The mutants of one file of faults, in its order."""
    return [mutant for mutant in MUTANTS.values() if mutant.patch.__module__ == file.__name__]


def subject_of(file: ModuleType) -> str:
    """What the faults of a file are about."""
    return (file.__doc__ or "").partition("\n")[0].rstrip(".")
