"""Everything is in files: ask them from Python, without a server and without a network.

python examples/05_read_the_log.py
"""

import otel_empathy
from otel_empathy import current_call, llm_call, open_store, using


@llm_call(provider="openai", model="gpt-4o-mini", tier="cheap")
def ask(question: str) -> str:
    current_call().usage(input=len(question), output=20, cache_read=len(question) // 2)
    return question[::-1]


if __name__ == "__main__":
    with otel_empathy.configure(service="examples") as runtime, using(workflow="reversing"):
        for question in ("what is a log", "who reads it", "what is lost"):
            ask(question)

    store = open_store(runtime.home)
    usage = store.usage(days=1, by="model")
    print(f"{usage.total_calls} calls, {usage.tokens_input} tokens in, {usage.tokens_output} out")
    for summary in store.traces(limit=3, service="examples"):
        print(summary.trace_id[:8], summary.name, f"{summary.duration * 1000:.1f} ms")
    for call in store.recent(limit=3):
        print(call.model, call.cost)
