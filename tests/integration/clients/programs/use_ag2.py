"""ag2: GPTAssistantAgent with a function, and the plain agent over Chat Completions."""

import os

from autogen import AssistantAgent, UserProxyAgent
from autogen.agentchat.contrib.gpt_assistant_agent import GPTAssistantAgent

config = {"config_list": [{"model": "m", "api_key": "key", "base_url": os.environ["OPENAI_BASE_URL"]}]}
schema = {
    "name": "weather",
    "description": "Return the weather of a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


def weather(city):
    return "sunny"


assistant = GPTAssistantAgent(
    name="helper",
    instructions="Help.",
    llm_config=config,
    assistant_config={"tools": [{"type": "function", "function": schema}]},
)
assistant.register_function(function_map={"weather": weather})
user = UserProxyAgent(name="user", human_input_mode="NEVER", max_consecutive_auto_reply=0, code_execution_config=False)
chat = user.initiate_chat(assistant, message="weather in Bern?", max_turns=1)
assert chat.chat_history[-1]["content"].strip() == "It is sunny.", chat.chat_history
assistant.delete_assistant()

plain = AssistantAgent(name="plain", llm_config=config)
chat = user.initiate_chat(plain, message="Hello", max_turns=1)
assert chat.chat_history[-1]["content"] == "You said: Hello", chat.chat_history
