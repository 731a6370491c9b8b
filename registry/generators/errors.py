"""Why a generator makes no file, though nothing is broken."""


class NothingToDo(Exception):
    """The variant would compute exactly as its source does, or cannot be made from this model; the message says why."""
