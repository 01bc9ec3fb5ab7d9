"""AutoGen: OpenAIAssistantAgent with a function and file search, and a second turn."""

import asyncio
import pathlib
import tempfile

from autogen_agentchat.messages import TextMessage
from autogen_core import CancellationToken
from autogen_ext.agents.openai import OpenAIAssistantAgent
from openai import AsyncOpenAI


async def weather(city: str) -> str:
    """Return the weather of a city."""
    return "sunny"


async def main():
    token = CancellationToken()
    agent = OpenAIAssistantAgent(
        name="helper", description="Helps.", client=AsyncOpenAI(), model="m", instructions="Help.",
        tools=[weather, "file_search"],
    )  # fmt: skip
    reply = await agent.on_messages([TextMessage(content="weather in Bern?", source="user")], token)
    assert reply.chat_message.content == "It is sunny.", reply
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "notes.md"
        path.write_text("Dahlias bloom in August.")
        await agent.on_upload_for_file_search([str(path)], token)
        reply = await agent.on_messages([TextMessage(content="What do my notes say?", source="user")], token)
    assert "August" in reply.chat_message.content, reply
    await agent.on_reset(token)
    await agent.delete_uploaded_files(token)
    await agent.delete_vector_store(token)
    await agent.delete_assistant(token)


asyncio.run(main())
