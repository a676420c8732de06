"""A run with phases, a user and a session, a failing call, and feedback on the result.

python examples/03_phases.py && otel-empathy traces
"""

import otel_empathy
from otel_empathy import agent, current_call, current_run, feedback, llm_call, phase, using


@llm_call(provider="openai", model="gpt-4o", tier="premium", stage="draft")
def draft(topic: str) -> str:
    current_call().usage(input=400, output=900, reasoning=300)
    return f"A draft about {topic}"


@llm_call(provider="openai", model="gpt-4o-mini", tier="cheap", stage="check")
def check(text: str) -> bool:
    if "hype" in text:
        raise ValueError("the checker refuses this text")
    current_call().usage(input=950, output=1)
    return True


@agent(name="writer")
def write(topic: str) -> str:
    with phase("thinking"):
        current_run().beat(progress=0.1, task="outline")
    with phase("llm_interaction"):
        text = draft(topic)
    with phase("result_processing"):
        check(text)
    return text


if __name__ == "__main__":
    with otel_empathy.configure(service="examples"):
        # The user's name never leaves the process; spans carry a keyed hash of it.
        with using(user="ada@example.com", session="s-1", workflow="blog"):
            print(write("log files"))
            feedback(rating=5, workflow="blog", comment="clear and short")
        try:
            write("hype")
        except ValueError as error:
            print("failed as it should:", error)
