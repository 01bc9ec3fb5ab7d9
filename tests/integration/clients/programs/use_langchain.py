"""LangChain: OpenAIAssistantRunnable with a function, and ChatOpenAI over Responses and Chat Completions."""

from langchain_classic.agents.openai_assistant import OpenAIAssistantRunnable
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI


@tool
def weather(city: str) -> str:
    """Return the weather of a city."""
    return "sunny"


agent = OpenAIAssistantRunnable.create_assistant(
    name="helper", instructions="Help.", tools=[weather], model="m", as_agent=True
)
(action,) = agent.invoke({"content": "weather in Bern?"})
assert (action.tool, action.tool_input) == ("weather", {"city": "Bern"}), action
outputs = [{"tool_call_id": action.tool_call_id, "output": weather.invoke(action.tool_input)}]
finish = agent.invoke({"tool_outputs": outputs, "run_id": action.run_id, "thread_id": action.thread_id})
assert finish.return_values["output"] == "It is sunny.", finish

for use_responses_api in (True, False):
    model = ChatOpenAI(model="m", use_responses_api=use_responses_api).bind_tools([weather])
    asked = [HumanMessage("weather in Bern?")]
    reply = model.invoke(asked)
    (call,) = reply.tool_calls
    assert (call["name"], call["args"]) == ("weather", {"city": "Bern"}), reply
    last = model.invoke([*asked, reply, ToolMessage("sunny", tool_call_id=call["id"])])
    assert last.text == "It is sunny.", last
    pieces = list(ChatOpenAI(model="m", use_responses_api=use_responses_api).stream("Hello"))
    assert "".join(piece.text for piece in pieces) == "You said: Hello", pieces
