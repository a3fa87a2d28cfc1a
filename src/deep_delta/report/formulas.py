"""The update and its meaning as MathML, which browsers set without any script."""

from __future__ import annotations

from deep_delta.report.html import Html, tag


def _row(*parts: Html) -> Html:
    return tag("mrow", *parts)


def _name(letter: str) -> Html:
    return tag("mi", letter)


def _sign(sign: str) -> Html:
    return tag("mo", sign)


def _transposed(letter: str) -> Html:
    return tag("msup", _name(letter), _sign("⊤"))


def _math(*parts: Html) -> Html:
    return tag("math", _row(*parts), xmlns="http://www.w3.org/1998/Math/MathML")


UPDATE = _math(
    tag("msup", _name("X"), _sign("′")), _sign("="), _name("X"), _sign("+"), _name("β"), _name("k"),
    _row(_sign("("), _transposed("v"), _sign("−"), _transposed("k"), _name("X"), _sign(")")),
)  # fmt: skip
"""X′ = X + βk(v⊤ − k⊤X), Deep Delta Learning, Eq. 2.2."""

EIGENVALUE = _math(
    tag("mn", "1"), _sign("−"), _name("β"), tag("msup", _row(_sign("‖"), _name("k"), _sign("‖")), tag("mn", "2"))
)


def explanation() -> Html:
    """What β does, for a reader who sees the heat maps first."""
    return tag(
        "div",
        tag("p", "Every sublayer rewrites what the state X holds along one direction k:"),
        tag("p", UPDATE, class_="formula"),
        tag(
            "p",
            "The gate β is between 0 and 2. At 0 the state passes unchanged; at 1 what is read along k is replaced by "
            "v; at 2 it is reflected. The eigenvalue of the update along k is ",
            EIGENVALUE,
            ", so beyond 1 it is negative.",
        ),
    )
