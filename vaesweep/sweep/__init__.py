"""Cells, packs, Ray trainables, the runner and tracking: the only package that uses both Ray and MLflow."""
