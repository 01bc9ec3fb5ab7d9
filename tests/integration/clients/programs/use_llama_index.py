"""llama-index: OpenAIAssistantAgent with a function and with a file, and the model OpenAI."""

from llama_index.agent.openai import OpenAIAssistantAgent
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai import OpenAI


def weather(city: str) -> str:
    """Return the weather of a city."""
    return "sunny"


agent = OpenAIAssistantAgent.from_new(
    name="helper", instructions="Help.", tools=[FunctionTool.from_defaults(fn=weather)], run_retrieve_sleep_time=0.01
)
reply = agent.chat("weather in Bern?")
assert str(reply) == "It is sunny.", reply
assert [each.content for each in agent.chat_history][:1], agent.chat_history
agent.reset()
assert str(agent.chat("Hello")) == "You said: Hello"

model = OpenAI(model="gpt-4o-mini")
assert model.chat([ChatMessage(role="user", content="Hello")]).message.content == "You said: Hello"
assert list(model.stream_chat([ChatMessage(role="user", content="Hello")]))[-1].message.content == "You said: Hello"
