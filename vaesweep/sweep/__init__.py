"""Cells, packs, Ray trainables, the runner and tracking: the only room that knows both Ray and MLflow."""
