"""Renders chat templates within the limits of template_limits.py, using transformers' own function.

transformers' jinja2 environment is private. When this program renders, templates are compiled in a copy of that
environment with checks added; renderings by other code are not affected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, lru_cache, wraps
from typing import Any, cast

from jinja2 import Environment, Template, nodes, pass_context
from jinja2.nodes import EvalContext
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from prefscope.scoring.template_limits import check_call, check_operation, is_metered, join, metered, spend, weighed

_COUNTED, _JOINED, _WEIGHED = "prefscope counted", "prefscope joined", "prefscope weighed"
"""Names of filters, which no template can contain."""
_NOT_OFFERED = ("lipsum",)
"""jinja2 functions that write random text of any length."""


@contextmanager
def bounded() -> Iterator[None]:
    """Make `apply_chat_template` render within limits in this block.

    Raises:
        TemplateLimitError: If the template exceeds a limit, or takes too long (`TemplateTimeError`).
    """
    _take_over()
    with metered():
        yield


@cache
def _take_over() -> None:
    """Patch transformers, so that metered renderings use bounded templates."""
    from transformers.utils import chat_template_utils

    compile_theirs = chat_template_utils._compile_jinja_template  # noqa: SLF001 (there is no public function for this)

    @lru_cache(maxsize=64)
    def compile_bounded(chat_template: str) -> Template:
        return _environment(compile_theirs("").environment).from_string(chat_template)

    @wraps(compile_theirs)
    def compile_template(chat_template: str) -> Template:
        template: Template = compile_bounded(chat_template) if is_metered() else compile_theirs(chat_template)
        return template

    theirs: Any = chat_template_utils
    theirs._compile_jinja_template = compile_template  # noqa: SLF001


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """An environment in which templates cannot create values that are too large."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})
    concat = staticmethod(join)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Return the result of an operation, after checking its size."""
        check_operation(operator, left, right)
        return super().call_binop(context, operator, left, right)

    def call(self, context: Context, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call a function, a method or a macro, and check the size of the result."""
        owner = getattr(function, "__self__", None)
        owner = getattr(getattr(function, "__wrapped__", None), "__self__", None) if owner is None else owner
        if isinstance(owner, str | bytes | int | float | list | tuple | dict):
            check_call(function.__name__, owner, (*args, *kwargs.values()))
        spend()
        return weighed(super().call(context, function, *args, **kwargs))

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree: nodes.Template = _Checks().visit(super()._parse(source, name, filename))
        tree.set_environment(self)
        return tree


def _environment(theirs: Environment) -> BoundedEnvironment:
    """Copy an environment and add checks."""
    ours = BoundedEnvironment.__new__(BoundedEnvironment)
    vars(ours).update(vars(theirs))
    ours.filters = {name: _checked(name, function) for name, function in theirs.filters.items()}
    ours.filters |= {_COUNTED: pass_context(_counted), _JOINED: pass_context(_joined), _WEIGHED: pass_context(_weighed)}
    ours.globals = {name: value for name, value in theirs.globals.items() if name not in _NOT_OFFERED}
    ours.finalize = weighed
    return ours


def _checked(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a filter with checks of its size."""

    @wraps(function)
    def check(*args: Any, **kwargs: Any) -> Any:
        passed = 1 if isinstance(args[0], Environment | Context | EvalContext) else 0
        value, *others = args[passed:]
        check_call(name, value, (*others, *kwargs.values()))
        return weighed(function(*args, **kwargs))

    return check


class _Counted:
    """An iterable of a loop that counts each item as a step."""

    def __init__(self, items: Any) -> None:
        self._items = items
        self._left = iter(items)

    def __iter__(self) -> Iterator[Any]:
        for item in self._left:
            spend()
            yield item

    def __len__(self) -> int:
        return len(self._items)


def _counted(_: Context, items: Any) -> _Counted:
    return _Counted(items)


def _joined(_: Context, pieces: list[Any]) -> str:
    return join(str(weighed(piece)) for piece in pieces)


def _weighed(_: Context, value: Any) -> Any:
    return weighed(value)


class _Checks(NodeTransformer):
    """Adds checks to loops, concatenations and literals, which an environment cannot intercept."""

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802 (named by jinja2)
        self.generic_visit(node)
        node.iter = _filtered(cast("nodes.Expr", node.iter), _COUNTED)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _filtered(nodes.List(node.nodes, lineno=node.lineno), _JOINED)

    def visit_List(self, node: nodes.List) -> nodes.Node:  # noqa: N802
        return self._literal(node)

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:  # noqa: N802
        return self._literal(node)

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:  # noqa: N802
        return self.generic_visit(node) if node.ctx != "load" else self._literal(node)

    def _literal(self, node: nodes.Expr) -> nodes.Node:
        self.generic_visit(node)
        variable = next(node.find_all((nodes.Name, nodes.Filter, nodes.Call)), None)
        return node if variable is None else _filtered(node, _WEIGHED)


def _filtered(node: nodes.Expr, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)
