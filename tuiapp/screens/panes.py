"""Screens of several panes: the focused one can have the whole screen, and so can one that has no room beside the others."""

from tuiapp.screens.base import DeckScreen


class PanesScreen(DeckScreen):
    """`main` is the pane that is zoomed where none has the focus."""

    main = ""

    def __init__(self) -> None:
        super().__init__()
        self._zoom: str | None = None
        """The pane that has the whole screen."""

    def action_zoom(self) -> None:
        """The focused pane over the whole screen, and back."""
        if self._zoom is not None:
            self._unzoom()
        else:
            self._zoom_to(self.focused.id if self.focused is not None and self.focused.id else self.main)

    def go_to(self, pane: str) -> None:
        """Focus a pane; one that has no room here gets the whole screen."""
        if self._zoom == pane:
            self._unzoom()
        elif self._zoom is not None or not self.query_one(f"#{pane}").display:
            self._zoom_to(pane)
        else:
            self.query_one(f"#{pane}").focus()

    def _zoom_to(self, pane: str) -> None:
        self._zoom = pane
        self.refresh_all()
        self.query_one(f"#{pane}").focus()

    def _unzoom(self) -> None:
        zoomed, self._zoom = self._zoom, None
        self.refresh_all()
        if zoomed and self.query_one(f"#{zoomed}").display:
            self.query_one(f"#{zoomed}").focus()
