"""A streamed reply is one span that ends when the stream does, and knows its first chunk.

python examples/02_stream.py && otel-empathy traces
"""

import asyncio
from collections.abc import AsyncIterator, Iterator

import otel_empathy
from otel_empathy import current_call, llm_call


@llm_call(provider="anthropic", model="claude-sonnet-4-5")
def tell(subject: str) -> Iterator[str]:
    call = current_call()
    for word in f"Once upon a time there was {subject}".split():
        yield word + " "
    # The cached part is told apart and is still a part of the input.
    call.usage(input=1200, output=8, cache_read=1000)
    call.response(finish="end_turn")


@llm_call(provider="openai", model="gpt-4o")
async def tell_async(subject: str) -> AsyncIterator[str]:
    call = current_call()
    for word in f"And they all lived near {subject}".split():
        await asyncio.sleep(0)
        yield word + " "
    call.usage(input=30, output=7)


async def main() -> None:
    print("".join(tell("a queue")))
    async for chunk in tell_async("the broker"):
        print(chunk, end="")
    print()
    abandoned = tell("a story that nobody hears to the end")
    next(abandoned)
    abandoned.close()  # its span says `abandoned`, which is no error


if __name__ == "__main__":
    with otel_empathy.configure(service="examples"):
        asyncio.run(main())
