"""Figures with their intervals, as the terminal shows them."""

from __future__ import annotations

from mgc.evaluation.bootstrap import Figure


def figure_text(figure: Figure, *, signed: bool = False) -> str:
    """Return a figure with its interval; `signed` for a difference."""
    if figure.value is None:
        return "not defined"
    form = "+.3f" if signed else ".3f"
    text = format(figure.value, form)
    return text if figure.low is None else f"{text}  [{format(figure.low, form)}, {format(figure.high, form)}]"
