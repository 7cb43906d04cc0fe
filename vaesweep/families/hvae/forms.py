"""The kinds of `--data` of images, for help pages, which are printed without models and loaders."""

DATA_FORMS = ("poisson", "mnist:DIR", "binarised_mnist:DIR", "folder:DIR")
