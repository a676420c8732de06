"""The same spans to several backends. One that is down gets them when it is back.

With a Collector (`collector-config/local.yaml`) or Jaeger (`collector-config/jaeger.yaml`) running:

OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 python examples/04_fan_out.py
"""

import os

import otel_empathy
from otel_empathy import Console, Otlp, current_call, llm_call


@llm_call(provider="openai", model="gpt-4o-mini")
def ask(number: int) -> int:
    current_call().usage(input=100 + number, output=10)
    return number


if __name__ == "__main__":
    endpoint = os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318")
    # Spans only: a Jaeger takes nothing else.
    backends = [Otlp(endpoint, name="collector", signals=("traces",)), Console(errors_only=True)]
    with otel_empathy.configure(service="examples", backends=backends) as runtime:
        for number in range(10):
            ask(number)
        shipped = otel_empathy.flush(2)
        row = runtime.ledger().backends["collector"]
        print(f"in the log: {row.acked}, at the collector: {row.shipped}, waiting: {row.pending}")
        print("all is shipped" if shipped and not row.pending else "the log keeps what waits")
