"""An agent, a tool and a call, each one decorator; what it cost is asked of the log afterwards.

python examples/01_decorate.py && otel-empathy usage
"""

import otel_empathy
from otel_empathy import agent, current_call, llm_call, tool


@llm_call(provider="openai", model="gpt-4o", tier="capable")
def ask(question: str) -> str:
    # Your client is called here. Replies of the usual clients are read by themselves; anything
    # else says what it used.
    current_call().usage(input=len(question.split()) * 400, output=600)
    current_call().response(model="gpt-4o-2024-08-06", finish="stop")
    return f"Probably. You asked: {question}"


@tool
def look_up(word: str) -> str:
    return f"{word}: a word of {len(word)} letters"


@agent(name="oracle")
def answer(question: str) -> str:
    facts = look_up(question.rsplit(maxsplit=1)[-1])
    return ask(f"{question} ({facts})")


if __name__ == "__main__":
    with otel_empathy.configure(service="examples") as runtime:
        print(answer("Is it going to rain"))
    print(otel_empathy.open_store(runtime.home).usage(days=1).total_cost, "USD in the last day")
