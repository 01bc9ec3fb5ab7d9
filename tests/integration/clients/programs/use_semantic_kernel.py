"""Semantic Kernel: OpenAIAssistantAgent with a plugin, streamed too, and OpenAIResponsesAgent."""

import asyncio

from semantic_kernel.agents import OpenAIAssistantAgent, OpenAIResponsesAgent
from semantic_kernel.functions import kernel_function


class Weather:
    @kernel_function(description="Return the weather of a city.")
    def weather(self, city: str) -> str:
        return "sunny"


async def main():
    client = OpenAIAssistantAgent.create_client(ai_model_id="m")
    definition = await client.beta.assistants.create(model="m", name="helper", instructions="Help.")
    agent = OpenAIAssistantAgent(client=client, definition=definition, plugins=[Weather()])
    reply = await agent.get_response(messages="weather in Bern?")
    assert str(reply) == "It is sunny.", reply
    pieces = [str(piece) async for piece in agent.invoke_stream(messages="weather in Bern?")]
    assert "".join(pieces) == "It is sunny.", pieces
    await reply.thread.delete()
    agent = OpenAIResponsesAgent(
        ai_model_id="m", client=client, instructions="Help.", name="helper", plugins=[Weather()]
    )
    reply = await agent.get_response(messages="weather in Bern?")
    assert str(reply) == "It is sunny.", reply
    reply = await agent.get_response(messages="Hello", thread=reply.thread)
    assert str(reply) == "You said: Hello", reply


asyncio.run(main())
