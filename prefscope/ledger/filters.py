"""The filter language: expressions over the columns of a ledger that select pairs.

    margin < 0 and len_c > 1.5 * len_r
    prompt ~ "python" and not flag(truncated)
    0 < dpo_loss <= 0.7 or outcome == "tie"

    any        := all ("or" all)*
    all        := truth ("and" truth)*
    truth      := "not" truth | comparison
    comparison := sum (("<" | "<=" | ">" | ">=" | "==" | "=" | "!=" | "~" | "!~") sum)*
    sum        := product (("+" | "-") product)*
    product    := factor (("*" | "/") factor)*
    factor     := "-" factor | number | "text" | column | `column` | @scope | function "(" argument ")" | "(" any ")"

Chained comparisons work as in Python. `~` tests whether a text contains another, ignoring case. Columns are referred to
by their names or aliases (columns.py), or by the names of the data set's own columns (names.py). `@name` stands for an
expression that a user has named (scopes.py). Comparisons with missing values are false. Only this grammar is evaluated,
never Python code.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, NoReturn, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from prefscope.flags import FLAGS
from prefscope.ledger.columns import FILTER_TRUTHS
from prefscope.ledger.lexemes import FilterError, Lexeme, lexemes_of
from prefscope.ledger.names import Kind, Names

__all__ = ["Filter", "FilterError", "Kind", "Names", "Source", "parse_filter"]

Values: TypeAlias = Any
"""An array with one value per pair, or a single value for all pairs."""
MARKS = ("any", "keep", "drop", "swap", "note")
LINT_CHECKS = (
    "duplicate_pairs",
    "contradictions",
    "chosen_and_rejected",
    "duplicate_prompts",
    "near_duplicate_pairs",
    "near_duplicate_prompts",
    "leaked_prompts",
    "telling_phrase",
    "identical_responses",
    "empty_responses",
    "repeated_prompt",
    "templated_text",
    "role_order",
    "encoding_damage",
    "white_space",
    "length_bias",
)
"""The checks of `prefscope lint`, except `bad_rows`. Their modules are only imported when a filter uses one."""
CHOICES: Mapping[str, Collection[str]] = {"flag": FLAGS, "mark": MARKS, "lint": LINT_CHECKS}
"""Valid arguments of the functions that take a word."""
WORDS = frozenset({"and", "or", "not"})
KIND_WORDS: Mapping[Kind, str] = {"number": "a number", "text": "a text", "truth": "a condition"}


class Source(Protocol):
    """The columns to which a filter is applied."""

    def column(self, name: str) -> Values:
        """Return the column with that full name."""

    def flagged(self, flag: str) -> NDArray[np.bool_]:
        """Return which pairs have a flag."""

    def marked(self, mark: str) -> NDArray[np.bool_]:
        """Return which pairs have a mark of the user."""

    def linted(self, check: str) -> NDArray[np.bool_]:
        """Return which pairs a lint check has found."""


@dataclass(frozen=True, slots=True)
class Filter:
    """A parsed expression."""

    text: str
    evaluate: Callable[[Source], Values]

    def mask(self, source: Source, size: int) -> NDArray[np.bool_]:
        """Return which pairs match. Shape (size,)."""
        try:
            with np.errstate(all="ignore"):
                return np.broadcast_to(np.asarray(self.evaluate(source), dtype=np.bool_), (size,))
        except RecursionError:
            raise _too_deep(self.text) from None


def parse_filter(text: str, names: Names, scopes: Mapping[str, str] | None = None) -> Filter:
    """Parse an expression; an empty one matches every pair.

    Args:
        text: The expression.
        names: The columns it may refer to.
        scopes: Named expressions.

    Raises:
        FilterError: If the expression is malformed, has an unknown column or scope, or compares values of different
            types.
    """
    text = " ".join(text.splitlines())
    if not text.strip():
        return Filter(text, lambda _: True)
    try:
        return Filter(text, _Parser(text, names, scopes or {}).parse())
    except RecursionError:
        raise _too_deep(text) from None


def _too_deep(text: str) -> FilterError:
    return FilterError("This expression is nested too deeply or is too long", text, 0, len(text))


@dataclass(frozen=True, slots=True)
class _Part:
    """A parsed subexpression: its type, its position in the text, and a function that evaluates it."""

    kind: Kind
    start: int
    stop: int
    evaluate: Callable[[Source], Values]


_ORDER: Mapping[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "=": operator.eq,
    "!=": operator.ne,
}
_ARITHMETIC: Mapping[str, Callable[[Any, Any], Any]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
}


class _Parser:
    """A recursive descent parser with one method per rule of the grammar."""

    def __init__(self, text: str, names: Names, scopes: Mapping[str, str]) -> None:
        self.text = text
        self.names = names
        self.scopes = scopes
        self.lexemes = [*lexemes_of(text)]
        self.at = 0

    @property
    def next(self) -> Lexeme:
        return self.lexemes[self.at]

    def _take(self, *texts: str) -> Lexeme | None:
        """Consume and return the next lexeme if it is one of these words or signs."""
        lexeme = self.next
        if lexeme.kind in {"name", "sign"} and lexeme.text in texts:
            self.at += 1
            return lexeme
        return None

    def _fail(self, problem: str, start: int, stop: int, hint: str = "") -> NoReturn:
        raise FilterError(problem, self.text, start, stop, hint=hint)

    def _expect(self, part: _Part, kind: Kind, hint: str = "") -> _Part:
        if part.kind != kind:
            problem = f"This is {KIND_WORDS[part.kind]}, but {KIND_WORDS[kind]} is needed"
            self._fail(problem, part.start, part.stop, hint)
        return part

    def parse(self) -> Callable[[Source], Values]:
        """Parse the whole expression and return the function that evaluates it."""
        whole = self._expect(self._any(), "truth", "Compare it: margin < 0.")
        if self.next.kind != "end":
            hint = "Join conditions with and, or."
            self._fail("The expression should end here", self.next.start, self.next.stop, hint)
        return whole.evaluate

    def _any(self) -> _Part:
        return self._joined("or", self._all, np.logical_or)

    def _all(self) -> _Part:
        return self._joined("and", self._truth, np.logical_and)

    def _joined(self, word: str, rule: Callable[[], _Part], join: Callable[[Any, Any], Any]) -> _Part:
        left = rule()
        while self._take(word):
            self._expect(left, "truth", "Compare it: margin < 0.")
            right = self._expect(rule(), "truth", "Compare it: margin < 0.")
            left = _combined("truth", left, right, join)
        return left

    def _truth(self) -> _Part:
        word = self._take("not")
        if word is None:
            return self._comparison()
        part = self._expect(self._truth(), "truth", "Compare it: not margin < 0.")
        return _Part("truth", word.start, part.stop, lambda source: np.logical_not(part.evaluate(source)))

    def _comparison(self) -> _Part:
        left = self._sum()
        whole: _Part | None = None
        while sign := self._take(*_ORDER, "~", "!~"):
            right = self._sum()
            link = self._compared(left, sign, right)
            whole = link if whole is None else _combined("truth", whole, link, np.logical_and)
            left = right
        return whole or left

    def _compared(self, left: _Part, sign: Lexeme, right: _Part) -> _Part:
        """Parse one comparison of a chain."""
        if sign.text in {"~", "!~"}:
            self._expect(left, "text", '~ searches a text for another: prompt ~ "python".')
            self._expect(right, "text", 'Put the text in quotes: prompt ~ "python".')
            return _combined("truth", left, right, _contains if sign.text == "~" else _does_not_contain)
        if left.kind != right.kind:
            problem = f"{KIND_WORDS[left.kind].capitalize()} cannot be compared with {KIND_WORDS[right.kind]}"
            self._fail(problem, left.start, right.stop)
        if left.kind != "number" and sign.text not in {"==", "=", "!="}:
            self._fail(f"{sign.text} only works with numbers", sign.start, sign.stop, "Use ==, != or ~.")
        return _combined("truth", left, right, _ORDER[sign.text])

    def _sum(self) -> _Part:
        return self._calculated(self._product, "+", "-")

    def _product(self) -> _Part:
        return self._calculated(self._factor, "*", "/")

    def _calculated(self, rule: Callable[[], _Part], *signs: str) -> _Part:
        left = rule()
        while sign := self._take(*signs):
            right = self._expect(rule(), "number")
            left = _combined("number", self._expect(left, "number"), right, _ARITHMETIC[sign.text])
        return left

    def _factor(self) -> _Part:
        lexeme = self.next
        if self._take("-"):
            part = self._expect(self._factor(), "number")
            return _Part("number", lexeme.start, part.stop, lambda source: np.negative(part.evaluate(source)))
        if self._take("("):
            part = self._any()
            return replace(part, start=lexeme.start, stop=self._close(lexeme).stop)
        reads = {
            "number": _number,
            "text": _text,
            "quoted": self._column,
            "scope": self._scope,
            "name": self._named,
        }
        if lexeme.kind not in reads or lexeme.text in WORDS:
            ended = "Something is missing at the end"
            what = ended if lexeme.kind == "end" else "A column or a value is expected here"
            self._fail(what, lexeme.start, lexeme.stop)
        self.at += 1
        return reads[lexeme.kind](lexeme)

    def _close(self, opening: Lexeme) -> Lexeme:
        closing = self._take(")")
        if closing is None:
            self._fail("This bracket is not closed", opening.start, opening.stop)
        return closing

    def _named(self, lexeme: Lexeme) -> _Part:
        """Parse a function call, a constant or a column."""
        if self._take("("):
            return self._call(lexeme)
        if lexeme.text in FILTER_TRUTHS:
            truth = lexeme.text == "true"
            return _Part("truth", lexeme.start, lexeme.stop, lambda _: truth)
        return self._column(lexeme)

    def _column(self, lexeme: Lexeme) -> _Part:
        name = self.names.full(lexeme.text)
        if name is None:
            what, hint = self.names.problem(lexeme.text)
            if lexeme.text not in self.names.ambiguous:
                hint = f'{hint} Texts must be in quotes: "{lexeme.text}".'.strip()
            self._fail(what, lexeme.start, lexeme.stop, hint)
        return _Part(self.names.kinds[name], lexeme.start, lexeme.stop, lambda source: source.column(name))

    def _scope(self, lexeme: Lexeme) -> _Part:
        """Parse the expression that a name stands for; it cannot refer to itself."""
        expression = self.scopes.get(lexeme.text)
        if expression is None:
            listed = ", ".join(f"@{name}" for name in self.scopes)
            hint = f"There are {listed}." if listed else "Name one on the screens, in the command palette."
            self._fail(f"There is no scope @{lexeme.text}", lexeme.start - 1, lexeme.stop, hint)
        others = {name: one for name, one in self.scopes.items() if name != lexeme.text}
        try:
            found = parse_filter(expression, self.names, others)
        except FilterError as error:
            self._fail(f"The scope @{lexeme.text} ({expression}) fails: {error.what}", lexeme.start - 1, lexeme.stop)
        return _Part("truth", lexeme.start - 1, lexeme.stop, found.evaluate)

    def _call(self, function: Lexeme) -> _Part:
        if function.text == "abs":
            part = self._expect(self._sum(), "number")
            closing = self._close(function)
            return _Part("number", function.start, closing.stop, lambda source: np.abs(part.evaluate(source)))
        choices = CHOICES.get(function.text)
        if choices is None:
            hint = "The functions are abs, flag, lint and mark."
            self._fail(f"There is no function {function.text}", function.start, function.stop, hint)
        argument = self.next
        wanted = argument.text.strip("\"'")
        if argument.kind not in {"name", "text"} or wanted not in choices:
            hint = f"Choose from: {', '.join(choices)}."
            self._fail(f"There is no such {function.text}", argument.start, argument.stop, hint)
        self.at += 1
        closing = self._close(function)
        pick = _FUNCTIONS[function.text]
        return _Part("truth", function.start, closing.stop, lambda source: pick(source, wanted))


_FUNCTIONS: Mapping[str, Callable[[Source, str], NDArray[np.bool_]]] = {
    "flag": lambda source, name: source.flagged(name),
    "mark": lambda source, name: source.marked(name),
    "lint": lambda source, name: source.linted(name),
}


def _number(lexeme: Lexeme) -> _Part:
    number = float(lexeme.text)
    return _Part("number", lexeme.start, lexeme.stop, lambda _: number)


def _text(lexeme: Lexeme) -> _Part:
    text = re.sub(r"\\(.)", r"\1", lexeme.text[1:-1])
    return _Part("text", lexeme.start, lexeme.stop, lambda _: text)


def _combined(kind: Kind, left: _Part, right: _Part, join: Callable[[Any, Any], Any]) -> _Part:
    def evaluate(source: Source) -> Values:
        return join(left.evaluate(source), right.evaluate(source))

    return _Part(kind, left.start, right.stop, evaluate)


def _contains(texts: Values, wanted: Values) -> NDArray[np.bool_]:
    """Return which texts contain the other text, ignoring case."""
    pairs = np.broadcast(np.asarray(texts, dtype=object), np.asarray(wanted, dtype=object))
    found = [str(one).casefold() in str(text).casefold() for text, one in pairs]
    return np.array(found, dtype=np.bool_).reshape(pairs.shape)


def _does_not_contain(texts: Values, wanted: Values) -> NDArray[np.bool_]:
    return np.logical_not(_contains(texts, wanted))
