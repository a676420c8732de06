"""What inner operations hand over to the outer one."""

from __future__ import annotations

from types import SimpleNamespace

from otel_empathy.core.call import Call
from otel_empathy.emit import duplicates


def test_counts_of_somebody_else_are_checked_like_everybodys() -> None:
    call = Call("chat")
    # Shaped like the object of the official package, whose fields anybody may set.
    data = SimpleNamespace(attributes={}, usage_input_tokens=-1, usage_output_tokens=7)
    duplicates.enrich(call, data)
    assert call.tokens is not None
    assert (call.tokens.input, call.tokens.output, call.source) == (None, 7, "provider")
    assert call.refused == ("usage.input",)


def test_what_the_outer_call_was_told_itself_stays() -> None:
    call = Call("chat").usage(input=5, source="injected")
    duplicates.enrich(
        call, SimpleNamespace(attributes={}, usage_input_tokens=9, usage_output_tokens=7)
    )
    assert call.tokens is not None
    assert (call.tokens.input, call.tokens.output, call.source) == (5, 7, "injected")
