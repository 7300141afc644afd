"""What a reader has passed, kept in a file beside the notebook, and the bar that shows it."""


class Bar:
    """How much of a notebook's exercises and quizzes is done.

    Args:
        notebook: The notebook's number, as in "02".
        names: Its exercises and quizzes.
    """

    def __init__(self, notebook: str, names: tuple[str, ...]) -> None:
        self.notebook, self.names = notebook, names

    def __repr__(self) -> str:
        """Return the bar as text."""
        return f"Notebook {int(self.notebook)}: 0 of {len(self.names)} done."
