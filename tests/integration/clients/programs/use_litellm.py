"""LiteLLM: completion with a function, streamed too, responses, and its assistants."""

import os

import litellm

WEATHER = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
server = {"api_base": os.environ["OPENAI_BASE_URL"], "api_key": "key"}
asked = [{"role": "user", "content": "weather in Bern?"}]
reply = litellm.completion("openai/m", asked, tools=[WEATHER], **server).choices[0].message
(call,) = reply.tool_calls
assert call.function.name == "weather", reply
asked += [reply.model_dump(), {"role": "tool", "tool_call_id": call.id, "content": "sunny"}]
last = litellm.completion("openai/m", asked, tools=[WEATHER], **server).choices[0].message
assert last.content == "It is sunny.", last
pieces = litellm.completion("openai/m", [{"role": "user", "content": "Hello"}], stream=True, **server)
assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == "You said: Hello"
response = litellm.responses("Hello", "openai/m", **server)
assert response.output[0].content[0].text == "You said: Hello", response
assistant = litellm.create_assistants("openai", model="m", **server)
thread = litellm.create_thread("openai", messages=[{"role": "user", "content": "Hello"}], **server)
run = litellm.run_thread("openai", thread.id, assistant.id, **server)
assert run.status == "completed", run
message = litellm.get_messages("openai", thread.id, **server).data[0]
assert message.content[0].text.value == "You said: Hello", message
