"""What can go wrong, as types. Every message says what was expected and what came."""


class DINError(Exception):
    """Base of all errors that din_infer raises on purpose."""


class SchemaError(DINError, ValueError):
    """A schema or the semantics of a model contradict themselves or name something unknown."""


class InputError(DINError, ValueError):
    """Requests do not fit the schema: wrong dtype or shape, missing or unknown columns, bad offsets."""


class DataError(DINError, ValueError):
    """A data file or folder is missing, or does not hold what its format promises."""


class TrainingError(DINError, ArithmeticError):
    """A training diverged: its loss or its probabilities are not finite."""


class ModelFileError(DINError, ValueError):
    """A model file is damaged, hostile, of another format version, or not a DIN that is understood."""


class MissingExtraError(DINError, ImportError):
    """An optional dependency is needed; the message names the extra that installs it."""


class OutputError(DINError, OSError):
    """Results cannot be written: no space, no permission, no such folder. What was written before is kept."""
