"""The commands of `din-infer`, one module each; `register(app)` adds what the module has."""

ORDER = (
    "data",
    "schema",
    "train",
    "evaluate",
    "experiment",
    "export",
    "validate",
    "inspect",
    "score",
    "explain",
    "bench",
)
