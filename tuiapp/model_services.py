"""What the model step asks for, whoever answers."""

from typing import Protocol

from tuiapp.model_values import FitRow, ModelLine, ModelPage


class ModelServices(Protocol):
    """What the step asks for. All but `model_fits` may block; none of it asks the network."""

    def model_names(self) -> tuple[ModelLine, ...]:
        """The models of this machine and of the catalog by name alone, at once."""

    def model_page(self, chosen: str = "") -> ModelPage:
        """All of them with facts and verdicts, and `chosen` where it is none of them."""

    def about_model(self, text: str) -> ModelLine:
        """What is known of a path or a hub id that is typed."""

    def model_fits(self, path: str) -> tuple[FitRow, ...]:
        """The usual ways to train a model that was looked at: arithmetic, no file is read."""
