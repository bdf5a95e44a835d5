"""Where a transcript's output is gathered."""


class Telling:
    """Lines of output: news always, details unless asked to be quiet."""

    def __init__(self) -> None:
        self.quiet = False
        self._lines: list[str] = []

    def news(self, line: str) -> None:
        """What becomes of a node, and answers."""
        self._lines.append(line)

    def detail(self, line: str) -> None:
        """What is sent, received, stored and applied on the way."""
        if not self.quiet:
            self._lines.append(line)

    def taken(self) -> list[str]:
        """All lines since the last call."""
        lines, self._lines = self._lines, []
        return lines
