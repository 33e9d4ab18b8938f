"""The filter language: expressions over the columns of a ledger that select pairs.

    margin < 0 and len_c > 1.5 * len_r
    prompt ~ "python" and not flag(truncated)
    0 < dpo_loss <= 0.7 or outcome == "tie"

    any        := all ("or" all)*
    all        := truth ("and" truth)*
    truth      := "not" truth | comparison
    comparison := sum (("<" | "<=" | ">" | ">=" | "==" | "!=" | "~" | "!~") sum | ["not"] "in" list)*
    list       := "(" sum ("," sum)* ")"
    sum        := product (("+" | "-") product)*
    product    := factor (("*" | "/") factor)*
    factor     := "-" factor | number | "text" | column | `column` | @scope | function "(" argument ")" | "(" any ")"

Chained comparisons work as in Python. `~` tests whether a text contains another, ignoring case; `has("python")`
searches prompt, chosen and rejected, `matches("pyth.n")` searches them for an RE2 pattern (search.py). Columns are
referred to by their names or aliases (columns.py), or by the names of the data set's own columns (names.py). `@name`
stands for an expression that a user has named (scopes.py). Comparisons with missing values are false. The operators
`&&`, `||`, `!`, `=`, `<>` and words in capitals mean what they mean in other languages. Only this grammar is evaluated,
never Python code.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from prefscope.ledger.columns import FILTER_TRUTHS
from prefscope.ledger.filter_functions import CHOICES, FUNCTIONS, INSTEAD, SEARCHES
from prefscope.ledger.lexemes import FilterError, Lexeme, lexemes_of
from prefscope.ledger.names import Kind, Names
from prefscope.ledger.plain_search import written
from prefscope.ledger.search import Needle, problem_of

__all__ = ["Filter", "FilterError", "Kind", "Names", "Source", "Uses", "parse_filter"]

Values: TypeAlias = Any
"""An array with one value per pair, or a single value for all pairs."""
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

    def searched(self, needle: Needle) -> NDArray[np.bool_]:
        """Return which pairs have a text or pattern in their prompt, chosen or rejected response."""


@dataclass(slots=True)
class Uses:
    """What an expression refers to."""

    columns: set[str] = field(default_factory=set)
    """Full names of columns."""
    functions: set[str] = field(default_factory=set)
    needles: list[Needle] = field(default_factory=list)
    """What `has` and `matches` search for, in the order of the expression."""
    values: list[tuple[str, str]] = field(default_factory=list)
    """Texts with which text columns are compared by ==, != or in: pairs of column and text."""
    contained: list[str] = field(default_factory=list)
    """Texts that `~` looks for in columns."""

    def add(self, other: Uses) -> None:
        """Add what another expression refers to."""
        self.columns |= other.columns
        self.functions |= other.functions
        self.needles += other.needles
        self.values += other.values
        self.contained += other.contained


@dataclass(frozen=True, slots=True)
class Filter:
    """A parsed expression."""

    text: str
    evaluate: Callable[[Source], Values]
    uses: Uses = field(default_factory=Uses)

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
        parser = _Parser(text, names, scopes or {})
        return Filter(text, parser.parse(), parser.uses)
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
    column: str = ""
    """Full name of the column, if the part is nothing but a column."""
    literal: str | None = None
    """The text, if the part is nothing but a text in quotes."""


_ORDER: Mapping[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
_LIST = 'Write category in ("a", "b").'
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
        self.uses = Uses()
        self.lexemes = [*map(self._spelled, lexemes_of(text))]
        self.at = 0

    def _spelled(self, lexeme: Lexeme) -> Lexeme:
        """Return a word of the language in lower case, unless a column has its name."""
        plain = lexeme.text.lower()
        is_word = lexeme.kind == "name" and plain in {*WORDS, "in", *FILTER_TRUTHS}
        return replace(lexeme, text=plain) if is_word and self.names.full(lexeme.text) is None else lexeme

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
            if part.literal and kind == "truth":
                hint = f"Search for it: {written(Needle(part.literal))}."
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
        is_negated = self.next.text == "not" and self.lexemes[self.at + 1].text == "in"
        self.at += is_negated
        if word := self._take("in"):
            link = self._member(left, word, is_negated=is_negated)
            whole = link if whole is None else _combined("truth", whole, link, np.logical_and)
        if self.next.kind == "name" and (hint := INSTEAD.get(self.next.text.lower(), "")):
            self._fail(f"There is no operator {self.next.text}", self.next.start, self.next.stop, hint)
        return whole or left

    def _member(self, left: _Part, word: Lexeme, *, is_negated: bool) -> _Part:
        """Parse a list of values, and test whether a column has one of them."""
        opening = self._take("(")
        if opening is None:
            self._fail("A list of values is expected here", self.next.start, self.next.stop, _LIST)
        links = [self._compared(left, replace(word, text="=="), self._sum())]
        while self._take(","):
            links.append(self._compared(left, replace(word, text="=="), self._sum()))
        closing = self._close(opening)

        def evaluate(source: Source) -> Values:
            found = functools.reduce(np.logical_or, (link.evaluate(source) for link in links))
            return np.logical_not(found) if is_negated else found

        return _Part("truth", left.start, closing.stop, evaluate)

    def _compared(self, left: _Part, sign: Lexeme, right: _Part) -> _Part:
        """Parse one comparison of a chain."""
        if sign.text in {"~", "!~"}:
            self._expect(left, "text", '~ searches a text for another: prompt ~ "python".')
            self._expect(right, "text", 'Put the text in quotes: prompt ~ "python".')
            self.uses.contained += [right.literal] if right.literal and sign.text == "~" else []
            return _combined("truth", left, right, _contains if sign.text == "~" else _does_not_contain)
        if left.kind != right.kind:
            problem = f"{KIND_WORDS[left.kind].capitalize()} cannot be compared with {KIND_WORDS[right.kind]}"
            self._fail(problem, left.start, right.stop)
        if left.kind != "number" and sign.text not in {"==", "!="}:
            self._fail(f"{sign.text} only works with numbers", sign.start, sign.stop, "Use ==, != or ~.")
        for one, other in ((left, right), (right, left)):
            if one.column and other.literal is not None:
                self.uses.values.append((one.column, other.literal))
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
        if closing is None and self.next.text == ",":
            self._fail("A list can only follow in", opening.start, self.next.stop, _LIST)
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
        self.uses.columns.add(name)
        return _Part(self.names.kinds[name], lexeme.start, lexeme.stop, lambda source: source.column(name), column=name)

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
        self.uses.add(found.uses)
        return _Part("truth", lexeme.start - 1, lexeme.stop, found.evaluate)

    def _call(self, function: Lexeme) -> _Part:
        self.uses.functions.add(function.text)
        if function.text == "abs":
            part = self._expect(self._sum(), "number")
            closing = self._close(function)
            return _Part("number", function.start, closing.stop, lambda source: np.abs(part.evaluate(source)))
        if function.text in SEARCHES:
            return self._search(function)
        choices = CHOICES.get(function.text)
        if choices is None:
            hint = f"The functions are {', '.join(FUNCTIONS[:-1])} and {FUNCTIONS[-1]}."
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

    def _search(self, function: Lexeme) -> _Part:
        """Parse the argument of a function that searches the texts."""
        argument = self.next
        if argument.kind != "text" or not argument.value:
            hint = f'Put it in quotes: {function.text}("python").'
            self._fail("A text to search for is expected here", argument.start, argument.stop, hint)
        needle = Needle(argument.value, SEARCHES[function.text])
        if needle.is_pattern and (problem := problem_of(needle.text)):
            self._fail(f"This pattern is invalid: {problem[0]}", argument.start, argument.stop)
        self.at += 1
        self.uses.needles.append(needle)
        closing = self._close(function)
        return _Part("truth", function.start, closing.stop, lambda source: source.searched(needle))


_FUNCTIONS: Mapping[str, Callable[[Source, str], NDArray[np.bool_]]] = {
    "flag": lambda source, name: source.flagged(name),
    "mark": lambda source, name: source.marked(name),
    "lint": lambda source, name: source.linted(name),
}


def _number(lexeme: Lexeme) -> _Part:
    number = float(lexeme.text)
    return _Part("number", lexeme.start, lexeme.stop, lambda _: number)


def _text(lexeme: Lexeme) -> _Part:
    text = lexeme.value
    return _Part("text", lexeme.start, lexeme.stop, lambda _: text, literal=text)


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
