"""Every name that the product emits or reads: attributes, spans, metrics, events, baggage.

Writers and readers share this one vocabulary, so that a reader can never look for a field that
nobody writes. Names are spelled here rather than imported from the conventions' packages, whose
`gen_ai` constants lag behind and carry deprecation marks. Nothing here knows how a name is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

SCHEMA_GENAI: Final = "https://opentelemetry.io/schemas/1.41.0"
SCHEMA_SYSTEM: Final = "https://opentelemetry.io/schemas/1.44.0"

# -- scopes ---------------------------------------------------------------------------------------
SCOPE: Final = "otel_empathy"
SCOPE_SDK: Final = "otel_empathy.sdk"

# -- GenAI span attributes ------------------------------------------------------------------------
GENAI_PREFIX: Final = "gen_ai."
OPERATION: Final = "gen_ai.operation.name"
PROVIDER: Final = "gen_ai.provider.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
RESPONSE_MODEL: Final = "gen_ai.response.model"
RESPONSE_ID: Final = "gen_ai.response.id"
FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
REQUEST_STREAM: Final = "gen_ai.request.stream"
TIME_TO_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
TEMPERATURE: Final = "gen_ai.request.temperature"
TOP_P: Final = "gen_ai.request.top_p"
TOP_K: Final = "gen_ai.request.top_k"
FREQUENCY_PENALTY: Final = "gen_ai.request.frequency_penalty"
PRESENCE_PENALTY: Final = "gen_ai.request.presence_penalty"
MAX_TOKENS: Final = "gen_ai.request.max_tokens"
SEED: Final = "gen_ai.request.seed"
CHOICE_COUNT: Final = "gen_ai.request.choice.count"
STOP_SEQUENCES: Final = "gen_ai.request.stop_sequences"
ENCODING_FORMATS: Final = "gen_ai.request.encoding_formats"
REASONING_LEVEL: Final = "gen_ai.request.reasoning.level"
PREVIOUS_RESPONSE_ID: Final = "gen_ai.request.previous_response.id"
OUTPUT_TYPE: Final = "gen_ai.output.type"
USAGE_INPUT: Final = "gen_ai.usage.input_tokens"
USAGE_OUTPUT: Final = "gen_ai.usage.output_tokens"
OLD_PROVIDER: Final = "gen_ai.system"  # older names of three, which other programs still write
OLD_USAGE_INPUT: Final = "gen_ai.usage.prompt_tokens"
OLD_USAGE_OUTPUT: Final = "gen_ai.usage.completion_tokens"
USAGE_CACHE_READ: Final = "gen_ai.usage.cache_read.input_tokens"
USAGE_CACHE_WRITE: Final = "gen_ai.usage.cache_write.input_tokens"
USAGE_CACHE_CREATION: Final = "gen_ai.usage.cache_creation.input_tokens"  # older name, profile both
USAGE_REASONING: Final = "gen_ai.usage.reasoning.output_tokens"
USAGE_AUDIO_INPUT: Final = "gen_ai.usage.audio.input_tokens"
USAGE_AUDIO_OUTPUT: Final = "gen_ai.usage.audio.output_tokens"
USAGE_IMAGE_INPUT: Final = "gen_ai.usage.image.input_tokens"
USAGE_IMAGE_OUTPUT: Final = "gen_ai.usage.image.output_tokens"
USAGE_TEXT_INPUT: Final = "gen_ai.usage.text.input_tokens"
USAGE_TEXT_OUTPUT: Final = "gen_ai.usage.text.output_tokens"
CONVERSATION_ID: Final = "gen_ai.conversation.id"
CONVERSATION_COMPACTED: Final = "gen_ai.conversation.compacted"
PROMPT_NAME: Final = "gen_ai.prompt.name"
PROMPT_VERSION: Final = "gen_ai.prompt.version"
PROMPT_VARIABLE: Final = "gen_ai.prompt.variable."
AGENT_NAME: Final = "gen_ai.agent.name"
AGENT_ID: Final = "gen_ai.agent.id"
AGENT_DESCRIPTION: Final = "gen_ai.agent.description"
WORKFLOW_NAME: Final = "gen_ai.workflow.name"
DATA_SOURCE_ID: Final = "gen_ai.data_source.id"
RETRIEVAL_TOP_K: Final = "gen_ai.retrieval.top_k"
TOOL_NAME: Final = "gen_ai.tool.name"
TOOL_TYPE: Final = "gen_ai.tool.type"
TOOL_DESCRIPTION: Final = "gen_ai.tool.description"
TOOL_CALL_ID: Final = "gen_ai.tool.call.id"
TOOL_ARGUMENTS: Final = "gen_ai.tool.call.arguments"
TOOL_RESULT: Final = "gen_ai.tool.call.result"
TOOL_DEFINITIONS: Final = "gen_ai.tool.definitions"
INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
SYSTEM_INSTRUCTIONS: Final = "gen_ai.system_instructions"
TOKEN_TYPE: Final = "gen_ai.token.type"  # noqa: S105 - the name of an attribute
TOKEN_MODALITY: Final = "gen_ai.token.modality"  # noqa: S105 - the name of an attribute
EVALUATION_NAME: Final = "gen_ai.evaluation.name"
EVALUATION_SCORE: Final = "gen_ai.evaluation.score.value"
EVALUATION_LABEL: Final = "gen_ai.evaluation.score.label"
EVALUATION_EXPLANATION: Final = "gen_ai.evaluation.explanation"

# Attributes that hold what people and models said. They leave the source only when content
# capture allows it, and the pipeline drops them from foreign spans under the same rule.
CONTENT: Final = frozenset(
    {
        TOOL_ARGUMENTS,
        TOOL_RESULT,
        TOOL_DEFINITIONS,
        INPUT_MESSAGES,
        OUTPUT_MESSAGES,
        SYSTEM_INSTRUCTIONS,
    }
)

# OpenAI's own; which tier answered decides about the price.
OPENAI_API_TYPE: Final = "openai.api.type"
OPENAI_REQUEST_TIER: Final = "openai.request.service_tier"
OPENAI_RESPONSE_TIER: Final = "openai.response.service_tier"
OPENAI_FINGERPRINT: Final = "openai.response.system_fingerprint"

# -- stable attributes ----------------------------------------------------------------------------
ERROR_TYPE: Final = "error.type"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
SESSION_ID: Final = "session.id"
USER_HASH: Final = "user.hash"
EXCEPTION_TYPE: Final = "exception.type"
EXCEPTION_MESSAGE: Final = "exception.message"
EXCEPTION_STACKTRACE: Final = "exception.stacktrace"

# -- our additions to GenAI spans -----------------------------------------------------------------
USAGE_SOURCE: Final = "empathy.usage.source"
USAGE_ESTIMATED_INPUT: Final = "empathy.usage.estimated.input_tokens"
USAGE_ESTIMATED_OUTPUT: Final = "empathy.usage.estimated.output_tokens"
COST_AMOUNT: Final = "empathy.cost.amount"
COST_CURRENCY: Final = "empathy.cost.currency"
COST_SOURCE: Final = "empathy.cost.source"
COST_PRICE_VERSION: Final = "empathy.cost.price_version"
COST_PRICE_KEY: Final = "empathy.cost.price_key"
COST_REASON: Final = "empathy.cost.reason"
CALL_TIER: Final = "empathy.call.tier"
CALL_STAGE: Final = "empathy.call.stage"
CALL_TASK_TYPE: Final = "empathy.call.task_type"
CALL_OUTCOME: Final = "empathy.call.outcome"
CALL_RETRIES: Final = "empathy.call.retries"
CALL_FALLBACK_FROM: Final = "empathy.call.fallback_from"
CALL_CACHE_HIT: Final = "empathy.call.cache_hit"
CALL_CACHE_TYPE: Final = "empathy.call.cache_type"
CALL_CHUNKS: Final = "empathy.call.chunks"
CALL_ATTEMPT: Final = "empathy.call.attempt"
CALL_DELAY: Final = "empathy.call.delay"
PROMPT_FORMAT: Final = "empathy.prompt.format"
PROMPT_PARSED: Final = "empathy.prompt.parsed"
PROMPT_VALIDATED: Final = "empathy.prompt.validated"
PROMPT_OUTCOME: Final = "empathy.prompt.outcome"
TRUNCATED: Final = "empathy.sdk.truncated"
# The open proposal's names for money, written instead of ours when `cost_names="gen_ai"`.
GENAI_COST_AMOUNT: Final = "gen_ai.usage.cost.amount"
GENAI_COST_CURRENCY: Final = "gen_ai.usage.cost.currency"
GENAI_COST_SOURCE: Final = "gen_ai.usage.cost.source"

# -- runs and phases ------------------------------------------------------------------------------
RUN_ID: Final = "empathy.run.id"
RUN_PARENT_ID: Final = "empathy.run.parent_id"
RUN_STATE: Final = "empathy.run.state"
RUN_PREVIOUS_STATE: Final = "empathy.run.previous_state"
RUN_REASON: Final = "empathy.run.reason"
RUN_TIMEOUT: Final = "empathy.run.timeout"
RUN_PROGRESS: Final = "empathy.run.progress"
RUN_TASK: Final = "empathy.run.task"
RUN_VIOLATIONS: Final = "empathy.run.violations"
PHASE_NAME: Final = "empathy.phase.name"
PHASE_PREVIOUS_NAME: Final = "empathy.phase.previous_name"
PHASE_PREVIOUS_DURATION: Final = "empathy.phase.previous_duration"
PHASE_VIOLATION: Final = "empathy.phase.violation"
FEEDBACK_SOURCE: Final = "empathy.feedback.source"

# -- resource -------------------------------------------------------------------------------------
SERVICE_NAME: Final = "service.name"
SERVICE_INSTANCE_ID: Final = "service.instance.id"
HOST_ID: Final = "host.id"
HOST_NAME: Final = "host.name"
OS_TYPE: Final = "os.type"
PROCESS_PID: Final = "process.pid"
PROCESS_EXECUTABLE_NAME: Final = "process.executable.name"
PROCESS_RUNTIME_NAME: Final = "process.runtime.name"
PROCESS_RUNTIME_VERSION: Final = "process.runtime.version"
DISTRO_NAME: Final = "telemetry.distro.name"
DISTRO_VERSION: Final = "telemetry.distro.version"
ROLE: Final = "empathy.role"
SEGMENT_ID: Final = "empathy.segment.id"

# -- the fan-out's own attributes -----------------------------------------------------------------
METRIC_OVERFLOW: Final = "otel.metric.overflow"
COMPONENT_TYPE: Final = "otel.component.type"
COMPONENT_NAME: Final = "otel.component.name"
PARENT_ORIGIN: Final = "otel.span.parent.origin"
SAMPLING_RESULT: Final = "otel.span.sampling_result"
BACKEND_NAME: Final = "empathy.backend.name"
BACKEND_STATE: Final = "empathy.backend.state"
BACKEND_PREVIOUS_STATE: Final = "empathy.backend.previous_state"
BACKEND_REASON: Final = "empathy.backend.reason"
LOG_SIGNAL: Final = "empathy.log.signal"
LOG_DURABILITY: Final = "empathy.log.durability"
LOG_REASON: Final = "empathy.log.reason"
SDK_SITE: Final = "empathy.sdk.site"
SDK_LIMIT: Final = "empathy.sdk.limit"
SDK_INSTRUMENT: Final = "empathy.sdk.instrument"
SDK_PATTERN: Final = "empathy.sdk.pattern"

# -- events ---------------------------------------------------------------------------------------
EVENT_DETAILS: Final = "gen_ai.client.inference.operation.details"
EVENT_EXCEPTION: Final = "gen_ai.client.operation.exception"
EVENT_EVALUATION: Final = "gen_ai.evaluation.result"
EVENT_RUN_CHANGED: Final = "empathy.run.changed"
EVENT_RUN_PROGRESSED: Final = "empathy.run.progressed"
EVENT_PHASE_CHANGED: Final = "empathy.phase.changed"
EVENT_CALL_RETRIED: Final = "empathy.call.retried"  # a span event on the call
EVENT_BACKEND_CHANGED: Final = "empathy.backend.changed"

# -- what travels in context and, when asked, in baggage ------------------------------------------
BAGGAGE: Final = (RUN_ID, SESSION_ID, WORKFLOW_NAME, CONVERSATION_ID, AGENT_NAME)

# -- operations -----------------------------------------------------------------------------------
INFERENCE: Final = frozenset({"chat", "generate_content", "text_completion"})
EMBEDDINGS: Final = "embeddings"
EXECUTE_TOOL: Final = "execute_tool"
OPERATIONS: Final = frozenset(
    {
        *INFERENCE,
        EMBEDDINGS,
        "retrieval",
        "fetch_response",
        "create_agent",
        "invoke_agent",
        "invoke_workflow",
        "plan",
        EXECUTE_TOOL,
        "create_memory",
        "update_memory",
        "upsert_memory",
        "search_memory",
        "delete_memory",
        "create_memory_store",
        "delete_memory_store",
    }
)

# -- metrics --------------------------------------------------------------------------------------
Kind = Literal[
    "counter", "updown", "histogram", "gauge",
    "observable_counter", "observable_updown", "observable_gauge",
]  # fmt: skip

SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
TOKENS = (
    1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864,
)  # fmt: skip
AGENT_SECONDS = (
    0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 102.4, 204.8, 409.6,
)  # fmt: skip
WORKFLOW_SECONDS = (1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200)
COUNTS = (1, 2, 4, 8, 16, 32, 64, 128)
LOCAL_SECONDS = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10,
)  # fmt: skip
PHASE_SECONDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
SCORES = (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1)


@dataclass(frozen=True, slots=True)
class Metric:
    """One row of the metrics table: an instrument and the only attributes it may carry."""

    name: str
    kind: Kind
    unit: str
    description: str
    attributes: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    scope: str = SCOPE


_SERVER = (SERVER_ADDRESS, SERVER_PORT)
_CALL = (OPERATION, PROVIDER, REQUEST_MODEL, RESPONSE_MODEL, *_SERVER)
_OPENAI = (OPENAI_API_TYPE, OPENAI_REQUEST_TIER, OPENAI_RESPONSE_TIER)

OPERATION_DURATION = Metric(
    "gen_ai.client.operation.duration", "histogram", "s",
    "Duration of a GenAI client operation.", (*_CALL, *_OPENAI, ERROR_TYPE), SECONDS,
)  # fmt: skip
TOKEN_USAGE = Metric(
    "gen_ai.client.token.usage", "histogram", "{token}",
    "Tokens used by a GenAI client operation, by type.", (*_CALL, *_OPENAI, TOKEN_TYPE), TOKENS,
)  # fmt: skip
TIME_TO_FIRST = Metric(
    "gen_ai.client.operation.time_to_first_chunk", "histogram", "s",
    "Time from the request to the first chunk of a streamed reply.", (*_CALL, *_OPENAI), SECONDS,
)  # fmt: skip
TIME_PER_CHUNK = Metric(
    "gen_ai.client.operation.time_per_output_chunk", "histogram", "s",
    "Time between two chunks of a streamed reply.", (*_CALL, *_OPENAI), SECONDS,
)  # fmt: skip
INFERENCE_DURATION = Metric(
    "gen_ai.client.inference.duration", "histogram", "s",
    "Duration of a GenAI inference.", (*_CALL, *_OPENAI, ERROR_TYPE), SECONDS,
)  # fmt: skip
INFERENCE_TIME_TO_FIRST = Metric(
    "gen_ai.client.inference.time_to_first_chunk", "histogram", "s",
    "Time from the request to the first chunk of a streamed inference.",
    (*_CALL, *_OPENAI), SECONDS,
)  # fmt: skip
INFERENCE_TIME_PER_CHUNK = Metric(
    "gen_ai.client.inference.time_per_output_chunk", "histogram", "s",
    "Time between two chunks of a streamed inference.", (*_CALL, *_OPENAI), SECONDS,
)  # fmt: skip
INFERENCE_INPUT = Metric(
    "gen_ai.client.inference.usage.input_tokens", "counter", "{token}",
    "Input tokens used.", (*_CALL, *_OPENAI, TOKEN_MODALITY),
)  # fmt: skip
INFERENCE_OUTPUT = Metric(
    "gen_ai.client.inference.usage.output_tokens", "counter", "{token}",
    "Output tokens used.", (*_CALL, *_OPENAI, TOKEN_MODALITY),
)  # fmt: skip
INFERENCE_CACHE_READ = Metric(
    "gen_ai.client.inference.usage.cache_read.input_tokens", "counter", "{token}",
    "Input tokens served from the provider's cache.", (*_CALL, *_OPENAI, TOKEN_MODALITY),
)  # fmt: skip
INFERENCE_CACHE_WRITE = Metric(
    "gen_ai.client.inference.usage.cache_write.input_tokens", "counter", "{token}",
    "Input tokens written to the provider's cache.", (*_CALL, *_OPENAI, TOKEN_MODALITY),
)  # fmt: skip
INFERENCE_REASONING = Metric(
    "gen_ai.client.inference.usage.reasoning.output_tokens", "counter", "{token}",
    "Output tokens spent on reasoning.", (*_CALL, *_OPENAI, TOKEN_MODALITY),
)  # fmt: skip
INFERENCE_OPERATION_INPUT = Metric(
    "gen_ai.client.inference.operation.input_tokens", "histogram", "{token}",
    "Input tokens per inference.", (*_CALL, *_OPENAI, ERROR_TYPE), TOKENS,
)  # fmt: skip
INFERENCE_OPERATION_OUTPUT = Metric(
    "gen_ai.client.inference.operation.output_tokens", "histogram", "{token}",
    "Output tokens per inference.", (*_CALL, *_OPENAI, ERROR_TYPE), TOKENS,
)  # fmt: skip
TOOL_DURATION = Metric(
    "gen_ai.execute_tool.duration", "histogram", "s",
    "Duration of a tool execution.", (TOOL_NAME, TOOL_TYPE, AGENT_NAME, ERROR_TYPE), SECONDS,
)  # fmt: skip
AGENT_DURATION = Metric(
    "gen_ai.invoke_agent.duration", "histogram", "s",
    "Duration of an agent run.", (AGENT_NAME, REQUEST_MODEL, ERROR_TYPE), AGENT_SECONDS,
)  # fmt: skip
WORKFLOW_DURATION = Metric(
    "gen_ai.invoke_workflow.duration", "histogram", "s",
    "Duration of a workflow.", (WORKFLOW_NAME, ERROR_TYPE), WORKFLOW_SECONDS,
)  # fmt: skip
AGENT_INFERENCE_CALLS = Metric(
    "gen_ai.invoke_agent.inference_calls", "histogram", "{inference_call}",
    "Inference calls that an agent run made itself.", (AGENT_NAME,), COUNTS,
)  # fmt: skip
AGENT_TOOL_CALLS = Metric(
    "gen_ai.invoke_agent.tool_calls", "histogram", "{tool_call}",
    "Client-side tool executions of an agent run.", (AGENT_NAME,), COUNTS,
)  # fmt: skip
RUN_ACTIVE = Metric(
    "empathy.run.active", "updown", "{run}", "Runs not yet in a terminal state.", (AGENT_NAME,),
)  # fmt: skip
RUN_FINISHED = Metric(
    "empathy.run.finished", "counter", "{run}",
    "Runs that ended, by final state.", (AGENT_NAME, RUN_STATE),
)  # fmt: skip
PHASE_DURATION = Metric(
    "empathy.phase.duration", "histogram", "s",
    "Time spent in the phase being left.", (AGENT_NAME, PHASE_NAME), PHASE_SECONDS,
)  # fmt: skip
CALL_COST = Metric(
    "empathy.call.cost", "counter", "{currency}", "Money spent on calls.",
    (PROVIDER, REQUEST_MODEL, WORKFLOW_NAME, CALL_TIER, COST_CURRENCY, COST_SOURCE),
)  # fmt: skip
GENAI_CALL_COST = Metric(
    "gen_ai.client.operation.cost", "counter", "{currency}", "Money spent on calls.",
    (PROVIDER, REQUEST_MODEL, WORKFLOW_NAME, CALL_TIER, GENAI_COST_CURRENCY, GENAI_COST_SOURCE),
)  # fmt: skip
CALL_RETRIED = Metric(
    "empathy.call.retries", "counter", "{retry}", "Retries inside calls.",
    (PROVIDER, REQUEST_MODEL, ERROR_TYPE),
)  # fmt: skip
CALL_USAGE = Metric(
    "empathy.call.usage", "counter", "{call}", "Calls by origin of their token counts.",
    (PROVIDER, REQUEST_MODEL, USAGE_SOURCE),
)  # fmt: skip
CALL_ABANDONED = Metric(
    "empathy.call.abandoned", "counter", "{call}", "Streams that the caller closed or dropped.",
    (PROVIDER, REQUEST_MODEL),
)  # fmt: skip
CALL_CACHE_HITS = Metric(
    "empathy.call.cache_hits", "counter", "{call}", "Calls answered by a local response cache.",
    (WORKFLOW_NAME, CALL_CACHE_TYPE),
)  # fmt: skip
COST_UNPRICED = Metric(
    "empathy.cost.unpriced", "counter", "{call}", "Calls with no cost.",
    (PROVIDER, REQUEST_MODEL, COST_REASON),
)  # fmt: skip
PROMPT_RESULTS = Metric(
    "empathy.prompt.results", "counter", "{call}", "Outcomes per prompt version.",
    (PROMPT_NAME, PROMPT_VERSION, PROMPT_OUTCOME),
)  # fmt: skip
FEEDBACK_SCORE = Metric(
    "empathy.feedback.score", "histogram", "1", "Feedback scores between 0 and 1.",
    (EVALUATION_NAME, WORKFLOW_NAME, CALL_TIER, FEEDBACK_SOURCE), SCORES,
)  # fmt: skip

# Self-health: the loss ledger under the standard names, read when metrics are collected.
SELF_HEALTH: Final = ("otel.sdk.", "empathy.sdk.", "empathy.log.", "empathy.backend.")
_COMPONENT = (COMPONENT_TYPE, COMPONENT_NAME)
SPANS_STARTED = Metric(
    "otel.sdk.span.started", "observable_counter", "{span}", "Spans that were started.",
    (PARENT_ORIGIN, SAMPLING_RESULT), scope=SCOPE_SDK,
)  # fmt: skip
SPANS_LIVE = Metric(
    "otel.sdk.span.live", "observable_updown", "{span}",
    "Recorded spans that have not ended; 0 when nothing is under way.", (SAMPLING_RESULT,),
    scope=SCOPE_SDK,
)  # fmt: skip
LOGS_CREATED = Metric(
    "otel.sdk.log.created", "observable_counter", "{log_record}", "Log records that were made.",
    scope=SCOPE_SDK,
)  # fmt: skip
SPANS_PROCESSED = Metric(
    "otel.sdk.processor.span.processed", "observable_counter", "{span}",
    "Spans handed to the log; drops carry their reason.", (*_COMPONENT, ERROR_TYPE),
    scope=SCOPE_SDK,
)  # fmt: skip
LOGS_PROCESSED = Metric(
    "otel.sdk.processor.log.processed", "observable_counter", "{log_record}",
    "Log records handed to the log; drops carry their reason.", (*_COMPONENT, ERROR_TYPE),
    scope=SCOPE_SDK,
)  # fmt: skip
SPANS_EXPORTED = Metric(
    "otel.sdk.exporter.span.exported", "observable_counter", "{span}",
    "Spans settled per backend; failures carry their reason.", (*_COMPONENT, ERROR_TYPE),
    scope=SCOPE_SDK,
)  # fmt: skip
LOGS_EXPORTED = Metric(
    "otel.sdk.exporter.log.exported", "observable_counter", "{log_record}",
    "Log records settled per backend; failures carry their reason.", (*_COMPONENT, ERROR_TYPE),
    scope=SCOPE_SDK,
)  # fmt: skip
POINTS_EXPORTED = Metric(
    "otel.sdk.exporter.metric_data_point.exported", "observable_counter", "{data_point}",
    "Data points settled per backend; failures carry their reason.", (*_COMPONENT, ERROR_TYPE),
    scope=SCOPE_SDK,
)  # fmt: skip
SPANS_INFLIGHT = Metric(
    "otel.sdk.exporter.span.inflight", "observable_updown", "{span}",
    "Spans in the batch that is on its way to a backend.", _COMPONENT, scope=SCOPE_SDK,
)  # fmt: skip
LOGS_INFLIGHT = Metric(
    "otel.sdk.exporter.log.inflight", "observable_updown", "{log_record}",
    "Log records in the batch that is on its way to a backend.", _COMPONENT, scope=SCOPE_SDK,
)  # fmt: skip
POINTS_INFLIGHT = Metric(
    "otel.sdk.exporter.metric_data_point.inflight", "observable_updown", "{data_point}",
    "Data points in the batch that is on its way to a backend.", _COMPONENT, scope=SCOPE_SDK,
)  # fmt: skip
LOG_QUEUE_SIZE = Metric(
    "otel.sdk.processor.log.queue.size", "observable_updown", "{log_record}",
    "Log records in memory that are not yet in the log.", _COMPONENT, scope=SCOPE_SDK,
)  # fmt: skip
SPAN_QUEUE_SIZE = Metric(
    "otel.sdk.processor.span.queue.size", "observable_updown", "{span}",
    "Spans in memory that are not yet in the log.", _COMPONENT, scope=SCOPE_SDK,
)  # fmt: skip
LOG_QUEUE_CAPACITY = Metric(
    "otel.sdk.processor.log.queue.capacity", "observable_updown", "{log_record}",
    "Log records of the mean size so far that fit into memory.", _COMPONENT, scope=SCOPE_SDK,
)  # fmt: skip
SPAN_QUEUE_CAPACITY = Metric(
    "otel.sdk.processor.span.queue.capacity", "observable_updown", "{span}",
    "Spans of the mean size so far that fit into memory.", _COMPONENT, scope=SCOPE_SDK,
)  # fmt: skip
EXPORT_DURATION = Metric(
    "otel.sdk.exporter.operation.duration", "histogram", "s",
    "Duration of one export with its retries.", (*_COMPONENT, ERROR_TYPE), LOCAL_SECONDS,
    scope=SCOPE_SDK,
)  # fmt: skip
COLLECTION_DURATION = Metric(
    "otel.sdk.metric_reader.collection.duration", "histogram", "s",
    "Duration of one collection of all metrics.", (*_COMPONENT, ERROR_TYPE), LOCAL_SECONDS,
    scope=SCOPE_SDK,
)  # fmt: skip
BACKEND_BACKLOG = Metric(
    "empathy.backend.backlog", "observable_updown", "{record}",
    "Records in the log that a backend has not taken yet.", (BACKEND_NAME, LOG_SIGNAL),
    scope=SCOPE_SDK,
)  # fmt: skip
BACKEND_LAG = Metric(
    "empathy.backend.lag", "observable_gauge", "s",
    "Age of the oldest record that a backend has not taken yet.", (BACKEND_NAME, LOG_SIGNAL),
    scope=SCOPE_SDK,
)  # fmt: skip
BACKEND_STATES = Metric(
    "empathy.backend.state", "observable_gauge", "1",
    "1 for the current state of a backend.", (BACKEND_NAME, BACKEND_STATE), scope=SCOPE_SDK,
)  # fmt: skip
BACKEND_RETRIES = Metric(
    "empathy.backend.retries", "observable_counter", "{attempt}",
    "Export attempts that were repeated.", (BACKEND_NAME, ERROR_TYPE), scope=SCOPE_SDK,
)  # fmt: skip
LOG_SIZE = Metric(
    "empathy.log.size", "observable_updown", "By", "Size of the log on disk.", (LOG_SIGNAL,),
    scope=SCOPE_SDK,
)  # fmt: skip
LOG_SEGMENTS = Metric(
    "empathy.log.segments", "observable_updown", "{segment}", "Segments of the log on disk.",
    (LOG_SIGNAL,), scope=SCOPE_SDK,
)  # fmt: skip
LOG_WRITE_DURATION = Metric(
    "empathy.log.write.duration", "histogram", "s", "Duration of one append to the log.",
    (LOG_DURABILITY,), LOCAL_SECONDS, scope=SCOPE_SDK,
)  # fmt: skip
LOG_SKIPPED = Metric(
    "empathy.log.skipped", "observable_counter", "{line}",
    "Lines of the log that could not be read while shipping.", (LOG_REASON,), scope=SCOPE_SDK,
)  # fmt: skip
LOG_EVICTED = Metric(
    "empathy.log.evicted", "observable_counter", "{segment}",
    "Segments removed by size or age before every backend had read them.", (LOG_SIGNAL,),
    scope=SCOPE_SDK,
)  # fmt: skip
SDK_ERRORS = Metric(
    "empathy.sdk.errors", "observable_counter", "{error}", "Swallowed errors of our own.",
    (SDK_SITE, ERROR_TYPE), scope=SCOPE_SDK,
)  # fmt: skip
SDK_TRUNCATIONS = Metric(
    "empathy.sdk.truncations", "observable_counter", "{truncation}", "Limits hit by a record.",
    (SDK_LIMIT,), scope=SCOPE_SDK,
)  # fmt: skip
SDK_OVERFLOWS = Metric(
    "empathy.sdk.overflows", "observable_counter", "{value}",
    "Label values folded into one because there were too many.", (SDK_INSTRUMENT,),
    scope=SCOPE_SDK,
)  # fmt: skip
SDK_SCRUBS = Metric(
    "empathy.sdk.scrubs", "observable_counter", "{match}", "Secrets masked, by pattern.",
    (SDK_PATTERN,), scope=SCOPE_SDK,
)  # fmt: skip

METRICS: Final = tuple(row for row in list(globals().values()) if isinstance(row, Metric))
