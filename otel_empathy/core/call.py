"""One call to a model or the execution of a tool, as the code around it describes it.

A `Call` only collects: it opens no span and knows no metric, `emit.calls` reads it when the call
ends. What user code hands in wrongly is noted in `refused` and never raised, since a call must not
fail because of what is said about it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from otel_empathy.core import semconv
from otel_empathy.core.clock import SYSTEM, Clock
from otel_empathy.core.errors import WrongType, WrongValue
from otel_empathy.core.outcomes import error_type
from otel_empathy.core.said import number_of, shown, text_of, whole_of
from otel_empathy.core.usage import Usage

if TYPE_CHECKING:
    from decimal import Decimal

__all__ = ["NO_CALL", "SOURCES", "TIERS", "Call", "Retried", "tier_name"]

TIERS: Final = ("cheap", "capable", "premium")
SOURCES: Final = ("provider", "injected", "estimated", "none")
_LARGEST: Final = 1 << 63  # what an attribute can hold
_MOST_MONEY: Final = 10**15  # beyond it a double no longer holds cents, and no call costs that
_CURRENCY: Final = 3  # letters of a name by ISO 4217
_MOST_TEXTS: Final = 128  # attributes of a record are no more either
_MOST_VARIABLES: Final = 64  # half of them, the other half is for facts
_NUMBERS: Final = {
    "temperature": semconv.TEMPERATURE,
    "top_p": semconv.TOP_P,
    "frequency_penalty": semconv.FREQUENCY_PENALTY,
    "presence_penalty": semconv.PRESENCE_PENALTY,
}
_WHOLES: Final = {
    "top_k": semconv.TOP_K,
    "max_tokens": semconv.MAX_TOKENS,
    "seed": semconv.SEED,
    "choice_count": semconv.CHOICE_COUNT,
    "server_port": semconv.SERVER_PORT,
}
_TEXTS: Final = {
    "reasoning_level": semconv.REASONING_LEVEL,
    "previous_response_id": semconv.PREVIOUS_RESPONSE_ID,
    "output_type": semconv.OUTPUT_TYPE,
    "server_address": semconv.SERVER_ADDRESS,
    "conversation": semconv.CONVERSATION_ID,
    "task_type": semconv.CALL_TASK_TYPE,
    "data_source": semconv.DATA_SOURCE_ID,
    "agent": semconv.AGENT_NAME,
    "agent_id": semconv.AGENT_ID,
    "tool_call_id": semconv.TOOL_CALL_ID,
}
_LISTS: Final = {
    "stop_sequences": semconv.STOP_SEQUENCES,
    "encoding_formats": semconv.ENCODING_FORMATS,
}
_MARKS: Final = {"compacted": semconv.CONVERSATION_COMPACTED}  # only ever true


def tier_name(value: Any) -> str | None:
    """A tier, checked.

    Raises:
        WrongType: The value is no text.
        WrongValue: There is no such tier.
    """
    if value is None:
        return None
    name = text_of(value)
    if name is None:
        raise WrongType(f"tier {value!r} is no text: use one of {', '.join(TIERS)}")
    if name not in TIERS:
        raise WrongValue(f"unknown tier {name!r}: use one of {', '.join(TIERS)}")
    return name


@dataclass(frozen=True, slots=True)
class Retried:
    """One retry inside a call."""

    time_ns: int
    error_type: str | None
    delay: float | None


class Call:
    """The call that is under way; every method returns the call, so that they can be chained.

    What is not said stays unknown. Outside a call `current_call()` gives one on which all of this
    does nothing.

        current_call().usage(input=412, output=38).response(model="gpt-4o-2024-08-06")

    Args:
        operation: What is asked of the provider.
        provider: Who is asked.
        model: The model that is asked for.
        clock: Where the times of retries come from.
    """

    # Values a call was never told stay class attributes: an instance holds only what is known,
    # which makes opening a call several times cheaper than setting thirty slots.
    operation: str = "chat"
    provider: str | None = None
    model: str | None = None
    clock: Clock = SYSTEM
    closed: bool = False
    tokens: Usage | None = None
    source: str | None = None
    amount: Decimal | None = None
    currency: str = "USD"
    response_model: str | None = None
    response_id: str | None = None
    finish: tuple[str, ...] | None = None
    retries: tuple[Retried, ...] = ()
    parsed_ok: bool | None = None
    validated_ok: bool | None = None
    cache_type: str | None = None
    cache_hit: bool = False
    fallback_from: str | None = None
    prompt_name: str | None = None
    prompt_version: str | None = None
    prompt_format: str | None = None
    service_tier: str | None = None
    requested_tier: str | None = None
    api_type: str | None = None
    system_fingerprint: str | None = None
    attributes: Mapping[str, Any] = {}
    content: Mapping[str, Any] = {}
    shortened: bool = False  # whether content was left out, since there was too much of it
    noted: list[str] | None = None  # what was refused; one list, for it may be said in a loop
    take: Callable[[str, Any], Any] | None = None

    def __init__(
        self,
        operation: str,
        *,
        provider: str | None = None,
        model: str | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        self.operation = operation
        self.provider = provider
        self.model = model
        self.clock = clock

    def __repr__(self) -> str:
        return f"<Call {self.operation} {self.provider}/{self.model}>"

    def usage(
        self,
        *,
        input: int | None = None,  # noqa: A002 - the word everybody uses for it
        output: int | None = None,
        cache_read: int | None = None,
        cache_write: int | None = None,
        cache_write_1h: int | None = None,
        reasoning: int | None = None,
        audio_input: int | None = None,
        audio_output: int | None = None,
        image_input: int | None = None,
        image_output: int | None = None,
        source: str = "provider",
    ) -> Call:
        """Say how many tokens were used; input includes cached ones, output includes reasoning.

        Args:
            input: All input tokens.
            output: All output tokens.
            cache_read: Input tokens from the provider's cache.
            cache_write: Input tokens written to it.
            cache_write_1h: The part of `cache_write` that stays for an hour.
            reasoning: Output tokens spent on reasoning.
            audio_input: Audio part of the input.
            audio_output: Audio part of the output.
            image_input: Image part of the input.
            image_output: Image part of the output.
            source: `provider`, `injected`, `estimated` or `none`.
        """
        return self.counted(
            {
                "input": input,
                "output": output,
                "cache_read": cache_read,
                "cache_write": cache_write,
                "cache_write_1h": cache_write_1h,
                "reasoning": reasoning,
                "audio_input": audio_input,
                "audio_output": audio_output,
                "image_input": image_input,
                "image_output": image_output,
            },
            source=source,
        )

    def counted(self, counts: Mapping[str, Any], *, source: str = "provider") -> Call:
        """Say the same with the names of `Usage` as keys."""
        if self.closed:
            return self
        origin = text_of(source)
        if origin not in SOURCES:
            return self._refuse("usage.source")
        known = {}
        for name, value in counts.items():
            if value is not None and (count := self._whole(f"usage.{name}", value)) is not None:
                known[name] = count
        if known:
            self.tokens = Usage(**known) if self.tokens is None else replace(self.tokens, **known)
            self.source = origin
        elif origin == "none" and self.tokens is None:
            self.source = origin
        return self

    def response(
        self,
        *,
        model: str | None = None,
        id: str | None = None,  # noqa: A002 - the word everybody uses for it
        finish: str | Iterable[str] | None = None,
        service_tier: str | None = None,
        system_fingerprint: str | None = None,
    ) -> Call:
        """Say who answered, under which id, and why the reply ended (one reason per choice).

        Args:
            model: The model that answered.
            id: The provider's id of the reply.
            finish: Why it ended.
            service_tier: The tier that answered, which decides about the price.
            system_fingerprint: The configuration that answered; OpenAI's own.
        """
        if self.closed:
            return self
        self.response_model = self._text("response.model", model) or self.response_model
        self.response_id = self._text("response.id", id) or self.response_id
        self.service_tier = self._text("response.service_tier", service_tier) or self.service_tier
        fingerprint = self._text("response.system_fingerprint", system_fingerprint)
        self.system_fingerprint = fingerprint or self.system_fingerprint
        if finish is not None:
            # A choice without a reason keeps its place, so that the others keep theirs.
            reasons = self._texts("response.finish", finish, instead="error")
            self.finish = reasons or self.finish
        return self

    def request(
        self,
        *,
        model: str | None = None,
        provider: str | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        top_k: int | None = None,
        frequency_penalty: float | None = None,
        presence_penalty: float | None = None,
        max_tokens: int | None = None,
        seed: int | None = None,
        choice_count: int | None = None,
        stop_sequences: str | Iterable[str] | None = None,
        encoding_formats: str | Iterable[str] | None = None,
        reasoning_level: str | None = None,
        previous_response_id: str | None = None,
        output_type: str | None = None,
        server_address: str | None = None,
        server_port: int | None = None,
        conversation: str | None = None,
        data_source: str | None = None,
        task_type: str | None = None,
        compacted: bool | None = None,
        service_tier: str | None = None,
        api_type: str | None = None,
        agent: str | None = None,
        agent_id: str | None = None,
        tool_call_id: str | None = None,
    ) -> Call:
        """Say what was asked for; only what was really sent, never a default.

        Most names are those of the conventions. `compacted` says that the conversation was
        shortened before it was sent, `service_tier` and `api_type` are OpenAI's own, `agent` and
        `agent_id` name the remote agent that is asked, and `tool_call_id` is the id under which a
        model asked for the tool: it belongs inside a tool.
        """
        given = locals()
        if self.closed:
            return self
        self.model = self._text("request.model", model) or self.model
        self.provider = self._text("request.provider", provider) or self.provider
        self.requested_tier = (
            self._text("request.service_tier", service_tier) or self.requested_tier
        )
        self.api_type = self._text("request.api_type", api_type) or self.api_type
        known = dict(self.attributes)
        for table, read in (
            (_NUMBERS, self._number),
            (_WHOLES, self._whole),
            (_TEXTS, self._text),
            (_LISTS, self._texts),
            (_MARKS, self._mark),
        ):
            for name, key in table.items():
                value = given[name]
                if value is not None and (read_value := read(f"request.{name}", value)) is not None:
                    known[key] = read_value
        if known.get(semconv.CHOICE_COUNT) == 1:
            del known[semconv.CHOICE_COUNT]
        if semconv.TOOL_CALL_ID in known and self.operation != semconv.EXECUTE_TOOL:
            del known[semconv.TOOL_CALL_ID]
            self._refuse("request.tool_call_id")
        if self.operation == "retrieval" and semconv.TOP_K in known:
            known[semconv.RETRIEVAL_TOP_K] = known.pop(semconv.TOP_K)
        self.attributes = known
        return self

    def prompt(
        self,
        name: str,
        *,
        version: str | None = None,
        format: str | None = None,  # noqa: A002 - the word everybody uses for it
        variables: Mapping[str, Any] | None = None,
    ) -> Call:
        """Say which named prompt this is; its variables are content and need capture."""
        if self.closed:
            return self
        self.prompt_name = self._text("prompt.name", name) or self.prompt_name
        self.prompt_version = self._text("prompt.version", version) or self.prompt_version
        self.prompt_format = self._text("prompt.format", format) or self.prompt_format
        if variables is not None:
            self._variables(variables)
        return self

    def messages(
        self,
        *,
        input: Any = None,  # noqa: A002 - the word everybody uses for it
        output: Any = None,
        system: Any = None,
        tools: Any = None,
    ) -> Call:
        """Hand over what was said; kept only where content capture is on, and scrubbed then."""
        if self.closed or self.take is None:
            return self
        known = dict(self.content)
        for key, value in (
            (semconv.INPUT_MESSAGES, input),
            (semconv.OUTPUT_MESSAGES, output),
            (semconv.SYSTEM_INSTRUCTIONS, system),
            (semconv.TOOL_DEFINITIONS, tools),
        ):
            if value is not None and (kept := self.take(key, value)) is not None:
                known[key] = kept
        self.content = known
        return self

    def cost(self, amount: Decimal | float | str, currency: str = "USD") -> Call:
        """Say what the provider charges for this call; it wins over the price table."""
        from decimal import Decimal  # noqa: PLC0415 - 5 ms, and rarely needed

        if self.closed:
            return self
        try:
            money = Decimal(str(amount))
        except Exception:  # noqa: BLE001 - no number, or a foreign value that cannot be shown
            return self._refuse("cost.amount")
        if not money.is_finite() or not 0 <= money < _MOST_MONEY:
            return self._refuse("cost.amount")
        name = text_of(currency) or ""
        if len(name) != _CURRENCY or not (name.isascii() and name.isalpha()):
            return self._refuse("cost.currency")
        self.amount, self.currency = money, name.upper()
        return self

    def retry(self, error: BaseException | str | None = None, delay: float | None = None) -> Call:
        """Say that the request is sent again inside this call, and why, and after which wait."""
        if self.closed:
            return self
        wait = None if delay is None else self._number("retry.delay", delay)
        if wait is not None and wait < 0:
            self._refuse("retry.delay")
            wait = None
        kind = None if error is None else self._kind("retry.error", error)
        self.retries = (*self.retries, Retried(self.clock.time_ns(), kind, wait))
        return self

    def parsed(self, ok: bool = True) -> Call:  # noqa: FBT001, FBT002 - reads as a statement
        """Say whether the reply could be parsed."""
        if not self.closed:
            self.parsed_ok = self._truth("parsed", ok)
        return self

    def validated(self, ok: bool = True) -> Call:  # noqa: FBT001, FBT002 - reads as a statement
        """Say whether the reply passed validation."""
        if not self.closed:
            self.validated_ok = self._truth("validated", ok)
        return self

    def cached(self, type: str | None = None) -> Call:  # noqa: A002 - the attribute's own word
        """Say that a local response cache answered: nothing was asked of the provider."""
        if not self.closed:
            self.cache_hit = True
            self.cache_type = self._text("cached.type", type) or self.cache_type
        return self

    def fallback(self, provider: str | None, model: str | None) -> Call:
        """Say that this call answers in the place of another provider's model, asked first."""
        if not self.closed:
            names = (self._text("fallback", provider), self._text("fallback", model))
            self.fallback_from = "/".join(name for name in names if name) or self.fallback_from
        return self

    @property
    def refused(self) -> tuple[str, ...]:
        """What could not be used, one entry for each time."""
        return tuple(self.noted or ())

    def close(self) -> None:
        """Take no more: the call is over."""
        self.closed = True

    def _variables(self, given: Any) -> None:
        if not _is_mapping(given):
            self._refuse("prompt.variables")
            return
        if self.take is None:
            return
        known = dict(self.content)
        room = _MOST_VARIABLES - sum(key.startswith(semconv.PROMPT_VARIABLE) for key in known)
        try:
            for name in given:
                key = f"{semconv.PROMPT_VARIABLE}{name}"
                if key not in known:
                    if room == 0:
                        self.shortened = True
                        break
                    room -= 1
                if (kept := self.take(key, given[name])) is not None:
                    known[key] = kept
        except Exception:  # noqa: BLE001 - see above
            self._refuse("prompt.variables")
        self.content = known

    def _refuse(self, what: str) -> Call:
        if self.noted is None:
            self.noted = []
        self.noted.append(what)
        return self

    # What is handed in may be an object of any kind, whose own methods may fail in any way.

    def _whole(self, what: str, value: Any) -> int | None:
        number = whole_of(value)
        low = -_LARGEST if what == "request.seed" else 0
        if number is None or not low <= number < _LARGEST:
            self._refuse(what)
            return None
        return number

    def _number(self, what: str, value: Any) -> float | None:
        number = number_of(value)
        if number is None or not math.isfinite(number):
            self._refuse(what)
            return None
        return number

    def _text(self, what: str, value: Any) -> str | None:
        if value is None:
            return None
        text = text_of(value)
        if not text:
            self._refuse(what)
            return None
        return text

    def _kind(self, what: str, error: Any) -> str | None:
        text = text_of(error)
        try:
            return error_type(error if text is None else text)
        except Exception:  # noqa: BLE001 - see above
            self._refuse(what)
            return None

    def _texts(
        self, what: str, value: Any, *, instead: str | None = None
    ) -> tuple[str, ...] | None:
        text = text_of(value)
        if text is not None:
            return (text,)
        try:
            items = [instead if item is None else item for item in islice(value, _MOST_TEXTS)]
        except Exception:  # noqa: BLE001 - see above
            self._refuse(what)
            return None
        texts = [shown(item) for item in items if item is not None]
        known = tuple(text for text in texts if text is not None)
        if len(known) < len(texts):
            self._refuse(what)
            return None
        return known

    def _truth(self, what: str, value: Any) -> bool | None:
        try:
            return bool(value)
        except Exception:  # noqa: BLE001 - see above
            self._refuse(what)
            return None

    def _mark(self, what: str, value: Any) -> bool | None:
        return self._truth(what, value) or None


def _is_mapping(value: Any) -> bool:
    try:
        return isinstance(value, Mapping)
    except Exception:  # noqa: BLE001 - even to ask for its class may fail
        return False


NO_CALL: Final = Call("chat")
NO_CALL.close()
