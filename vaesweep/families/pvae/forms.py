"""The kinds of `--data` of audiograms, for help pages, which are printed without models and loaders."""

DATA_FORMS = ("synthetic", "synthetic_wide", "nhanes:DIR", "csv:FILE")
