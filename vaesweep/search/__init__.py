"""Searches over training configurations: a declared space, an Optuna study, rounds of packs, confirmation, report."""
